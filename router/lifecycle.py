"""Rules of buckets by which what they hold ends by itself, and what is due by them. Pure.

A rule that is enabled says for the names that it is about when what they hold expires, how long
versions stay that are not the latest any more, and how long an upload in parts may be open. Days
are counted from when it began and rounded up to midnight, UTC. Whoever carries rules out looks
again at what he deletes: a listing tells no tags, and what it tells may have changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, Literal, NamedTuple

import msgspec

from common.meta.versions import VersionEntry
from common.records import Version

SETTING: Final = "lifecycle"
"""The setting of a bucket with its rules."""
DAY_MS: Final = 86_400_000


class Rule(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One rule.

    Attributes:
        name: what its author calls it, or was given.
        enabled: whether it counts.
        form: the element that says what it is about.
        prefix: of the names; None: of any, and none was given.
        tags: that a version must have, all of them.
        larger, smaller: its size in bytes must be above or below; None: may be any.
        days: after which the latest version expires; None: never so.
        date_ms: when it does, milliseconds since 1970.
        markers: whether delete markers without versions go; None: not said.
        noncurrent_days: for which a version stays that is not the latest any more.
        newer_kept: how many of these stay longer, the newest of each name.
        abort_days: after which an open upload is given up.
    """

    name: str
    enabled: bool = True
    form: Literal["Prefix", "Filter", "And"] = "Filter"
    prefix: str | None = None
    tags: dict[str, str] = {}
    larger: int | None = None
    smaller: int | None = None
    days: int | None = None
    date_ms: int | None = None
    markers: bool | None = None
    noncurrent_days: int | None = None
    newer_kept: int | None = None
    abort_days: int | None = None

    @property
    def is_about_some(self) -> bool:
        """Whether tags or sizes decide, which neither a delete marker has nor an upload."""
        return bool(self.tags) or self.larger is not None or self.smaller is not None


class What(StrEnum):
    """What expires."""

    OBJECT = "objects"
    """What a name holds now."""
    VERSION = "versions"
    """A version that is not the latest any more, or a delete marker that is not."""
    MARKER = "markers"
    """A delete marker without versions."""


class Due(NamedTuple):
    """Something that is due by what a listing tells, if its tags fit.

    Attributes:
        what: it is.
        entry: its line of the listing.
        since_ms: when the next newer version came; of the latest when it came itself.
        newer: how many versions of its name are newer, the latest and delete markers left out.
    """

    what: What
    entry: VersionEntry
    since_ms: int
    newer: int = 0


class Expiry(NamedTuple):
    """When the latest version of a name expires.

    Attributes:
        at_ms: milliseconds since 1970.
        rule: the name of the rule that says so.
    """

    at_ms: int
    rule: str


class Carry(NamedTuple):
    """What of the pages before counts for the next one.

    Attributes:
        key: the name that the last line was about; "" at the beginning.
        since_ms: when the version of the last line came.
        newer: how many versions of the name were told, the latest and delete markers left out.
        marker: the delete marker that was the only line about the name.
    """

    key: str = ""
    since_ms: int = 0
    newer: int = 0
    marker: VersionEntry | None = None


def kept(rules: Sequence[Rule]) -> Any:
    """Rules as a setting of their bucket."""
    return msgspec.to_builtins(rules)


def rules_of(value: object) -> list[Rule] | None:
    """The rules in a setting of a bucket; None if not all that they say is understood."""
    try:
        return msgspec.convert(value, list[Rule])
    except msgspec.ValidationError:
        return None


