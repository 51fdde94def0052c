"""What the web door tells about files, tickets and the cluster, as typed structs.

Unknown fields are skipped, so that an older client understands a newer router.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime

import msgspec

from common.errors import ProtocolError

DEFAULT_CONTENT_TYPE = "application/octet-stream"


class ExtentInfo(msgspec.Struct, frozen=True):
    """Consecutive tickets on the same putters.

    Attributes:
        first: TicketID of the first ticket.
        last: TicketID of the last one.
        count: how many tickets.
        size: data bytes in them.
        nodes: identities of the putters that hold them.
    """

    first: str
    last: str
    count: int
    size: int
    nodes: tuple[str, ...] = ()


class ObjectInfo(msgspec.Struct, frozen=True):
    """One object of a file.

    Attributes:
        object: ObjectID.
        size: data bytes.
        frame_bytes: data bytes of every ticket but the last.
        blake3: 64 hex digits over all bytes of the object.
        tickets: how many tickets.
        extents: where the bytes are, in their order.
    """

    object: str
    size: int
    frame_bytes: int
    blake3: str
    tickets: int
    extents: tuple[ExtentInfo, ...] = ()


class FileInfo(msgspec.Struct, frozen=True):
    """One version of a file.

    Attributes:
        bucket: bucket name.
        key: key.
        size: bytes.
        etag: entity tag without quotes.
        blake3: 64 hex digits over all bytes; None if the store does not know one.
        object: ObjectID of the first object; None for a file without a byte.
        version: the version's ID, base 36.
        stamp: its place in the order of changes; 0 if it was not told.
        content_type: media type.
        created_ms: wall clock, milliseconds since 1970; 0 if it was not told.
        nodes_written: putters that held every byte when the write was answered.
        replicas_wanted: putters that should.
        degraded: whether fewer than wanted did.
        objects: the bytes' places; only from `Store.stat`.
    """

    bucket: str
    key: str
    size: int
    etag: str
    version: str
    blake3: str | None = None
    object: str | None = None
    stamp: int = 0
    content_type: str = DEFAULT_CONTENT_TYPE
    created_ms: int = 0
    nodes_written: int = 0
    replicas_wanted: int = 0
    degraded: bool = False
    objects: tuple[ObjectInfo, ...] = ()

    @property
    def name(self) -> str:
        """``bucket/key``."""
        return f"{self.bucket}/{self.key}"


class Entry(msgspec.Struct, frozen=True):
    """One line of a listing.

    Attributes:
        key: key within the bucket.
        size: bytes.
        etag: entity tag without quotes.
        created_ms: wall clock, milliseconds since 1970.
        version: the version's ID.
    """

    key: str
    size: int
    etag: str = ""
    created_ms: int = 0
    version: str = ""


class Page(msgspec.Struct, frozen=True):
    """One page of a listing; ``next_after`` asks for the next one, None means it was the last."""

    entries: tuple[Entry, ...] = ()
    next_after: str | None = None


class Buckets(msgspec.Struct, frozen=True):
    """The buckets of a store."""

    buckets: tuple[str, ...] = ()


class Stored(msgspec.Struct, frozen=True):
    """How a putter stores something.

    Attributes:
        compression: ``zstd``, or "".
        encryption: ``aes-256-gcm``, or "".
        plain_bytes: of its frames; 0 if the putter does not tell.
        stored_bytes: what they take on the disk.
    """

    compression: str = ""
    encryption: str = ""
    plain_bytes: int = 0
    stored_bytes: int = 0


class TicketInfo(msgspec.Struct, frozen=True):
    """One ticket.

    Attributes:
        ticket: TicketID.
        object: ObjectID it belongs to.
        bucket: bucket of its file; None while the object has no name.
        key: key of its file; None while the object has no name.
        version: version of its file; None while the object has no name.
        state: ``writing``, ``written``, ``deleted`` or ``failed``.
        size: data bytes.
        checksum: the 8 checksum bytes as hex digits; None if no putter told it.
        nodes: identities of the putters that hold it.
        offset: place of its first byte within the object.
        damaged: identities of the putters on which it is known to be damaged.
        stored: how each of the putters stores the run that it lies in.
    """

    ticket: str
    object: str
    state: str
    bucket: str | None = None
    key: str | None = None
    version: str | None = None
    size: int = 0
    checksum: str | None = None
    nodes: tuple[str, ...] = ()
    offset: int = 0
    damaged: tuple[str, ...] = ()
    stored: dict[str, Stored] = msgspec.field(default_factory=dict)


def info_from_headers(bucket: str, key: str, headers: Mapping[str, str]) -> FileInfo:
    """What the headers of a ``GET`` or ``HEAD`` tell about a file.

    Args:
        bucket: the bucket that was asked for.
        key: the key that was asked for.
        headers: header names in lower case.

    Raises:
        ProtocolError: a length or date that is none.
    """
    modified = headers.get("last-modified")
    try:
        created_ms = int(parsedate_to_datetime(modified).timestamp() * 1000) if modified else 0
        size = total_size(headers)
    except ValueError as error:
        raise ProtocolError(f"the headers of {bucket}/{key} make no sense: {error}") from error
    return FileInfo(
        bucket=bucket,
        key=key,
        size=size,
        etag=headers.get("etag", "").removeprefix("W/").strip('"'),
        version=headers.get("x-putter-version", ""),
        blake3=headers.get("x-putter-blake3"),
        object=headers.get("x-putter-object"),
        content_type=headers.get("content-type", DEFAULT_CONTENT_TYPE),
        created_ms=created_ms,
    )


def total_size(headers: Mapping[str, str]) -> int:
    """The size of the whole file: the end of ``Content-Range``, or else ``Content-Length``.

    Raises:
        ValueError: neither is a number.
    """
    content_range = headers.get("content-range")
    if content_range is not None:
        return int(content_range.rpartition("/")[2])
    return int(headers.get("content-length", ""))
