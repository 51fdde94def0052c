"""The values that stand behind the keys of `common.meta.schema`, packed and unpacked."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

import msgspec

from common.errors import IntegrityError, UsageError
from common.locks import UNLOCKED, Lock
from common.meta.interface import Entry, ObjectState
from common.meta.outbox import Post
from common.quotas import kept_quota
from common.records import (
    KEYS_BUCKET,
    NO_ACL,
    AccessKey,
    Acl,
    BucketSettings,
    Encryption,
    Extent,
    StoredObject,
    Version,
)
from common.versions import Versioning, versioning_of

Ranges = tuple[tuple[int, int], ...]

STATES: Final = {b"w": "writing", b"f": "failed", b"c": "written", b"d": "deleted"}
_NONE: Final = b"-"


class _Rest(msgspec.Struct, frozen=True, array_like=True):
    """What the head of a file value does not say of a version."""

    size: int
    created_ms: int
    objects: tuple[StoredObject, ...]
    headers: dict[str, str]
    replicas: int
    revision: int = 0
    checksums: dict[str, str] = {}
    upload: str = ""
    parts: tuple[tuple[int, int], ...] = ()
    tags: dict[str, str] = {}
    tagged: int = 0
    digests: bytes = b""
    lock: Lock | None = None
    encryption: Encryption | None = None
    acl: Acl = NO_ACL


class _Summary(msgspec.Struct, frozen=True, array_like=True):
    """The first fields of `_Rest`, for listings."""

    size: int
    created_ms: int


class _Access(msgspec.Struct, frozen=True, array_like=True):
    """What an access value says of a key."""

    created_ms: int
    sealed: bytes
    sealed_with: str
    owner: str
    read_only: bool
    buckets: dict[str, str]
    former: bytes = b""
    former_with: str = ""
    former_until_ms: int = 0


_encode_rest: Final = msgspec.msgpack.Encoder().encode
_decode_rest: Final = msgspec.msgpack.Decoder(_Rest).decode
_decode_summary: Final = msgspec.msgpack.Decoder(_Summary).decode
_encode_settings: Final = msgspec.msgpack.Encoder().encode
_decode_settings: Final = msgspec.msgpack.Decoder(tuple[int, dict[str, Any]]).decode
_encode_access: Final = msgspec.msgpack.Encoder().encode
_decode_access: Final = msgspec.msgpack.Decoder(_Access).decode


@lru_cache(maxsize=16_384)
def token(text: str) -> str:
    """An identity that stands in a value between blanks and commas.

    Raises:
        ValueError: it would be taken for two, or for none.
    """
    if not text or text == "-" or any(char in " ,;" or char.isspace() for char in text):
        raise ValueError(f"{text!r} cannot be an identity: blank, comma, semicolon or '-'")
    return text


@lru_cache(maxsize=16_384)
def pack_nodes(nodes: tuple[str, ...]) -> str:
    """Identities of putters, sorted, each once; ``-`` if there are none."""
    return ",".join(sorted({token(node) for node in nodes})) or "-"


def unpack_nodes(text: bytes) -> tuple[str, ...]:
    """The inverse of `pack_nodes`."""
    return () if text == _NONE else tuple(text.decode().split(","))


def pack_ranges(ranges: Ranges) -> str:
    """Ranges of tickets as ``first+count,…``; ``-`` if there are none."""
    return ",".join([f"{first}+{count}" for first, count in ranges]) or "-"


def unpack_ranges(text: bytes) -> Ranges:
    """The inverse of `pack_ranges`."""
    if text == _NONE:
        return ()
    pairs = (pair.split(b"+") for pair in text.split(b","))
    return tuple((int(first), int(count)) for first, count in pairs)


def pack_post(post: Post | None) -> bytes:
    """An event as scripts want it; empty for none."""
    if post is None:
        return b""
    return b"%s %d %s" % (token(post.target).encode(), post.waiting_max, post.body)


def pack_writing(router: str, nodes: tuple[str, ...], ranges: Ranges) -> str:
    """The object value of one that begins to be written."""
    return f"w 0 {token(router)} {pack_nodes(nodes)} {pack_ranges(ranges)}"


def pack_version(version: Version) -> bytes:
    """The file value of a version."""
    ids = ",".join([each.object_id for each in version.objects]) or "-"
    etag = version.etag.encode()
    rest = _encode_rest(
        _Rest(
            version.size,
            version.created_ms,
            version.objects,
            version.headers,
            version.replicas,
            version.revision,
            version.checksums,
            version.upload,
            version.parts,
            version.tags,
            version.tagged,
            version.digests,
            None if version.lock == UNLOCKED else version.lock,
            version.encryption,
            version.acl,
        )
    )
    head = (version.stamp, ids.encode(), len(etag), _pack_lock(version.lock))
    return b"v %d %s %d%s %s%s" % (*head, etag, rest)


def _pack_lock(lock: Lock) -> bytes:
    """What scripts know of a lock; empty if nothing keeps the version."""
    time = f"{lock.mode[0]}{lock.until_ms}" if lock.mode else ""
    word = time + ("H" if lock.hold == "ON" else "")
    return f"/{word}".encode() if word else b""


def unpack_version(bucket: str, key: str, value: bytes) -> Version | None:
    """The version in a file value; None for a tombstone.

    Raises:
        IntegrityError: it is not a file value.
    """
    if value[:1] != b"v":
        return None
    stamp, etag, packed = _head(bucket, key, value)
    try:
        rest = _decode_rest(packed)
    except msgspec.MsgspecError as error:
        raise _damaged(bucket, key) from error
    return Version(
        bucket=bucket,
        key=key,
        stamp=stamp,
        size=rest.size,
        etag=etag,
        created_ms=rest.created_ms,
        objects=rest.objects,
        headers=rest.headers,
        replicas=rest.replicas,
        revision=rest.revision,
        checksums=rest.checksums,
        upload=rest.upload,
        parts=rest.parts,
        tags=rest.tags,
        tagged=rest.tagged,
        digests=rest.digests,
        lock=rest.lock or UNLOCKED,
        encryption=rest.encryption,
        acl=rest.acl,
    )


def unpack_entry(bucket: str, key: str, value: bytes) -> Entry | None:
    """The line of a listing in a file value; None for a tombstone. A delete marker has no etag.

    Raises:
        IntegrityError: it is not a file value.
    """
    if value[:1] != b"v":
        return None
    stamp, etag, packed = _head(bucket, key, value)
    try:
        summary = _decode_summary(packed)
    except msgspec.MsgspecError as error:
        raise _damaged(bucket, key) from error
    return Entry(key, summary.size, etag, stamp, summary.created_ms)


def stamp_in(value: bytes) -> int:
    """The stamp in a file value."""
    return int(value.split(b" ", 2)[1])


def unpack_object(
    bucket: str, object_id: str, value: bytes, version: Version | None
) -> ObjectState:
    """What an object value says.

    Args:
        bucket: its bucket.
        object_id: its ObjectID.
        value: as in Redis.
        version: the version it belongs to, for a written or deleted one.

    Raises:
        IntegrityError: it is not an object value, or its version does not know it.
    """
    try:
        state, number, router, nodes, tail = value.split(b" ", 4)
        if state in (b"w", b"f"):
            return ObjectState(
                bucket=bucket,
                object_id=object_id,
                state=STATES[state],
                tickets=0,
                acked=int(number),
                key="",
                stamp=0,
                router=router.decode(),
                ranges=unpack_ranges(tail),
                nodes=unpack_nodes(nodes),
            )
        key = tail.decode()
        if version is None:
            raise _damaged(bucket, key)
        return stored_state(STATES[state], version, object_id, router.decode(), unpack_nodes(nodes))
    except (ValueError, KeyError) as error:
        raise IntegrityError(
            f"Redis holds something else than object {object_id} of bucket {bucket!r}"
        ) from error


def stored_state(
    state: str, version: Version, object_id: str, router: str, strays: tuple[str, ...]
) -> ObjectState:
    """What is known of a written or deleted object.

    Args:
        state: ``written`` or ``deleted``.
        version: its version.
        object_id: its ObjectID.
        router: who wrote it.
        strays: putters that may hold some of it beside those that its extents name.

    Raises:
        IntegrityError: the version does not know it.
    """
    for stored in version.objects:
        if stored.object_id == object_id:
            return ObjectState(
                bucket=version.bucket,
                object_id=object_id,
                state=state,
                tickets=stored.tickets,
                acked=stored.tickets,
                key=version.key,
                stamp=version.stamp,
                router=router,
                ranges=merge_ranges(stored.extents),
                nodes=tuple(sorted({*named_nodes(stored), *strays})),
            )
    raise _damaged(version.bucket, version.key)


def named_nodes(stored: StoredObject) -> tuple[str, ...]:
    """The putters that an object's extents name."""
    if len(stored.extents) == 1:
        return stored.extents[0].nodes
    return tuple(sorted({node for extent in stored.extents for node in extent.nodes}))


