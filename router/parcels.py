"""What travels to several putters and counts once enough of them hold it.

A parcel knows where it is going and who has it; links carry it and tell it what became of it. All
decisions (is it there? must another node take over?) are here, none of the I/O.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

from common.errors import NodesUnavailable, PutterError, error_for_status
from common.limits import CHECKSUM_RETRIES_MAX
from common.requests import current_request
from common.wire.session import RunHeader
from common.wire.status import Status
from router.placement import NOTHING_OWED
from router.quorum import Policy

RecordEntry = tuple[int, str, bytes]
"""Stamp, ObjectID ("" if none) and encoded body of a commit record."""

_WHY: Final[dict[int, str]] = {
    Status.NO_SPACE: ": its disk is full, or at its reserve",
    Status.IO_ERROR: ": its disk failed",
}


class Carrier(Protocol):
    """The links, as a parcel sees them."""

    def carry(self, node: str, parcel: Parcel) -> None:
        """Send the parcel to a node, again after a lost link, until it is answered."""
        ...

    def withdraw(self, node: str, parcel: Parcel) -> None:
        """Send it there no more."""
        ...

    def substitute(self, parcel: Parcel, avoid: set[str]) -> str | None:
        """Another live node that could take it."""
        ...


class Parcel:
    """A run or a commit record on its way to N putters.

    Args:
        name: what placement hashes; also names it in messages.
        nodes: where it goes, chosen by placement.
        policy: how many acks it needs.
        carrier: the links.
        size: bytes on the wire, for the windows of the links.
        owed: putters that are away, as placement says, each with its stand-in among ``nodes``.
    """

    def __init__(
        self,
        name: str,
        nodes: tuple[str, ...],
        policy: Policy,
        carrier: Carrier,
        size: int,
        owed: Mapping[str, str] = NOTHING_OWED,
    ) -> None:
        self.name: Final = name
        self.request_id: Final = current_request()
        self.size: Final = size
        self.holders: list[str] = []
        self.ever: list[str] = list(nodes)
        self.error: PutterError | None = None
        self.counted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._policy = policy
        self._carrier = carrier
        self._planned = len(nodes)
        self._pending: list[str] = list(nodes)
        self._gave_up: dict[str, PutterError] = {}
        self._owed = owed
        self._mismatches: dict[str, int] = {}
        self._on_settled: Callable[[], None] | None = None
        self._announce: Callable[[str], Awaitable[None]] | None = None
        self._detours: set[asyncio.Task[None]] = set()

    @property
    def rerouted(self) -> bool:
        """Whether others hold it than those it was first meant for; ask when it is settled."""
        return len(self.holders) != self._planned or bool(self._gave_up)

    @property
    def settled(self) -> bool:
        """Whether no node's answer is outstanding."""
        return not self._pending

    @property
    def expected_holders(self) -> list[str]:
        """Nodes that hold it, and those on their way to it."""
        return [*self.holders, *self._pending] if self._pending else self.holders

    @property
    def owed(self) -> Mapping[str, str]:
        """Putters that should hold it and will not, each with whoever does in its place."""
        return self._owed

    def when_settled(self, call: Callable[[], None]) -> None:
        """Call once when no link needs the parcel's bytes any more."""
        if self.settled:
            call()
        else:
            self._on_settled = call

    def dispatch(self, announce: Callable[[str], Awaitable[None]] | None = None) -> None:
        """Hand it to the links.

        Args:
            announce: awaited with another node's identity before the parcel is sent there in
                place of one that did not take it, so that nobody holds bytes unknown to Redis.
        """
        self._announce = announce
        for node in list(self._pending):
            self._carrier.carry(node, self)

    def delivered(self, node: str) -> None:
        """The node holds it durably."""
        if node not in self._pending:
            return
        self._pending.remove(node)
        self.holders.append(node)
        self._review()

    def refused(self, node: str, status: int) -> None:
        """The node answered with a status other than ``WRITTEN``."""
        if node not in self._pending:
            return
        why = _WHY.get(status, "")
        error = error_for_status(status, f"putter {node} refused {self.name}{why}")
        if status == Status.CHECKSUM_MISMATCH:
            tries = self._mismatches[node] = self._mismatches.get(node, 0) + 1
            if tries < CHECKSUM_RETRIES_MAX:
                self._carrier.carry(node, self)
                return
        if status == Status.TICKET_TAKEN:
            self._pending.remove(node)
            self.abandon(error)
            return
        self._leave(node, error, keep_last=False)

    def stranded(self, node: str, error: PutterError) -> None:
        """The node cannot be reached for a while.

        It stays the hope of a parcel that has no other.
        """
        if node in self._pending:
            self._leave(node, error, keep_last=True)

    def abandon(self, error: PutterError) -> None:
        """Give it up: nothing more is sent."""
        for node in self._pending:
            self._carrier.withdraw(node, self)
            self._misses(node, "")
        self._pending.clear()
        if not self.counted.done():
            self.error = error
            self.counted.set_exception(error)
            self.counted.exception()  # whoever waits sees it; nobody has to
        self._settle()

    # -- inside ----------------------------------------------------------------------------

    def _leave(self, node: str, error: PutterError, *, keep_last: bool) -> None:
        substitute = self._carrier.substitute(self, {*self.ever})
        if substitute is None and keep_last and not self._possible_without(node):
            return
        self._pending.remove(node)
        self._misses(node, substitute or "")
        self._gave_up[node] = error
        self._carrier.withdraw(node, self)
        if substitute is not None:
            self.ever.append(substitute)
            self._pending.append(substitute)
            self._take_detour(substitute)
        self._review()

    def _misses(self, node: str, substitute: str) -> None:
        """A putter does not take it; nor does the one that is away whose place it had taken."""
        owed = dict(self._owed)
        home = next((home for home, stand_in in owed.items() if stand_in == node), node)
        owed[home] = substitute
        self._owed = owed

    def _take_detour(self, node: str) -> None:
        if self._announce is None:
            self._carrier.carry(node, self)
            return
        task = asyncio.get_running_loop().create_task(self._announce_and_carry(node))
        self._detours.add(task)
        task.add_done_callback(self._detours.discard)

    async def _announce_and_carry(self, node: str) -> None:
        assert self._announce is not None
        try:
            await self._announce(node)
        except PutterError as error:
            self.abandon(error)
            return
        if node in self._pending:
            self._carrier.carry(node, self)

    def _possible_without(self, node: str) -> bool:
        left = len(self.holders) + len(self._pending) - (node in self._pending)
        try:
            self._policy.needed(left)
        except NodesUnavailable:
            return False
        return True

    def _review(self) -> None:
        if not self.counted.done():
            try:
                needed = self._policy.needed(len(self.holders) + len(self._pending))
            except NodesUnavailable as shortage:
                self.abandon(self._worst() or shortage)
                return
            if len(self.holders) >= needed:
                self.counted.set_result(None)
        self._settle()

    def _worst(self) -> PutterError | None:
        """The reason to tell when nobody took it: a full disk says more than a lost link."""
        reasons = list(self._gave_up.values())
        return next((e for e in reasons if e.status == Status.NO_SPACE), None) or next(
            iter(reasons), None
        )

    def _settle(self) -> None:
        if self._pending or self._on_settled is None:
            return
        call, self._on_settled = self._on_settled, None
        call()


