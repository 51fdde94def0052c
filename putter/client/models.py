"""What the web door tells about files, tickets and the cluster, as typed structs.

Unknown fields are skipped, so that an older client understands a newer router.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

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


class RedisStatus(msgspec.Struct, frozen=True):
    """The coordinator as a router sees it."""

    ok: bool
    address: str = ""


class ScrubPass(msgspec.Struct, frozen=True):
    """A verification of a putter's whole disk that came to its end.

    Attributes:
        number: passes of a putter are numbered.
        started_ms: wall clock, milliseconds since 1970.
        ended_ms: the same.
        verified_bytes: that were read.
        findings: damages that were found.
        mended: of them, what was made again at once: indexes, the state, data-key files.
    """

    number: int
    started_ms: int
    ended_ms: int
    verified_bytes: int
    findings: int
    mended: int = 0


class ScrubFlaw(msgspec.Struct, frozen=True):
    """Something that is damaged on a putter.

    Attributes:
        part: ``tickets``, ``header``, ``record``, ``removal``, ``index``, ``segment``,
            ``state`` or ``keys``.
        first: TicketID of the first ticket, where it is about tickets.
        last: of the last one.
        count: how many tickets.
        record: number of the commit record, where it is about one.
        raw: whether they are raw tickets.
        object: ObjectID; None if it is not known.
        file: ``bucket/key``; None if Redis knows none.
        place: file in the putter's data directory, and where in it.
        reason: what is wrong.
    """

    part: str
    first: str | None = None
    last: str | None = None
    count: int = 0
    record: int | None = None
    raw: bool = False
    object: str | None = None
    file: str | None = None
    place: str = ""
    reason: str = ""


class ScrubState(msgspec.Struct, frozen=True):
    """The verification of a putter's disk.

    Attributes:
        number: of the pass under way, or else of the newest.
        running: whether one is under way.
        demanded: whether somebody asked for it.
        started_ms: when it began, milliseconds since 1970.
        verified_bytes: so far.
        total_bytes: about how many there are; None if nobody knows.
        findings: damages so far.
        last: the last pass that came to its end.
        damaged_tickets: tickets that are marked as damaged now.
        damaged_others: other things that are.
        flaws: what is damaged, at most 1000; only from `Store.scrub`.
    """

    number: int = 0
    running: bool = False
    demanded: bool = False
    started_ms: int = 0
    verified_bytes: int = 0
    total_bytes: int | None = None
    findings: int = 0
    last: ScrubPass | None = None
    damaged_tickets: int = 0
    damaged_others: int = 0
    flaws: tuple[ScrubFlaw, ...] = ()

    @property
    def damaged(self) -> bool:
        """Whether anything is."""
        return self.damaged_tickets + self.damaged_others > 0


class NodeScrub(msgspec.Struct, frozen=True):
    """A putter and its scrub; ``scrub`` is None, with a reason, if it could not be asked."""

    node: str
    address: str = ""
    reason: str = ""
    scrub: ScrubState | None = None


class Scrubs(msgspec.Struct, frozen=True):
    """The scrubs of all putters that were asked."""

    nodes: tuple[NodeScrub, ...] = ()


class NodeStatus(msgspec.Struct, frozen=True):
    """A putter as a router sees it.

    Attributes:
        node: identity.
        address: ``host:port`` of its frame port.
        state: ``joining``, ``live``, ``suspect``, ``down``, ``draining`` or ``gone``.
        age_ms: time since its last sign of life.
        storage: engine.
        capacity_bytes: size of its disk.
        free_bytes: free space of its disk.
        link: ``up`` or ``down``.
        reason: why the link is down.
        version: of its software.
        inflight_bytes: bytes sent and not yet acknowledged.
        scrub: the verification of its disk; None if it did not tell.
        packing: how it stores what it writes, the bytes are those since its start; None if it gave
            no sign of life.
    """

    node: str
    address: str = ""
    state: str = ""
    age_ms: int | None = None
    storage: str = ""
    capacity_bytes: int = 0
    free_bytes: int = 0
    link: str = "down"
    reason: str = ""
    version: str = ""
    inflight_bytes: int = 0
    scrub: ScrubState | None = None
    packing: Stored | None = None


class Stuck(msgspec.Struct, frozen=True):
    """An object that could not be given to a putter."""

    object: str
    reason: str


class Refill(msgspec.Struct, frozen=True):
    """What a putter should hold and does not.

    Attributes:
        node: the putter; ``*`` for one that is not chosen yet.
        objects: how many objects it lacks something of.
        bytes: of these objects.
        bytes_per_s: how fast this router has given it something lately.
        eta_s: seconds until it has everything, if it goes on like this; None: unknown.
        stuck: some that could not be given to it.
    """

    node: str
    objects: int
    bytes: int
    bytes_per_s: int = 0
    eta_s: int | None = None
    stuck: tuple[Stuck, ...] = ()


class Incurable(msgspec.Struct, frozen=True):
    """Tickets of a putter that could not be healed."""

    node: str
    object: str
    first: str
    count: int
    reason: str


class Drain(msgspec.Struct, frozen=True):
    """How far a putter is emptied.

    Attributes:
        node: the putter.
        decision: ``draining`` or ``gone``; "" for one that was away for too long.
        names_left: how many names still need it; None: nobody has looked yet.
        moving_objects, moving_bytes: what is on its way to others, from all that are emptied.
        eta_s: seconds until that is done, if it goes on like this; None: unknown.
        done: whether it is not needed any more.
    """

    node: str
    decision: str
    names_left: int | None = None
    moving_objects: int = 0
    moving_bytes: int = 0
    eta_s: int | None = None
    done: bool = False


class Drains(msgspec.Struct, frozen=True):
    """All putters that are emptied."""

    nodes: tuple[Drain, ...] = ()


class StoreStatus(msgspec.Struct, frozen=True):
    """The cluster as one router sees it.

    Attributes:
        version: of the router's code.
        router: identity of the router that answered.
        redis: the coordinator.
        nodes: the putters.
        routers: all routers.
        objects: count of objects by state.
        numbers: ``tickets_used`` and ``tickets_max``.
        repair: what putters are owed.
        incurable: what this router could not heal lately.
    """

    version: str
    router: Any = None
    redis: RedisStatus = RedisStatus(ok=False)
    nodes: tuple[NodeStatus, ...] = ()
    routers: tuple[Any, ...] = ()
    objects: dict[str, int] = {}
    numbers: dict[str, int] = {}
    repair: tuple[Refill, ...] = ()
    incurable: tuple[Incurable, ...] = ()


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