def debtors(stored: StoredObject) -> tuple[str, ...]:
    """The putters that are owed something of an object."""
    if len(stored.extents) == 1:
        return tuple(sorted(stored.extents[0].owed))
    return tuple(sorted({node for extent in stored.extents for node in extent.owed}))


def pack_debts(stored: StoredObject, nodes: tuple[str, ...]) -> str:
    """What these putters lack of an object, as the scripts want it."""
    return f"{stored.size} {pack_nodes(nodes)}" if nodes else ""


def merge_ranges(extents: Iterable[Extent]) -> Ranges:
    """The tickets of extents, neighbours joined."""
    ranges: list[tuple[int, int]] = []
    for extent in extents:
        if ranges and sum(ranges[-1]) == extent.first:
            ranges[-1] = (ranges[-1][0], ranges[-1][1] + extent.count)
        else:
            ranges.append((extent.first, extent.count))
    return tuple(ranges)


def pack_settings(record: BucketSettings) -> bytes:
    """The settings value of a bucket."""
    return b"%d %s" % (record.stamp, _encode_settings((record.created_ms, record.settings)))


def kept_versions(record: BucketSettings) -> Versioning:
    """How a bucket keeps versions; settings that nobody can have made mean that it does not."""
    try:
        return versioning_of(record.settings)
    except UsageError:
        return ""