def end_ms(since_ms: int, days: int) -> int:
    """When so many days are over: at the next midnight.

    Args:
        since_ms: when they began, milliseconds since 1970.
        days: how many.
    """
    return -(-(since_ms + days * DAY_MS) // DAY_MS) * DAY_MS


def of_versions(rules: Sequence[Rule]) -> list[Rule]:
    """The rules that count, and are about what names hold."""
    return [rule for rule in rules if rule.enabled and _names_actions(rule)]


def of_uploads(rules: Sequence[Rule]) -> list[Rule]:
    """The rules that count, and are about uploads in parts."""
    return [rule for rule in rules if rule.enabled and rule.abort_days is not None]


def of_latest(rules: Sequence[Rule]) -> list[Rule]:
    """The rules that count, and by which what names hold now expires."""
    return [
        rule
        for rule in rules
        if rule.enabled and (rule.days is not None or rule.date_ms is not None)
    ]


def expiry_of(rules: Sequence[Rule], key: str, version: Version) -> Expiry | None:
    """When what a name holds expires, by the rule by which it does first; None if by none.

    Args:
        rules: of the bucket, from `of_latest`.
        key: the name.
        version: what it holds.
    """
    found = [
        Expiry(at_ms, rule.name)
        for rule in rules
        if _is_about_one(rule, key, version.size, version.tags)
        for at_ms in _ends_ms(rule, version.created_ms)
    ]
    return min(found, default=None)


def prefix_of(rules: Sequence[Rule]) -> str:
    """What all names begin with that rules are about; there are some rules."""
    prefixes = sorted(rule.prefix or "" for rule in rules)
    first, last = prefixes[0], prefixes[-1]
    same = 0
    while same < len(first) and first[same : same + 1] == last[same : same + 1]:
        same += 1
    return first[:same]


def decide(
    rules: Sequence[Rule],
    entries: Sequence[VersionEntry],
    carry: Carry,
    now_ms: int,
    *,
    last: bool,
) -> tuple[list[Due], Carry]:
    """What of a page of a listing of versions is due.

    Args:
        rules: of the bucket.
        entries: the page.
        carry: of the page before.
        now_ms: wall clock.
        last: whether no page follows.

    Returns:
        What is due, and what counts for the next page.
    """
    asked: list[Due] = []
    for entry in entries:
        marker = not entry.etag
        if entry.key != carry.key:
            asked += _alone(carry)
            carry = Carry(entry.key, entry.created_ms, 0, entry if marker else None)
            if entry.latest and not marker:
                asked.append(Due(What.OBJECT, entry, entry.created_ms))
            continue
        if not entry.latest:  # else a newer one was deleted since the last page
            asked.append(Due(What.VERSION, entry, carry.since_ms, carry.newer))
        counts = not marker and not entry.latest
        carry = Carry(entry.key, entry.created_ms, carry.newer + counts)
    if last:
        asked += _alone(carry)
        carry = Carry()
    return [each for each in asked if _is_due(rules, each, None, now_ms)], carry


def is_still_due(rules: Sequence[Rule], due: Due, version: Version, now_ms: int) -> bool:
    """Whether what a listing told to be due is, by all that is known of it.

    Args:
        rules: of the bucket.
        due: what the listing told.
        version: the version that it is.
        now_ms: wall clock.
    """
    return _is_due(rules, due, version.tags, now_ms)


def is_upload_due(rules: Sequence[Rule], key: str, begun_ms: int, now_ms: int) -> bool:
    """Whether an upload in parts was open for too long.

    Args:
        rules: of the bucket.
        key: of its object.
        begun_ms: when it began, milliseconds since 1970.
        now_ms: wall clock.
    """
    return any(
        rule.abort_days is not None
        and key.startswith(rule.prefix or "")
        and not rule.is_about_some
        and end_ms(begun_ms, rule.abort_days) <= now_ms
        for rule in of_uploads(rules)
    )


def _names_actions(rule: Rule) -> bool:
    expires = rule.days is not None or rule.date_ms is not None or bool(rule.markers)
    return expires or rule.noncurrent_days is not None


def _alone(carry: Carry) -> list[Due]:
    """The delete marker of a name of which there is nothing else."""
    marker = carry.marker
    if marker is None or not marker.latest:
        return []
    return [Due(What.MARKER, marker, marker.created_ms)]


def _is_due(rules: Sequence[Rule], due: Due, tags: Mapping[str, str] | None, now_ms: int) -> bool:
    return any(
        _is_about(rule, due.entry, tags) and _is_over(rule, due, now_ms)
        for rule in of_versions(rules)
    )


def _is_about(rule: Rule, entry: VersionEntry, tags: Mapping[str, str] | None) -> bool:
    """Whether a rule is about a version; of tags that are not known it is taken to be."""
    if not entry.etag:
        return entry.key.startswith(rule.prefix or "") and not rule.is_about_some
    return _is_about_one(rule, entry.key, entry.size, tags)


def _is_about_one(rule: Rule, key: str, size: int, tags: Mapping[str, str] | None) -> bool:
    """The same of what is no delete marker."""
    return (
        key.startswith(rule.prefix or "")
        and (rule.larger is None or size > rule.larger)
        and (rule.smaller is None or size < rule.smaller)
        and (tags is None or rule.tags.items() <= tags.items())
    )


def _is_over(rule: Rule, due: Due, now_ms: int) -> bool:
    if due.what is What.VERSION:
        if rule.noncurrent_days is None or due.newer < (rule.newer_kept or 0):
            return False
        return end_ms(due.since_ms, rule.noncurrent_days) <= now_ms
    if due.what is What.MARKER and rule.markers:
        return True
    return any(each <= now_ms for each in _ends_ms(rule, due.since_ms))


def _ends_ms(rule: Rule, since_ms: int) -> list[int]:
    """When a rule ends the latest version of a name."""
    ends = [] if rule.days is None else [end_ms(since_ms, rule.days)]
    return ends if rule.date_ms is None else [*ends, rule.date_ms]
