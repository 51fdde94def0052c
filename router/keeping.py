"""Records without an object, made durable where their name is placed.

Tombstones, files without a byte, aborts of these: no extent says who should hold them. So whoever
should have got one and did not is noted in Redis before anybody hears that the change is done, and
is given it later (`router.handoff`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from common import records
from common.errors import NodesUnavailable, PutterError
from common.logs import get_logger
from common.meta.handoff import Missed
from common.meta.interface import Metadata
from common.records import Abort, Change
from common.versions import has_versions, plain_file
from router.fleet import Fleet
from router.parcels import Parcel, RecordsParcel
from router.placement import NOTHING_OWED
from router.policies import Policies
from router.targets import as_putter_error

_log = get_logger(__name__)


class Keeping:
    """Keeps records that name no putters themselves.

    Args:
        meta: knows who lacks what.
        fleet: the putters.
        policies: how many putters a record needs.
        timeout_ms: how long it may take.
    """

    def __init__(self, meta: Metadata, fleet: Fleet, policies: Policies, timeout_ms: int) -> None:
        self._meta = meta
        self._fleet = fleet
        self._policies = policies
        self._timeout_ms = timeout_ms
        self._late: set[asyncio.Task[None]] = set()

    async def keep(
        self, changes: Sequence[Change], name: str, nodes: tuple[str, ...] = ()
    ) -> tuple[str, ...]:
        """Make records durable on as many putters as the policy asks for.

        Who of the others should hold those without an object is noted by then.

        Args:
            changes: what to keep of one bucket, in one message; an abort is forgotten with its
                object.
            name: of the file, or of the first of several.
            nodes: where they go if these are there; else wherever the name is placed.

        Returns:
            The putters that hold them.

        Raises:
            PutterError: too few took them, or not in time, or Redis does not answer.
        """
        policy = await self._policies.of(changes[0].bucket)
        owed: Mapping[str, str] = NOTHING_OWED
        if not nodes or not all(map(self._is_up, nodes)):
            placement = self._fleet.place(name, policy)
            nodes, owed = placement.nodes, placement.owed
        entries = tuple(
            (records.kept_under(each), _object_of(each), records.encode(each)) for each in changes
        )
        parcel = RecordsParcel(entries, nodes, policy, self._fleet, owed)
        parcel.dispatch()
        try:
            async with asyncio.timeout(self._timeout_ms / 1000):
                await parcel.counted
        except BaseException as error:
            parcel.abandon(as_putter_error(error))
            if isinstance(error, TimeoutError):
                if has_versions(name):
                    name = "/".join(plain_file(*name.split("/", 1)))
                raise NodesUnavailable(
                    f"the putters did not take the commit record of {name} within "
                    f"{self._timeout_ms} ms",
                    hint="see `putter status` for what is down",
                ) from None
            raise
        bare = [each for each in changes if not _object_of(each)]
        known = parcel.owed
        await self._note(bare, parcel, known)
        if bare and not parcel.settled:
            parcel.when_settled(lambda: self._note_late(bare, parcel, known))
        return tuple(parcel.holders)

    # -- inside ----------------------------------------------------------------------------

    async def _note(self, bare: Sequence[Change], parcel: Parcel, owed: Mapping[str, str]) -> None:
        """Records without an object that some putters did not get."""
        holders = tuple(parcel.holders)
        missed = [
            Missed(node, each.bucket, records.kept_under(each), holders, records.encode(each))
            for each in bare
            for node in owed
        ]
        if missed:
            await self._meta.handoff.note(missed)

    def _note_late(self, bare: Sequence[Change], parcel: Parcel, known: Mapping[str, str]) -> None:
        """Who turned out not to take them, after enough others had."""
        late = {node: other for node, other in parcel.owed.items() if node not in known}
        if late:
            task = asyncio.get_running_loop().create_task(self._try_to_note(bare, parcel, late))
            self._late.add(task)
            task.add_done_callback(self._late.discard)

    async def _try_to_note(
        self, bare: Sequence[Change], parcel: Parcel, owed: Mapping[str, str]
    ) -> None:
        try:
            await self._note(bare, parcel, owed)
        except PutterError as error:
            _log.warning("who lacks a record is found later", reason=str(error))

    def _is_up(self, node: str) -> bool:
        link = self._fleet.link(node)
        return link is not None and link.up


def _object_of(change: Change) -> str:
    """The object that a record is forgotten with; "" for none."""
    match change:
        case Abort():
            return change.object_id
        case _:
            return ""