def pack_kept(record: BucketSettings) -> str:
    """What scripts go by of the settings of a bucket: how it keeps versions, and its quota."""
    quota = kept_quota(record)
    told = f"{quota.quota_bytes or 0} {quota.quota_files or 0}" if quota else ""
    return f"{kept_versions(record)};{told}"


def unpack_settings(bucket: str, value: bytes) -> BucketSettings:
    """The settings in a settings value.

    Raises:
        IntegrityError: it is none.
    """
    stamp, _, packed = value.partition(b" ")
    try:
        created_ms, settings = _decode_settings(packed)
        return BucketSettings(bucket, int(stamp), created_ms, settings)
    except (ValueError, msgspec.MsgspecError) as error:
        raise IntegrityError(
            f"Redis holds something else than the settings of bucket {bucket!r}",
            hint="run `putter rebuild` to restore them from the putters",
        ) from error


def pack_access(record: AccessKey) -> bytes:
    """The access value of a key."""
    rest = _Access(
        record.created_ms,
        record.sealed,
        record.sealed_with,
        record.owner,
        record.read_only,
        record.buckets,
        record.former,
        record.former_with,
        record.former_until_ms,
    )
    return b"%d %s" % (record.stamp, _encode_access(rest))


def unpack_access(access_key_id: str, value: bytes) -> AccessKey:
    """The key in an access value.

    Raises:
        IntegrityError: it is none.
    """
    stamp, _, packed = value.partition(b" ")
    try:
        rest = msgspec.structs.astuple(_decode_access(packed))
        return AccessKey(KEYS_BUCKET, access_key_id, int(stamp), *rest)
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise IntegrityError(
            f"Redis holds something else than the access key {access_key_id!r}",
            hint="run `putter rebuild` to restore it from the putters",
        ) from error


def _head(bucket: str, key: str, value: bytes) -> tuple[int, str, bytes]:
    """Stamp, etag and the packed rest of a version's file value."""
    try:
        _, stamp, _, length, rest = value.split(b" ", 4)
        etag_bytes = int(length.partition(b"/")[0])
        return int(stamp), rest[:etag_bytes].decode(), rest[etag_bytes:]
    except ValueError as error:
        raise _damaged(bucket, key) from error


def _damaged(bucket: str, key: str) -> IntegrityError:
    return IntegrityError(
        f"Redis holds something else than the version of {bucket}/{key}",
        hint="run `putter rebuild` to restore it from the putters",
    )
