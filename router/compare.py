"""Compares what putters hold with what Redis describes, and notes what they lack.

One walk through all names makes digests of what each putter should hold. Where those that it tells
are others, it lists its entries, and a second walk finds what is missing. That may have changed
meanwhile, so whoever seems to lack something is asked once more before it is noted as a debt; and
it is noted only where another putter holds all of it. `router.repair` pays what is noted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final, TypeVar

import msgspec

from common import records
from common.digests import Entries, Grid, Leaves, Space, differing, stretches_of
from common.errors import NodesUnavailable, PutterError
from common.logs import get_logger
from common.meta.interface import Metadata
from common.meta.repairs import Described
from common.records import ANYONE, Extent, Version
from common.tickets import object_id_of
from router.debts import lost, with_extents
from router.fleet import Fleet
from router.inventory import SPACES, Expected, Held, named, record_of, tickets_of
from router.links import NodeLink
from router.numbers import Numbers
from router.parcels import RecordParcel
from router.quorum import Policy
from router.replicas import Replicas, Straight, until_durable
from router.told import digests_of, entries_of, lacking, record_of_object
from router.walk import pages, redescribe

_log = get_logger(__name__)
_ALONE: Final = Policy(1, 1)
_HELD_MAX: Final = 500_000
"""Entries of putters that are looked at in one walk: about 100 MB."""
_LISTED_LEAVES: Final = 64
_STRAYS_MAX: Final = 10_000
"""Objects on one putter that nothing places there and that are looked at in one walk."""
_AT_ONCE: Final = 32
_PAUSE_S: Final = 0.02

Damaged = Callable[[str, str, int, int], None]
"""Told of tickets that no other putter has whole: node, ObjectID, first ticket, count."""
T = TypeVar("T")
Place = tuple[str, Space]
Pending = dict[Place, list[int]]
"""Leaves that are still to be looked at."""


class TakenOverError(NodesUnavailable):
    """Another router does it now."""


@dataclass
class Found:
    """What a round found, and noted to be repaired.

    Attributes:
        names: that were gone through.
        objects: extents of objects that putters lack, for each of them.
        tickets: in these.
        records: commit records of objects that putters lacked, and were given.
        bare: records without an object that too few putters have, for each one more.
        strays: objects of which putters hold something that nothing places there.
        lost: extents that no putter which should hold them has whole.
        unsure: extents of which that could not be told: putters are away.
    """

    names: int = 0
    objects: int = 0
    tickets: int = 0
    records: int = 0
    bare: int = 0
    strays: int = 0
    lost: int = 0
    unsure: int = 0


@dataclass
class _Lack:
    """What putters seem to lack of one version.

    Attributes:
        each: the version.
        extents: with the ObjectID, and whether each putter lacks it: None, nobody has asked it yet.
        record: putters that seem not to have its record.
    """

    each: Described
    extents: list[tuple[Extent, str, dict[str, bool | None]]] = field(default_factory=list)
    record: list[str] = field(default_factory=list)


class Comparison:
    """One comparison.

    Args:
        meta: the coordinator.
        fleet: the putters.
        replicas: keeps records.
        numbers: stamps of new descriptions.
        damaged: told of what no other putter has.
        grids: of the leaves, by space.
        found: is added to.
        go_on: awaited between pages; raises `TakenOverError`.
    """

    def __init__(
        self,
        meta: Metadata,
        fleet: Fleet,
        replicas: Replicas,
        numbers: Numbers,
        damaged: Damaged,
        grids: Mapping[Space, Grid],
        found: Found,
        go_on: Callable[[], Awaitable[None]],
    ) -> None:
        self._found = found
        self._meta = meta
        self._fleet = fleet
        self._replicas = replicas
        self._numbers = numbers
        self._damaged = damaged
        self._grids = grids
        self._go_on = go_on
        self._carrier = Straight(fleet)

    async def run(self, links: Iterable[NodeLink]) -> list[str]:
        """Compare what these putters hold.

        Returns:
            Those that did not tell.

        Raises:
            PutterError: Redis does not answer.
        """
        by_node = {link.node: link for link in links}
        silent: set[str] = set()
        pending = await self._differing(by_node, silent)
        while pending:
            held = await self._listed(by_node, pending, silent)
            if held:
                await self._look(held)
                await self._note_strays(held)
        return sorted(silent)

    # -- where they differ -----------------------------------------------------------------

    async def _differing(self, links: Mapping[str, NodeLink], silent: set[str]) -> Pending:
        """Leaves in which what a putter holds is not what it should."""
        expected = Expected(links, self._grids)
        async with aclosing(pages(self._meta)) as everything:
            async for _, page in everything:
                expected.add([each.version for each in page])
                self._found.names += len(page)
                await self._go_on()
        pending: Pending = {}
        for node, link in links.items():
            for space in SPACES:
                try:
                    parts = [part async for part in self._told(link, self._grids[space])]
                except TakenOverError:
                    raise
                except PutterError as error:
                    _no_answer(node, error)
                    silent.add(node)
                    continue
                leaves = differing(expected.leaves(node, space), Leaves.added(parts))
                if leaves:
                    pending[node, space] = leaves
        return pending

    async def _told(self, link: NodeLink, grid: Grid) -> AsyncIterator[Leaves]:
        async for part in digests_of(link, grid):
            yield part
            await asyncio.sleep(_PAUSE_S)
            await self._go_on()

    async def _listed(
        self, links: Mapping[str, NodeLink], pending: Pending, silent: set[str]
    ) -> dict[Place, Held]:
        """What putters hold in some of the leaves, which are not pending any more."""
        held: dict[Place, Held] = {}
        room = _HELD_MAX
        for node, space in list(pending):
            if room <= 0:
                break
            leaves, grid = pending.pop((node, space)), self._grids[space]
            parts: list[Entries] = []
            done = 0
            try:
                while done < len(leaves) and room > 0:
                    some = leaves[done : done + _LISTED_LEAVES]
                    for low, high in stretches_of(some):
                        first, end = low * grid.width, high * grid.width
                        async for part in entries_of(links[node], space, first, end):
                            parts.append(part)
                            room -= len(part)
                            await self._go_on()
                    done += len(some)
            except TakenOverError:
                raise
            except PutterError as error:
                _no_answer(node, error)
                silent.add(node)
                continue
            if done < len(leaves):
                pending[node, space] = leaves[done:]
            held[node, space] = Held(grid, leaves[:done], Entries.joined(parts))
        return held

    # -- what is missing -------------------------------------------------------------------

    async def _look(self, held: Mapping[Place, Held]) -> None:
        """Go through all names once more, and see to what is missing."""
        async with aclosing(pages(self._meta)) as everything:
            async for _, page in everything:
                lacks = [lack for each in page if (lack := _lack_of(each, held)) is not None]
                if lacks:
                    await self._ask(lacks)
                    await _each(lacks, self._settle)
                await self._go_on()

    async def _ask(self, lacks: Sequence[_Lack]) -> None:
        """Have putters count what they seem to lack, then others what they should hold of it."""
        everything = [extent for lack in lacks for extent in lack.extents]
        await self._count(everything)
        for extent, _, told in everything:
            if True in told.values():
                told |= {node: None for node in extent.nodes if node not in told}
        await self._count(everything)

    async def _count(self, extents: Sequence[tuple[Extent, str, dict[str, bool | None]]]) -> None:
        asked: dict[str, list[tuple[Extent, dict[str, bool | None]]]] = {}
        for extent, _, told in extents:
            for node, lacks in told.items():
                if lacks is None:
                    asked.setdefault(node, []).append((extent, told))
        for node, some in asked.items():
            link = self._fleet.link(node)
            if link is None or not link.up:
                continue
            try:
                answers = await lacking(link, [extent for extent, _ in some])
            except PutterError as error:
                _no_answer(node, error)
                continue
            for (_, told), lacks in zip(some, answers, strict=True):
                told[node] = lacks

    async def _settle(self, lack: _Lack) -> None:
        """Note what putters lack of a version, or give them its record."""
        missing: dict[int, list[str]] = {}
        for extent, object_id, told in lack.extents:
            nodes = [node for node in extent.nodes if told.get(node)]
            if not nodes:
                continue
            if any(told.get(node) is False for node in extent.nodes):
                missing[extent.first] = nodes
                self._found.objects += len(nodes)
                self._found.tickets += extent.count * len(nodes)
            elif len(nodes) < len(extent.nodes):
                self._found.unsure += 1
            else:
                self._found.lost += 1
                for node in nodes:
                    self._damaged(node, object_id, extent.first, extent.count)

        def change(extent: Extent) -> Extent:
            return lost(extent, missing.get(extent.first, ()), self._debtor)

        if missing:
            if await redescribe(self._meta, lack.each, with_extents(lack.each.version, change)):
                await self._keep_the_rest(lack, missing)
        elif lack.record:
            try:
                await self._give_record(lack.each, lack.record)
            except PutterError as error:
                _log.info("a record is given at the next round", reason=str(error))

    async def _keep_the_rest(self, lack: _Lack, missing: Mapping[int, Sequence[str]]) -> None:
        """What a putter still holds of an object that it shall get again is not freed there."""
        bucket = lack.each.version.bucket
        for extent, object_id, _ in lack.extents:
            for node in missing.get(extent.first, ()):
                await self._meta.repairs.reach(bucket, object_id, node)

    def _debtor(self, node: str) -> str:
        return ANYONE if node in self._fleet.left_out else node

    async def _give_record(self, each: Described, nodes: Sequence[str]) -> None:
        """Give putters the record of a version, as another one has it.

        Raises:
            PutterError: not now.
        """
        version = each.version
        object_id, (_, stamp) = version.objects[0].object_id, record_of(version)
        bodies = {
            node: await record_of_object(link, object_id)
            for node in sorted(named(version))
            if (link := self._fleet.link(node)) is not None and link.up
        }
        stamps = {node: _stamp_of(body) for node, body in bodies.items()}
        lacking_it = [node for node in nodes if node in stamps and stamps[node] < stamp]
        if not lacking_it:
            return
        source = next((node for node in stamps if stamps[node] == stamp), None)
        if source is None:
            version = msgspec.structs.replace(version, revision=await self._numbers.stamp())
            kept = await self._replicas.keep_record(version, list(stamps))
            if kept and await self._meta.repairs.amend(each.token, version):
                self._found.records += len(kept)
            return
        parcels = [
            RecordParcel(object_id, stamp, bodies[source], (node,), _ALONE, self._carrier)
            for node in lacking_it
        ]
        for parcel in parcels:
            parcel.dispatch()
        await until_durable(parcels)
        self._found.records += len(parcels)

    # -- what is too much ------------------------------------------------------------------

    async def _note_strays(self, held: Mapping[Place, Held]) -> None:
        """What putters hold of objects that nothing places there becomes a surplus.

        That goes for what Redis was told of, too: a write that went elsewhere in the end leaves
        bytes on who took it too late. What no bucket knows is the business of `router.sweep`.
        """
        for (node, space), there in held.items():
            if space is not Space.TICKETS:
                continue
            names = [object_id_of(key) for key in sorted(there.unwanted())[:_STRAYS_MAX]]

            async def note(object_id: str, node: str = node) -> None:
                state = await self._meta.objects.get(object_id)
                if state is None or state.state != "written":
                    return
                noted = await self._meta.repairs.reach(state.bucket, object_id, node)
                self._found.strays += noted

            await _each([name for name in names if name], note)


def _lack_of(each: Described, held: Mapping[Place, Held]) -> _Lack | None:
    """What putters do not list of a version, or None."""
    version, lack = each.version, _Lack(each)
    for object_id, extent, (first, count, _, _, key) in tickets_of(version):
        told: dict[str, bool | None] = {}
        for node in extent.nodes:
            there = held.get((node, Space.TICKETS))
            if there is not None and there.lacks(first, count, key):
                told[node] = None
        if told:
            lack.extents.append((extent, object_id, told))
    if version.objects:
        position, stamp = record_of(version)
        lack.record = [
            node
            for node in sorted(named(version))
            if (there := held.get((node, Space.OBJECTS))) is not None
            and there.lacks_record(position, stamp)
        ]
    return lack if lack.extents or lack.record else None


async def _each(things: Sequence[T], work: Callable[[T], Awaitable[None]]) -> None:
    """Some at the same time."""
    for at in range(0, len(things), _AT_ONCE):
        await asyncio.gather(*map(work, things[at : at + _AT_ONCE]))


def _stamp_of(body: bytes) -> int:
    """The stamp under which a putter keeps the record of a version; 0 for another one, or none."""
    record = records.decode(body) if body else None
    return records.kept_under(record) if isinstance(record, Version) else 0


def _no_answer(node: str, error: PutterError) -> None:
    _log.info("a putter does not tell what it holds", node=node, reason=str(error))
