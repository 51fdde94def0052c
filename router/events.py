"""What a bucket has told of changes: its rules, and the events that they are about. Pure.

A rule names kinds of events (``s3:ObjectCreated:*``), what keys begin and end with, and one target.
An event is for the first rule that takes it; two rules that could take the same are refused when
they are set. Whoever changes something asks `of_version` or `of_deletion` for the event, and hands
it to the coordinator with the change (`common.meta.outbox`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Protocol

import msgspec

from common.errors import IntegrityError
from common.logs import get_logger
from common.meta.outbox import Post
from common.records import Tombstone, Version
from common.uploads import is_hidden
from common.versions import (
    Versioning,
    has_versions,
    plain_bucket,
    plain_file,
    plain_name,
    read_version_name,
    version_id,
)
from router.origin import Origin, current_origin

_log = get_logger(__name__)

SETTING: Final = "notification"
"""The setting of a bucket with its rules."""
PREFIX: Final = "s3:"
PUT: Final = "ObjectCreated:Put"
POST: Final = "ObjectCreated:Post"
COPY: Final = "ObjectCreated:Copy"
COMPLETE: Final = "ObjectCreated:CompleteMultipartUpload"
DELETE: Final = "ObjectRemoved:Delete"
MARKER: Final = "ObjectRemoved:DeleteMarkerCreated"
EXPIRED: Final = "LifecycleExpiration:Delete"
EXPIRY_MARKER: Final = "LifecycleExpiration:DeleteMarkerCreated"
TAGGED: Final = "ObjectTagging:Put"
UNTAGGED: Final = "ObjectTagging:Delete"
ACL: Final = "ObjectAcl:Put"
TEST: Final = "TestEvent"

NAMES: Final = frozenset(
    {PUT, POST, COPY, COMPLETE, DELETE, MARKER, EXPIRED, EXPIRY_MARKER, TAGGED, UNTAGGED, ACL}
)
"""The events that there are, without ``s3:``."""
KINDS: Final = frozenset(name.split(":")[0] + ":*" for name in NAMES - {ACL})
"""All events of one kind."""


class Rule(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One rule.

    Attributes:
        name: what its author calls it, or was given.
        target: the name of the target.
        arn: how its author named the target.
        events: names or kinds of events, with ``s3:``.
        form: the element that it was set in.
        prefix, suffix: what keys begin and end with; None: not said.
    """

    name: str
    target: str
    arn: str
    events: tuple[str, ...]
    form: Literal["Queue", "Topic"] = "Queue"
    prefix: str | None = None
    suffix: str | None = None

    def takes(self, name: str, key: str) -> bool:
        """Whether it is about an event of a key."""
        return (
            any(_is_about(each, name) for each in self.events)
            and key.startswith(self.prefix or "")
            and key.endswith(self.suffix or "")
        )

    def overlaps(self, other: Rule) -> bool:
        """Whether there can be an event that both take."""
        prefixes = sorted((self.prefix or "", other.prefix or ""), key=len)
        suffixes = sorted((self.suffix or "", other.suffix or ""), key=len)
        return (
            prefixes[1].startswith(prefixes[0])
            and suffixes[1].endswith(suffixes[0])
            and bool(self._names() & other._names())
        )

    def _names(self) -> set[str]:
        return {name for name in NAMES for each in self.events if _is_about(each, name)}


Rules = tuple[Rule, ...]


class Kept(Protocol):
    """How a bucket is kept, as far as it matters here."""

    @property
    def events(self) -> Rules:
        """Its rules."""
        ...

    @property
    def versioning(self) -> Versioning:
        """How it keeps versions."""
        ...


