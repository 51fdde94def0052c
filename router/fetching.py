"""Brings bytes of replicas, verified on as many of them as the policy asks for.

With R = 1 one replica sends, and its frames are verified here. With more, R - 1 others verify the
same frames where they lie and answer with the checksums, at the same time; these have to be the
same. A replica that is bad or lacks something is named to the healer, and another one takes its
place in the read. All of it goes by the slice: about a run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from common.buffers import BufferPool
from common.errors import IntegrityError, NodesUnavailable, NotFound, PutterError, error_for_status
from common.keys import Keyring
from common.logs import get_logger
from common.metrics import Metrics
from common.records import StoredObject
from common.requests import current_request
from common.wire import frames
from common.wire.session import Data, Read
from common.wire.verification import Sums, Verify
from router.agreement import Agreement
from router.fetched import Fetched, verified
from router.fleet import Fleet
from router.links import NodeLink
from router.local_reads import LocalReads, Piece
from router.quorum import Policy
from router.ranges import Slice, halves

_log = get_logger(__name__)
_CALL_MS: Final = 15_000
_AVOID_S: Final = 10.0
"""So long others are asked first after a putter did not answer."""
_SUM: Final = 8


class Fetching:
    """The replicas as readers see them.

    Args:
        fleet: the putters.
        keyring: any of its keys verifies.
        metrics: counters.
        pool: memory of pieces.
        local: reads from files of putters on this machine.
        damaged: told of a putter that is there and lacks tickets, or holds bad ones: node,
            ObjectID, first ticket, how many.
    """

    def __init__(
        self,
        fleet: Fleet,
        keyring: Keyring,
        metrics: Metrics,
        pool: BufferPool,
        local: LocalReads,
        damaged: Callable[[str, str, int, int], None],
    ) -> None:
        self._fleet = fleet
        self._keyring = keyring
        self._metrics = metrics
        self._pool = pool
        self._local = local
        self._damaged = damaged
        self._late: dict[str, float] = {}

    def there(self, nodes: tuple[str, ...]) -> int:
        """How many of these putters can be asked now."""
        return sum(map(self._is_up, nodes))

    async def fetch(self, stored: StoredObject, part: Slice, policy: Policy) -> Fetched:
        """The bytes of a slice.

        Args:
            stored: the object.
            part: of it.
            policy: how many replicas are verified.

        Raises:
            NotFound: no replica has all of it.
            IntegrityError: no replica has the right bytes.
            NodesUnavailable: no replica can be reached, or fewer than the policy asks for.
        """
        if policy.read_quorum > 1:
            return await self._agreed(stored, part, policy)
        return await self._first(stored, part, policy)

    # -- inside ----------------------------------------------------------------------------

    async def _first(self, stored: StoredObject, part: Slice, policy: Policy) -> Fetched:
        """One slice from the first replica that has it whole and right."""
        problems: list[PutterError] = []
        for node in self._order(part.nodes):
            try:
                return await self._fetch_from(node, stored, part, None)
            except PutterError as error:
                problems.append(error)
                self._note(node, stored, part, error)
        return await self._without_whole(stored, part, policy, problems)

    async def _agreed(self, stored: StoredObject, part: Slice, policy: Policy) -> Fetched:
        """The same from replicas of which R hold the same bytes, or as many as there are."""
        there = [node for node in self._order(part.nodes) if self._is_up(node)]
        policy.verified(len(there))
        patient = policy.consistency == "strict"
        prompt = there if patient else [node for node in there if not self._is_late(node)]

        async def ask(node: str, taken: Fetched | None) -> bytes:
            try:
                return await self._sums_of(node, stored, part, taken)
            except PutterError as error:
                self._note(node, stored, part, error)
                raise

        agreement = Agreement(
            prompt or there, policy.read_quorum, patient=patient, ask=ask, late=self._note_late
        )
        await agreement.reach()
        piece, sums = agreement.piece, agreement.sums
        problems = list(agreement.problems.values())
        if piece is None:
            return await self._without_whole(stored, part, policy, problems)
        wrong = sum(isinstance(e, IntegrityError | NotFound) for e in problems)
        policy.verified(len(sums) + wrong)
        _compare(stored, part, sums)
        piece.replicas, piece.wanted = len(sums), policy.read_quorum
        if piece.replicas < policy.read_quorum:
            self._metrics.degraded_reads.inc()
        return piece

    async def _without_whole(
        self, stored: StoredObject, part: Slice, policy: Policy, problems: list[PutterError]
    ) -> Fetched:
        """A slice that no replica has as a whole."""
        wrong = [e for e in problems if isinstance(e, IntegrityError | NotFound)]
        if len(wrong) > 1 and part.count > 1:
            # Each of several replicas lacks something of it, but perhaps not the same tickets.
            low, high = halves(part, stored.frame_bytes)
            both = Fetched()
            for half in (low, high):
                if half.keep:
                    both.add(await self.fetch(stored, half, policy))
            return both
        if wrong and len(wrong) == len(part.nodes):
            raise next((e for e in wrong if isinstance(e, IntegrityError)), wrong[0])
        # A replica that is away may still have the right bytes.
        reasons = "; ".join(str(problem) for problem in problems) or "none of them is connected"
        raise NodesUnavailable(
            f"object {stored.object_id} is on putters {', '.join(part.nodes)}, "
            f"none of which can serve it now: {reasons}",
            hint="bring one of them back; see `putter status`",
        )

    async def _fetch_from(
        self, node: str, stored: StoredObject, part: Slice, sums: bytearray | None
    ) -> Fetched:
        """A slice from one replica.

        Args:
            node: which.
            stored: the object.
            part: of it.
            sums: gets the checksums of its frames, with the key that writes.
        """
        link = self._link(node)
        pieces: Iterable[Piece] | None = await self._local.read(link, stored, part)
        if pieces is None:
            asker = current_request()
            answers = await link.call(
                lambda request: Read(request, part.first, part.count, request_id=asker),
                timeout_ms=_CALL_MS,
            )
            pieces = verified(answers, stored, part.first, self._keyring)
        out = Fetched()
        expected = part.first
        position = 0
        for header, payload in pieces:
            size = frames.data_bytes_of(len(payload), stored.frame_bytes)
            if size > part.size - position:
                break  # tickets of another length
            if sums is not None:
                sums += self._sums_in(header, payload, expected, stored.frame_bytes)
            low = max(part.skip - position, 0)
            high = min(part.skip + part.keep - position, size)
            out.take(payload, stored.frame_bytes, low, high, self._pool)
            expected += header.count
            position += size
        if expected != part.first + part.count or position != part.size:
            raise _lacks(node, stored, part, expected)
        return out

    def _sums_in(self, header: Data, payload: memoryview, first: int, frame_bytes: int) -> bytes:
        writing = self._keyring.writing
        if header.key_id == writing.key_id:
            return frames.checksums(payload, frame_bytes)
        return frames.checksums_under(payload, first, frame_bytes, writing.checksum)

    async def _sums_of(
        self, node: str, stored: StoredObject, part: Slice, taken: Fetched | None
    ) -> bytes:
        """The checksums of a slice that one replica holds whole and right.

        Args:
            node: which.
            stored: the object.
            part: of it.
            taken: gets its bytes; None: the putter verifies them where they lie.
        """
        if taken is not None:
            sums = bytearray()
            taken.add(await self._fetch_from(node, stored, part, sums))
            return bytes(sums)
        key_id = self._keyring.writing.key_id
        answers = await self._link(node).call(
            lambda request: Verify(request, part.first, part.count, key_id, current_request()),
            timeout_ms=_CALL_MS,
        )
        out = bytearray()
        expected, size = part.first, 0
        for header, payload in answers:
            if not isinstance(header, Sums):
                raise NodesUnavailable(f"putter {node} answered something else")
            if header.status:
                raise error_for_status(header.status, header.reason)
            if header.count and (header.first, header.frame_bytes) != (
                expected,
                stored.frame_bytes,
            ):
                break
            expected += header.count
            size += header.size
            out += payload
        if expected != part.first + part.count or size != part.size:
            raise _lacks(node, stored, part, expected)
        if len(out) != part.count * _SUM:
            raise NodesUnavailable(f"putter {node} miscounted its tickets")
        return bytes(out)

    def _note(self, node: str, stored: StoredObject, part: Slice, error: PutterError) -> None:
        """A replica could not be used."""
        if isinstance(error, IntegrityError | NotFound):
            self._damaged(node, stored.object_id, part.first, part.count)
        elif isinstance(error, NodesUnavailable) and self._is_up(node):
            self._note_late(node)
        if isinstance(error, IntegrityError):
            _log.error(
                "a replica is bad",
                node=node,
                object=stored.object_id,
                first=part.first,
                reason=str(error),
            )

    def _note_late(self, node: str) -> None:
        """A putter that is connected does not answer: for a while others are asked first."""
        self._late[node] = asyncio.get_running_loop().time() + _AVOID_S

    def _is_late(self, node: str) -> bool:
        until = self._late.get(node)
        if until is None:
            return False
        if until > asyncio.get_running_loop().time():
            return True
        del self._late[node]
        return False

    def _link(self, node: str) -> NodeLink:
        link = self._fleet.link(node)
        if link is None or not link.up:
            raise NodesUnavailable(f"putter {node} is not connected")
        return link

    def _is_up(self, node: str) -> bool:
        link = self._fleet.link(node)
        return link is not None and link.up

    def _order(self, nodes: tuple[str, ...]) -> list[str]:
        """Connected replicas first, those that answer, and the least busy before the others."""

        def burden(node: str) -> tuple[bool, bool, int]:
            link = self._fleet.link(node)
            if link is None:
                return True, False, 0
            return not link.up, self._is_late(node), link.inflight_bytes

        return sorted(nodes, key=burden)


def _lacks(node: str, stored: StoredObject, part: Slice, expected: int) -> NotFound:
    return NotFound(
        f"putter {node} holds {expected - part.first} of {part.count} tickets "
        f"of object {stored.object_id}"
    )


def _compare(stored: StoredObject, part: Slice, sums: dict[str, bytes]) -> None:
    """Replicas that are right by their checksums have to hold the same bytes.

    Raises:
        IntegrityError: they do not, and nobody can tell which are right.
    """
    if len(set(sums.values())) > 1:
        raise IntegrityError(
            f"object {stored.object_id}: {', '.join(sums)} hold different bytes under tickets from "
            f"{part.first} on, and all fit their checksums",
            hint="this needs a human: `putter explain` tells which putter holds what",
        )
