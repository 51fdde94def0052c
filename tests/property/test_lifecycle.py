"""Lifecycle rules against a model that looks at one version, one rule and one day at a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from common.meta.versions import VersionEntry
from common.records import Version
from router.lifecycle import (
    DAY_MS,
    Carry,
    Due,
    Rule,
    What,
    decide,
    end_ms,
    expiry_of,
    is_still_due,
    is_upload_due,
    of_latest,
    of_versions,
    prefix_of,
)

HOUR_MS = 3_600_000
NOW_MS = 20_000 * DAY_MS
TAGS = st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy"), max_size=2)
PREFIXES = st.one_of(st.none(), st.text("ab", max_size=2))
SOME_DAYS = st.one_of(st.none(), st.integers(1, 3))
SIZES = st.one_of(st.none(), st.integers(0, 3))
MOMENTS = st.integers(NOW_MS - 5 * DAY_MS, NOW_MS).map(lambda ms: ms // HOUR_MS * HOUR_MS)
RULES = st.builds(
    Rule,
    name=st.just("one"),
    enabled=st.sampled_from([True, True, False]),
    prefix=PREFIXES,
    tags=TAGS,
    larger=SIZES,
    smaller=SIZES,
    days=SOME_DAYS,
    date_ms=st.one_of(st.none(), st.integers(-1, 1).map(lambda days: NOW_MS + days * DAY_MS)),
    markers=st.sampled_from([None, True, False]),
    noncurrent_days=SOME_DAYS,
    newer_kept=st.one_of(st.none(), st.integers(1, 2)),
    abort_days=SOME_DAYS,
)
VERSIONS = st.lists(
    st.tuples(st.booleans(), st.integers(0, 4), TAGS, MOMENTS), min_size=1, max_size=5
)
BUCKETS = st.dictionaries(st.text("ab", min_size=1, max_size=2), VERSIONS, max_size=4)
Held = list[tuple[bool, int, dict[str, str], int]]


def midnight_after(since_ms: int, days: int) -> int:
    moment = datetime.fromtimestamp(since_ms / 1000, UTC) + timedelta(days=days)
    while moment.time().isoformat() != "00:00:00":
        moment += timedelta(minutes=1)
    return int(moment.timestamp() * 1000)


def about(rule: Rule, key: str, version: tuple[bool, int, dict[str, str], int]) -> bool:
    marker, size, tags, _ = version
    if not rule.enabled or not key.startswith(rule.prefix or ""):
        return False
    if marker:
        return not rule.tags and rule.larger is None and rule.smaller is None
    if any(tags.get(name) != value for name, value in rule.tags.items()):
        return False
    above = rule.larger is None or size > rule.larger
    return above and (rule.smaller is None or size < rule.smaller)


def expected(rules: list[Rule], bucket: dict[str, Held]) -> set[tuple[What, str, int]]:
    """What is due, by its place among the versions of its key, the newest first."""
    found = set()
    for key, held in bucket.items():
        for place, version in enumerate(held):
            for rule in rules:
                if not about(rule, key, version):
                    continue
                came = version[3]
                over = rule.days is not None and midnight_after(came, rule.days) <= NOW_MS
                over = over or (rule.date_ms is not None and rule.date_ms <= NOW_MS)
                if place == 0 and not version[0] and over:
                    found.add((What.OBJECT, key, place))
                if place == 0 and version[0] and len(held) == 1 and (over or rule.markers):
                    found.add((What.MARKER, key, place))
                if place > 0 and rule.noncurrent_days is not None:
                    newer = len([each for each in held[1:place] if not each[0]])
                    if (
                        newer >= (rule.newer_kept or 0)
                        and midnight_after(held[place - 1][3], rule.noncurrent_days) <= NOW_MS
                    ):
                        found.add((What.VERSION, key, place))
    return found


def entries_of(bucket: dict[str, Held]) -> list[VersionEntry]:
    return [
        VersionEntry(
            key=key,
            number=1000 - place,
            null=False,
            latest=place == 0,
            size=0 if marker else size,
            etag="" if marker else "e",
            created_ms=came,
        )
        for key in sorted(bucket)
        for place, (marker, size, _, came) in enumerate(bucket[key])
    ]


def version_of(each: Due, bucket: dict[str, Held]) -> Version:
    entry = each.entry
    _, _, tags, _ = bucket[entry.key][1000 - entry.number]
    return Version("b", entry.key, 1, entry.size, entry.etag, entry.created_ms, (), tags=tags)


@given(st.lists(RULES, max_size=4), BUCKETS, st.integers(1, 4))
def test_what_is_due_is_what_the_model_says(
    rules: list[Rule], bucket: dict[str, Held], page: int
) -> None:
    """However the listing is cut into pages."""
    entries, carry = entries_of(bucket), Carry()
    due: list[Due] = []
    for first in range(0, max(len(entries), 1), page):
        last = first + page >= len(entries)
        some, carry = decide(rules, entries[first : first + page], carry, NOW_MS, last=last)
        due += some
    told = [each for each in due if is_still_due(rules, each, version_of(each, bucket), NOW_MS)]
    found = [(each.what, each.entry.key, 1000 - each.entry.number) for each in told]
    assert len(found) == len(set(found))
    assert set(found) == expected(rules, bucket)


@given(st.lists(RULES, min_size=1, max_size=4), st.text("ab", max_size=3), MOMENTS)
def test_uploads(rules: list[Rule], key: str, begun_ms: int) -> None:
    wanted = any(
        rule.enabled
        and rule.abort_days is not None
        and key.startswith(rule.prefix or "")
        and not (rule.tags or rule.larger is not None or rule.smaller is not None)
        and midnight_after(begun_ms, rule.abort_days) <= NOW_MS
        for rule in rules
    )
    assert is_upload_due(rules, key, begun_ms, NOW_MS) == wanted


@given(st.lists(RULES, min_size=1, max_size=4))
def test_the_prefix_that_is_listed_leaves_nothing_out(rules: list[Rule]) -> None:
    prefix = prefix_of(rules)
    assert all((rule.prefix or "").startswith(prefix) for rule in rules)
    assert all(rule.enabled for rule in of_versions(rules))
    if len({rule.prefix for rule in rules}) == 1:
        assert prefix == (rules[0].prefix or "")


@given(st.integers(0, 2**42), st.integers(1, 10_000))
def test_days_end_at_a_midnight_and_are_whole(since_ms: int, days: int) -> None:
    end = end_ms(since_ms, days)
    assert end % DAY_MS == 0
    assert days * DAY_MS <= end - since_ms < (days + 1) * DAY_MS


@given(st.lists(RULES, max_size=4), st.text("ab", max_size=3), st.integers(0, 4), TAGS, MOMENTS)
def test_the_end_that_is_told_is_the_first_moment_at_which_something_is_due(
    rules: list[Rule], key: str, size: int, tags: dict[str, str], came_ms: int
) -> None:
    version = Version("b", key, 1, size, "e", came_ms, (), tags=tags)
    due = Due(What.OBJECT, VersionEntry(key, 1, False, True, size, "e", came_ms), came_ms)
    expiry = expiry_of(of_latest(rules), key, version)
    if expiry is None:
        assert not is_still_due(rules, due, version, NOW_MS + 100 * DAY_MS)
    else:
        assert is_still_due(rules, due, version, expiry.at_ms)
        assert not is_still_due(rules, due, version, expiry.at_ms - 1)