class Event(msgspec.Struct, frozen=True, array_like=True):
    """Something that happened, as it waits for its delivery.

    Attributes:
        name: of `NAMES`, or `TEST`.
        bucket: bucket name.
        key: key.
        at_ms: wall clock, milliseconds since 1970.
        stamp: its place in the total order of changes.
        size: bytes of what the name holds now; 0 where there is nothing.
        etag: entity tag of that; "" where there is nothing.
        version: ID of the version; "": its bucket keeps none.
        principal: who is behind it; "": nobody is known.
        address: where the request came from.
        request: the request's id.
        rule: name of the rule.
    """

    name: str
    bucket: str
    key: str
    at_ms: int
    stamp: int
    size: int = 0
    etag: str = ""
    version: str = ""
    principal: str = ""
    address: str = ""
    request: str = ""
    rule: str = ""


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Event).decode


def kept(rules: Sequence[Rule]) -> Any:
    """Rules as a setting of their bucket."""
    return msgspec.to_builtins(rules)


def rules_of(bucket: str, settings: Mapping[str, Any]) -> Rules:
    """The rules among the settings of a bucket; none if they are not understood."""
    try:
        return msgspec.convert(settings.get(SETTING, ()), Rules)
    except msgspec.ValidationError as error:
        _log.error("nobody is told of a bucket's changes", bucket=bucket, why=str(error))
        return ()


def of_version(
    policy: Kept, name: str, version: Version, by: Origin | None = None, stamp: int = 0
) -> Post | None:
    """The event of a version that is written, marked, or tagged anew.

    Args:
        policy: of its bucket.
        name: of the event; for a delete marker its own counts.
        version: what becomes visible.
        by: who is behind it; None: whom this task works for.
        stamp: of the change; 0: the version's.
    """
    if not policy.events or is_hidden(plain_bucket(version.bucket)):
        return None
    by = current_origin() if by is None else by
    if version.is_marker:
        name = EXPIRY_MARKER if by.expiry else MARKER
    bucket, key = plain_name(version)
    return _post(
        policy.events,
        Event(
            name,
            bucket,
            key,
            version.created_ms,
            stamp or version.stamp,
            version.size,
            version.etag,
            version_id(version) or _null(policy),
            by.principal,
            by.address,
            by.request,
        ),
    )


def of_deletion(policy: Kept, tombstone: Tombstone) -> Post | None:
    """The event of a name that holds nothing, or of a version that is gone for good.

    Args:
        policy: of its bucket.
        tombstone: the record.
    """
    if not policy.events or is_hidden(plain_bucket(tombstone.bucket)):
        return None
    bucket, key = plain_file(tombstone.bucket, tombstone.key)
    by, gone = current_origin(), _null(policy)
    if has_versions(tombstone.bucket):
        from common.tickets import format_id  # as in common.versions

        gone = format_id(read_version_name(tombstone.key)[1])
    return _post(
        policy.events,
        Event(
            EXPIRED if by.expiry else DELETE,
            bucket,
            key,
            tombstone.created_ms,
            tombstone.stamp,
            version=gone,
            principal=by.principal,
            address=by.address,
            request=by.request,
        ),
    )


def of_test(rule: Rule, bucket: str, now_ms: int, request: str) -> Post:
    """The event that tells the target of a new rule that there is one."""
    return Post(rule.target, _encode(Event(TEST, bucket, "", now_ms, 0, request=request)))


def read_event(body: bytes) -> Event:
    """The event in what waited.

    Raises:
        IntegrityError: it is none.
    """
    try:
        return _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise IntegrityError(f"what waits in an outbox is no event: {error}") from error


def _is_about(pattern: str, name: str) -> bool:
    wanted = pattern.removeprefix(PREFIX)
    if wanted.endswith("*"):
        return name.startswith(wanted[:-1])
    return name == wanted


def _null(policy: Kept) -> str:
    """The ID of a null version, where versions have IDs."""
    return "null" if policy.versioning else ""


def _post(rules: Rules, event: Event) -> Post | None:
    for rule in rules:
        if rule.takes(event.name, event.key):
            return Post(rule.target, _encode(msgspec.structs.replace(event, rule=rule.name)))
    return None
