"""Replicas made what a commit record says they are: verified by the run, copied where missing.

A record may be durable before the bytes it names are: when its router dies in between, some named
putter may lack tickets, or hold bad ones. Every named replica is read, about a run at a time, each
frame is verified, and what one of them lacks is sent to it from those that have it, the way a write
goes: same tickets, same object, done when it is acknowledged as durable. Bad frames are removed
first, because a putter takes a ticket only once.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Collection
from typing import Final
from weakref import WeakValueDictionary

import msgspec

from common import records
from common.checksum import ObjectHash
from common.errors import IntegrityError, NodesUnavailable, PutterError
from common.keys import Keyring
from common.limits import RUN_BYTES_TARGET
from common.logs import get_logger
from common.records import Extent, StoredObject, Version
from common.requests import current_request
from common.wire import frames
from common.wire.session import Data, Done, Free, Read
from common.wire.status import Status
from router.copies import Copy, stretches
from router.debts import lost
from router.fleet import Fleet
from router.links import NodeLink
from router.parcels import Parcel, RecordParcel, RunParcel
from router.quorum import Policy
from router.ranges import Slice, slices

_log = get_logger(__name__)
_CALL_MS: Final = 15_000
_ALONE: Final = Policy(1, 1)


async def _at_once() -> None:
    """Between two slices of a replica: nothing to wait for."""


class Replicas:
    """Completes what routers that died left incomplete.

    Args:
        fleet: the putters.
        keyring: any of its keys verifies, the first writes.
    """

    def __init__(self, fleet: Fleet, keyring: Keyring) -> None:
        self._fleet = fleet
        self._keyring = keyring
        self._carrier = Straight(fleet)
        self._at_work: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def is_up(self, node: str) -> bool:
        """Whether the node can be asked now."""
        link = self._fleet.link(node)
        return link is not None and link.up

    async def complete(
        self, version: Version, between: Callable[[], Awaitable[None]] = _at_once
    ) -> tuple[StoredObject, ...]:
        """Verify every replica that can be reached, and give each what it lacks.

        Memory does not grow with the version: one slice of each replica at a time.

        Args:
            version: what the record says.
            between: awaited before each slice; what it raises ends the work.

        Returns:
            The objects, their extents naming only the nodes that provably hold all of them, and
            owing it to the others; equal to the version's if everything it says is true now.

        Raises:
            IntegrityError: some bytes are right on no replica, although all of them answered.
            NodesUnavailable: too few can be reached to tell.
        """
        for stored in version.objects:
            for extent in stored.extents:
                if not any(map(self.is_up, extent.nodes)):
                    raise _out_of_reach(stored, extent.nodes)
        return tuple([await self._in_turn(stored, between) for stored in version.objects])

    async def mend(self, stored: StoredObject, part: Slice, node: str) -> bool:
        """Compare what all putters of a slice hold, and give each what it lacks.

        Args:
            stored: the object.
            part: of one extent.
            node: one more putter, which shall hold it too.

        Returns:
            Whether that one holds all of it now.

        Raises:
            IntegrityError: some of the bytes are right on no putter.
            NodesUnavailable: too few can be reached to tell.
        """
        nodes = tuple(sorted({*part.nodes, node}))
        extent = Extent(part.first, part.count, part.size, nodes)
        lock = self._at_work.setdefault(stored.object_id, asyncio.Lock())
        async with lock:
            copying = _Copying(self, stored, extent)
            await copying.complete(dataclasses.replace(part, nodes=nodes))
        return node not in copying.lacking

    async def keep_record(self, version: Version, nodes: Collection[str]) -> list[str]:
        """Make a version's record durable on each of these nodes.

        Returns:
            Those that took it.
        """
        stamp = records.kept_under(version)
        body = records.encode(version)
        object_id = version.objects[0].object_id
        parcels = {
            node: RecordParcel(object_id, stamp, body, (node,), _ALONE, self._carrier)
            for node in nodes
        }
        kept = []
        for parcel in parcels.values():
            parcel.dispatch()
        for node, parcel in parcels.items():
            try:
                await until_durable([parcel])
            except PutterError as error:
                _log.warning("a putter did not take a commit record", node=node, reason=str(error))
            else:
                kept.append(node)
        return kept

    # -- inside ----------------------------------------------------------------------------

    async def _in_turn(
        self, stored: StoredObject, between: Callable[[], Awaitable[None]]
    ) -> StoredObject:
        """One at a time for each object: a link carries a ticket for one sender only."""
        lock = self._at_work.setdefault(stored.object_id, asyncio.Lock())
        async with lock:
            return await self._complete(stored, between)

    async def _complete(
        self, stored: StoredObject, between: Callable[[], Awaitable[None]]
    ) -> StoredObject:
        hasher = ObjectHash()
        extents: list[Extent] = []
        position = 0
        for extent in stored.extents:
            copying = _Copying(self, stored, extent)
            for part in slices(stored, position, position + extent.size, RUN_BYTES_TARGET):
                await between()
                hasher.update(await copying.complete(part))
            position += extent.size
            extents.append(lost(extent, copying.lacking, lambda node: node))
        if hasher.digest() != stored.blake3:
            raise IntegrityError(
                f"object {stored.object_id}: the bytes do not have its BLAKE3",
                hint="every frame is valid, so its commit record is wrong",
            )
        return msgspec.structs.replace(stored, extents=tuple(extents))

    async def read(self, node: str, stored: StoredObject, part: Slice) -> Copy:
        """What a node holds of a slice.

        Raises:
            PutterError: that cannot be told.
        """
        link = self._link(node)
        copy = Copy(part, stored.frame_bytes)
        at, end = part.first, part.first + part.count
        while at < end:
            first = at
            answers = await link.call(
                lambda request: Read(  # called at once
                    request,
                    first,  # noqa: B023
                    end - first,  # noqa: B023
                    request_id=current_request(),
                ),
                timeout_ms=_CALL_MS,
            )
            damaged = False
            for answer in answers:
                header = answer[0]
                if isinstance(header, Data) and header.status == Status.CHECKSUM_MISMATCH:
                    damaged = True  # the node knows; behind that ticket it may be right again
                    break
                at = max(at, copy.take(answer, self._keyring))
            if not damaged:
                break
            at += 1
        return copy

    async def fill(self, node: str, stored: StoredObject, copy: Copy, data: bytearray) -> None:
        """Send a node what its copy of a slice lacks; durable when this returns.

        Args:
            node: whom.
            stored: the object.
            copy: what it holds.
            data: all of the slice, verified.

        Raises:
            PutterError: it does not take them, or not in time.
        """
        part = copy.part
        if copy.bad.any():
            ranges = tuple((part.first + at, count) for at, count in stretches(copy.bad))
            await free(self._link(node), ranges)
        key = self._keyring.writing.checksum
        runs = []
        for at, count in stretches(~copy.good):
            wanted = memoryview(data)[copy.bytes_of(at, count)]
            out = memoryview(bytearray(frames.wire_bytes(len(wanted), stored.frame_bytes)))
            frames.build(out, wanted, part.first + at, stored.frame_bytes, key)
            runs.append(
                RunParcel(
                    stored.object_id,
                    part.first + at,
                    count,
                    len(wanted),
                    out,
                    (node,),
                    _ALONE,
                    self._carrier,
                    frame_bytes=stored.frame_bytes,
                )
            )
        for run in runs:
            run.dispatch()
        await until_durable(runs)
        _log.info(
            "a replica got what it lacked",
            node=node,
            object=stored.object_id,
            first=part.first,
            tickets=int((~copy.good).sum()),
        )

    def _link(self, node: str) -> NodeLink:
        link = self._fleet.link(node)
        if link is None or not link.up:
            raise NodesUnavailable(f"putter {node} is not connected")
        return link


class _Copying:
    """One extent, slice by slice: who can be read, and who holds all of it so far.

    Args:
        replicas: does the work.
        stored: the object.
        extent: of it.
    """

    def __init__(self, replicas: Replicas, stored: StoredObject, extent: Extent) -> None:
        self._replicas = replicas
        self._stored = stored
        self._extent = extent
        self._sources = [node for node in extent.nodes if replicas.is_up(node)]
        self._whole = set(self._sources)

    @property
    def lacking(self) -> frozenset[str]:
        """The nodes that lack some slice, or cannot be asked."""
        return frozenset(self._extent.nodes) - self._whole

    async def complete(self, part: Slice) -> bytearray:
        """Complete one slice on all nodes that let us; its bytes.

        Raises:
            IntegrityError: some of them are right nowhere.
            NodesUnavailable: that cannot be told, or nobody holds all of the extent.
        """
        copies = await self._read(part)
        data = self._merge(part, copies)
        for node, copy in copies.items():
            if node in self._whole and not copy.good.all():
                try:
                    await self._replicas.fill(node, self._stored, copy, data)
                except PutterError as error:
                    self._lose(node, error)
        if not self._whole:
            raise _out_of_reach(self._stored, self._extent.nodes)
        return data

    async def _read(self, part: Slice) -> dict[str, Copy]:
        """The copies of all nodes that answer; those that do not are not asked again."""
        answers = await asyncio.gather(
            *(self._replicas.read(node, self._stored, part) for node in self._sources),
            return_exceptions=True,
        )
        copies: dict[str, Copy] = {}
        for node, answer in zip(list(self._sources), answers, strict=True):
            if isinstance(answer, PutterError):
                self._sources.remove(node)
                self._lose(node, answer)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                copies[node] = answer
        return copies

    def _merge(self, part: Slice, copies: dict[str, Copy]) -> bytearray:
        """The slice, each ticket from a copy that has it right."""
        for copy in copies.values():
            if copy.good.all():
                return copy.data
        whole = Copy(part, self._stored.frame_bytes)
        for copy in copies.values():
            for at, count in stretches(copy.good & ~whole.good):
                place = copy.bytes_of(at, count)
                whole.data[place] = copy.data[place]
            whole.good |= copy.good
        if whole.good.all():
            return whole.data
        if len(copies) < len(self._extent.nodes):
            # One that is away may have them.
            raise _out_of_reach(self._stored, self._extent.nodes)
        lost = int((~whole.good).sum())
        raise IntegrityError(
            f"object {self._stored.object_id}: {lost} tickets from {part.first} on are right on "
            f"none of {', '.join(self._extent.nodes)}"
        )

    def _lose(self, node: str, error: PutterError) -> None:
        self._whole.discard(node)
        _log.warning(
            "a replica stays incomplete",
            node=node,
            object=self._stored.object_id,
            reason=str(error),
        )


class Straight:
    """Carries a parcel to the nodes it is meant for, and to no other."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def carry(self, node: str, parcel: Parcel) -> None:
        """See `router.parcels.Carrier`."""
        self._fleet.carry(node, parcel)

    def withdraw(self, node: str, parcel: Parcel) -> None:
        """See `router.parcels.Carrier`."""
        self._fleet.withdraw(node, parcel)

    def substitute(self, parcel: Parcel, avoid: set[str]) -> None:
        """Nobody."""