class RunParcel(Parcel):
    """A run: consecutive tickets, built into frames.

    Args:
        object_id: ObjectID.
        first: number of the first ticket.
        count: how many.
        data_bytes: bytes of data in them.
        frames: whole frames; must stay as they are until the parcel is settled.
        frame_bytes: data bytes of each but the last; 0: as the links have agreed.
    """

    def __init__(
        self,
        object_id: str,
        first: int,
        count: int,
        data_bytes: int,
        frames: memoryview,
        nodes: tuple[str, ...],
        policy: Policy,
        carrier: Carrier,
        owed: Mapping[str, str] = NOTHING_OWED,
        *,
        frame_bytes: int = 0,
    ) -> None:
        super().__init__(f"object {object_id}", nodes, policy, carrier, len(frames), owed)
        self.object_id: Final = object_id
        self.first: Final = first
        self.count: Final = count
        self.data_bytes: Final = data_bytes
        self.frames: Final = frames
        header = RunHeader(first, len(frames), object_id, frame_bytes, self.request_id)
        self.headers: tuple[RunHeader, ...] = (header,)


class RecordParcel(Parcel):
    """A commit record.

    Args:
        object_id: the object that it commits, "" if none.
        stamp: the change's stamp.
        body: the encoded record.
    """

    def __init__(
        self,
        object_id: str,
        stamp: int,
        body: bytes,
        nodes: tuple[str, ...],
        policy: Policy,
        carrier: Carrier,
        owed: Mapping[str, str] = NOTHING_OWED,
    ) -> None:
        super().__init__(f"commit record {stamp}", nodes, policy, carrier, len(body), owed)
        self.entries: tuple[RecordEntry, ...] = ((stamp, object_id, body),)


class RunsParcel(RunParcel):
    """Runs of several objects with consecutive tickets, which travel and count together.

    Args:
        headers: one for each run, in the order of their tickets.
        count: tickets of all of them.
        data_bytes: bytes of data in all of them.
        frames: all their frames; must stay as they are until the parcel is settled.
    """

    def __init__(
        self,
        headers: tuple[RunHeader, ...],
        count: int,
        data_bytes: int,
        frames: memoryview,
        nodes: tuple[str, ...],
        policy: Policy,
        carrier: Carrier,
    ) -> None:
        first = headers[0]
        super().__init__(
            first.object_id, first.first, count, data_bytes, frames, nodes, policy, carrier
        )
        self.headers = headers


class RecordsParcel(RecordParcel):
    """Commit records that travel and count together.

    Args:
        entries: stamp, object and body of each.
    """

    def __init__(
        self,
        entries: tuple[RecordEntry, ...],
        nodes: tuple[str, ...],
        policy: Policy,
        carrier: Carrier,
        owed: Mapping[str, str] = NOTHING_OWED,
    ) -> None:
        stamp, object_id, _ = entries[0]
        body = b"".join([body for _, _, body in entries])
        super().__init__(object_id, stamp, body, nodes, policy, carrier, owed)
        self.entries = entries
