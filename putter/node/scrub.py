"""Verifies a node's disk: in the background at a bounded rate, and whenever it is asked to.

A *pass* looks at everything once. It reads on the reader threads, a piece at a time, so writes go
on; what it finds damaged is marked on the disk thread. Where it is, and how the last one ended, is
kept in a note, so that it goes on after a restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Final

import msgspec

from common.checksum import Buffer
from common.clock import Clock
from common.errors import ProtocolError, PutterError, ShuttingDown
from common.limits import KIB, MIB
from common.logs import get_logger
from common.metrics import Metrics
from common.wire.message import Message
from common.wire.scrubbing import Flaw, Scrub, ScrubReply
from putter.node.committer import Committer
from putter.node.passes import LastPass, Pass, note_place, position_of
from putter.storage.marked import MarkedEngine
from putter.storage.scrub import Check, Finding, Part, Scrubbed

NOTE: Final = "scrub"
DEMANDED_BYTES_PER_S: Final = 64 * MIB
"""The rate of a pass that was asked for without one."""
SAVE_S: Final = 5.0
"""How often the position is kept."""
LOOK_S: Final = 60.0
"""Between two looks whether a pass is due, and before another try after an error."""
FLAWS_MAX: Final = 1_000
_PIECE_BYTES_MIN: Final = 64 * KIB
_PIECE_BYTES_MAX: Final = 2 * MIB
_PIECES_PER_S: Final = 8
_BUSY: Final = 4
"""While the node writes, a pass that nobody asked for takes so many times as long."""
_REST: Final = 4
"""A pass that nobody asked for reads at most a quarter of the time: small objects cost more."""
_MARKS_AT_ONCE: Final = 4

NOT_VERIFIED: Final = 0
UNKNOWN: Final = -1

_log = get_logger(__name__)


class Scrubber:
    """Makes the passes of one node.

    Args:
        engine: to be verified.
        committer: the way to the disk thread.
        readers: threads that read.
        check: tells what is whole.
        metrics: counters.
        clock: dates passes.
        rate_bytes_per_s: in the background; 0 for no pass that nobody asked for.
        period_s: from the end of one pass to the beginning of the next.
    """

    def __init__(
        self,
        engine: MarkedEngine,
        committer: Committer,
        readers: Executor,
        check: Check,
        metrics: Metrics,
        clock: Clock,
        *,
        rate_bytes_per_s: int,
        period_s: float,
    ) -> None:
        self._engine = engine
        self._committer = committer
        self._readers = readers
        self._check = check
        self._metrics = metrics
        self._clock = clock
        self._rate = rate_bytes_per_s
        self._period_ms = int(period_s * 1000)
        self._at = position_of(engine.notes.load(NOTE))
        self._at.number = engine.pass_number = max(self._at.number, engine.pass_number)
        self._wake = asyncio.Event()
        self._saved_s = 0.0
        self._task: asyncio.Task[None] | None = None
        self._reading: asyncio.Future[Scrubbed] | None = None

    def start(self) -> None:
        """Begin, or go on."""
        self._show()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End, and keep the position; a piece that is under way is read to its end."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._reading is not None:
            await asyncio.gather(self._reading, return_exceptions=True)
        if self._at.now is not None:
            await self._save()

    async def demand(self, rate: int = -1) -> None:
        """Begin a pass now, or hurry on the one that was asked for before.

        Args:
            rate: bytes/s; 0 as fast as can be, -1 for `DEMANDED_BYTES_PER_S`.
        """
        now = self._at.now
        if now is None or not now.demanded:
            await self._begin(demanded=True, rate=DEMANDED_BYTES_PER_S if rate < 0 else rate)
        elif rate >= 0:
            now.rate = rate
        self._wake.set()

    async def halt(self) -> None:
        """Give up the pass under way; the next begins after a period, or when asked for."""
        if self._at.now is not None:
            _log.info("scrub stopped", number=self._at.number)
            self._at.now = None
            self._at.held_ms = self._clock.now_ms()
            await self._save()
        self._wake.set()

    def told(self, request: int, flaws: int = 0) -> ScrubReply:
        """Where the scrub is, and what is damaged.

        Args:
            request: that is answered.
            flaws: at most so many of them.
        """
        now, last, damage = self._at.now, self._at.last, self._engine.damage
        marks = [mark.finding for mark in damage] if flaws > 0 else []
        return ScrubReply(
            request,
            number=self._at.number,
            running=now is not None and self._active(now),
            demanded=now is not None and now.demanded,
            started_ms=now.started_ms if now else 0,
            verified_bytes=now.verified_bytes if now else 0,
            total_bytes=-1 if now is None or now.total_bytes is None else now.total_bytes,
            findings=now.findings if now else 0,
            last_number=last.number if last else 0,
            last_started_ms=last.started_ms if last else 0,
            last_ended_ms=last.ended_ms if last else 0,
            last_bytes=last.verified_bytes if last else 0,
            last_findings=last.findings if last else 0,
            last_mended=last.mended if last else 0,
            damaged_tickets=damage.tickets,
            damaged_others=damage.others,
            flaws=tuple(
                Flaw(
                    each.part, each.first, each.count, each.object_id, each.place, each.reason,
                    each.raw,
                )
                for each in marks[: min(flaws, FLAWS_MAX)]
            ),
        )  # fmt: skip

    async def verified_ms(self, ranges: Sequence[tuple[int, int]]) -> tuple[int, ...]:
        """When tickets were read from the disk last, and found whole.

        Args:
            ranges: first ticket and how many.

        Returns:
            For each range a time since which all that is stored of it was verified, milliseconds
            since 1970; `NOT_VERIFIED` if a part came after the last pass, or is damaged;
            `UNKNOWN` if the layout cannot tell.
        """
        now, last = self._at.now, self._at.last
        passes = []
        if now is not None and now.cursor:
            passes.append((now.started_ms, now.stood, now.cursor))
        if last is not None:
            if not last.end:
                return (UNKNOWN,) * len(ranges)
            passes.append((last.started_ms, last.stood, last.end))
        damaged = [mark.finding for mark in self._engine.damage if mark.finding.of_tickets]

        def look() -> tuple[int, ...]:
            return tuple(
                NOT_VERIFIED
                if any(each.first < first + count and first < each.end for each in damaged)
                else self._looked_at(passes, first, count)
                for first, count in ranges
            )

        return await asyncio.get_running_loop().run_in_executor(self._readers, look)

    def _looked_at(
        self, passes: list[tuple[int, list[tuple[str, int]], str]], first: int, count: int
    ) -> int:
        for started_ms, stood, reached in passes:
            cursors = [*(cursor for cursor, _ in stood), reached]
            before = self._engine.looked_at(cursors, first, count)
            if before is not None:
                return (started_ms, *(at_ms for _, at_ms in stood))[before]
        return NOT_VERIFIED

    # -- the passes ------------------------------------------------------------------------

    async def _run(self) -> None:
        looked_again = False
        while True:
            self._wake.clear()
            try:
                if not looked_again:
                    await self._look_again()
                    looked_again = True
                now = self._at.now
                if now is not None and self._active(now):
                    await self._step(now)
                elif now is None and self._due():
                    await self._begin(demanded=False, rate=self._rate)
                else:
                    await self._pause(LOOK_S)
            except ShuttingDown:
                return
            except PutterError as error:
                _log.warning("the scrub cannot go on now", reason=str(error))
                await self._pause(LOOK_S)
            except Exception:  # noqa: BLE001 - a bug must not end all verification in silence
                _log.exception("the scrub failed unexpectedly")
                await self._pause(LOOK_S)

    def _active(self, now: Pass) -> bool:
        return now.demanded or self._rate > 0

    def _due(self) -> bool:
        if self._rate <= 0:
            return False
        last = self._at.last
        ended_ms = max(last.ended_ms if last is not None else 0, self._at.held_ms)
        return not ended_ms or self._clock.now_ms() - ended_ms >= self._period_ms

    async def _begin(self, *, demanded: bool, rate: int) -> None:
        self._at.number += 1
        self._engine.pass_number = self._at.number
        self._at.now = Pass(self._at.number, self._clock.now_ms(), demanded, rate)
        _log.info("scrub begins", number=self._at.number, demanded=demanded)
        await self._save()

    async def _step(self, now: Pass) -> None:
        """One piece, and the pause that the rate wants behind it."""
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        rate = now.rate if now.demanded else self._rate
        budget = rate // _PIECES_PER_S if rate else _PIECE_BYTES_MAX
        budget = min(max(budget, _PIECE_BYTES_MIN), _PIECE_BYTES_MAX)
        busy = self._committer.busy and not now.demanded
        self._reading = loop.run_in_executor(
            self._readers, self._engine.scrub, now.cursor, budget, self._check
        )
        piece = await asyncio.shield(self._reading)
        found = await self._mark(piece)
        if now is not self._at.now:
            return  # it was stopped, or begun anew
        self._count(now, piece, found)
        if not piece.cursor:
            await self._end(now, piece.end)
            return
        note_place(now, self._clock.now_ms())
        if loop.time() - self._saved_s >= SAVE_S:
            await self._save()
        took_s = loop.time() - started_s
        wanted_s = piece.verified_bytes / rate if rate else 0.0
        if not now.demanded:
            wanted_s = max(wanted_s, _REST * took_s) * (_BUSY if busy else 1)
        await self._pause(max(0.0, wanted_s - took_s))

    async def _mark(self, piece: Scrubbed) -> list[Finding]:
        """What is truly damaged, or was until now."""
        if not piece.findings:
            return []
        found = await self._committer.run(lambda _: self._engine.mark(piece.findings))
        for finding in found:
            self._metrics.scrub_findings.labels(finding.part.value).inc()
            if finding.mended:
                self._metrics.scrub_mended.labels(finding.part.value).inc()
        return found

    def _count(self, now: Pass, piece: Scrubbed, found: list[Finding]) -> None:
        now.cursor = piece.cursor
        now.verified_bytes += piece.verified_bytes
        now.findings += len(found)
        now.mended += sum(each.mended for each in found)
        now.blocked |= any(each.part is Part.INDEX and not each.mended for each in found)
        last = self._at.last
        now.total_bytes = piece.total_bytes
        if now.total_bytes is None and last is not None:
            now.total_bytes = last.verified_bytes
        self._metrics.scrubbed_bytes.inc(piece.verified_bytes)
        self._show()

    async def _end(self, now: Pass, end: str) -> None:
        self._at.last = LastPass(
            number=now.number,
            started_ms=now.started_ms,
            ended_ms=self._clock.now_ms(),
            verified_bytes=now.verified_bytes,
            findings=now.findings,
            mended=now.mended,
            stood=now.stood,
            end=end,
        )
        self._at.now = None
        if not now.blocked:
            # What this pass did not find again is whole by now, or gone.
            self._engine.damage.sweep(now.number)
        self._show()
        say = _log.error if now.findings > now.mended else _log.info
        say(
            "scrub ended",
            number=now.number,
            verified_bytes=now.verified_bytes,
            findings=now.findings,
            mended=now.mended,
            damaged_tickets=self._engine.damage.tickets,
        )
        await self._save()

    async def _look_again(self) -> None:
        """Marks outlive what they are about, if the node ended at the wrong moment."""
        loop = asyncio.get_running_loop()
        marks = list(self._engine.damage)
        for at in range(0, len(marks), _MARKS_AT_ONCE):
            some = marks[at : at + _MARKS_AT_ONCE]
            started_s = loop.time()
            await self._committer.run(lambda _, some=some: self._engine.look_again(some))  # type: ignore[misc]
            await asyncio.sleep(_REST * (loop.time() - started_s))

    # -- inside ----------------------------------------------------------------------------

    async def _save(self) -> None:
        """Keep the position; without it a pass only begins anew."""
        self._saved_s = asyncio.get_running_loop().time()
        note = msgspec.json.encode(self._at)
        try:
            await self._committer.run(lambda _: self._engine.notes.save(NOTE, note))
        except PutterError as error:
            _log.warning("the position of the scrub is not kept now", reason=str(error))

    async def _pause(self, seconds: float) -> None:
        """Wait, but not longer than until something was asked for."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    def _show(self) -> None:
        now, last = self._at.now, self._at.last
        done = 0.0
        if now is not None and now.total_bytes:
            done = min(1.0, now.verified_bytes / now.total_bytes)
        self._metrics.scrub_progress.set(done)
        self._metrics.scrub_completed_seconds.set(last.ended_ms / 1000 if last else 0)


async def answer_scrub(message: Scrub, scrubber: Scrubber) -> tuple[Message, Buffer]:
    """Start, stop or tell.

    Raises:
        ProtocolError: none of these.
    """
    match message.action:
        case "start":
            await scrubber.demand(message.rate)
        case "stop":
            await scrubber.halt()
        case "status":
            pass
        case _:
            raise ProtocolError(f"a scrub cannot {message.action[:20]!r}")
    return scrubber.told(message.request, message.flaws), b""