async def free(
    link: NodeLink, ranges: tuple[tuple[int, int], ...], objects: tuple[str, ...] = ()
) -> None:
    """Have a putter remove tickets, and what it knows of objects; durable when this returns.

    Raises:
        NodesUnavailable: it did not.
    """
    answers = await link.call(lambda request: Free(request, ranges, objects), timeout_ms=_CALL_MS)
    reply = answers[-1][0]
    if not isinstance(reply, Done) or reply.status:
        reason = reply.reason if isinstance(reply, Done) else "unexpected answer"
        raise NodesUnavailable(f"putter {link.node} could not free: {reason}")


async def until_durable(parcels: Collection[Parcel]) -> None:
    """Wait for the acks of parcels.

    Raises:
        PutterError: one was not taken, or not in time.
    """
    try:
        async with asyncio.timeout(_CALL_MS / 1000):
            for parcel in parcels:
                await parcel.counted
    except TimeoutError:
        raise NodesUnavailable(f"not acknowledged within {_CALL_MS} ms") from None
    finally:
        for parcel in parcels:
            if not parcel.settled:
                parcel.abandon(NodesUnavailable("given up"))


def _out_of_reach(stored: StoredObject, nodes: tuple[str, ...]) -> NodesUnavailable:
    return NodesUnavailable(
        f"object {stored.object_id} is on putters {', '.join(nodes)}; those of them that can be "
        f"reached do not hold all of it",
        hint="bring the others back; see `putter status`",
    )
