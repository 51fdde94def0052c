"""The sign of life: registration, heartbeat with capacity, and what the register says to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from common.errors import PutterError
from common.limits import HEARTBEAT_MS, MEMBER_LOST_MS
from common.logs import get_logger
from common.membership import Refusal, Verdict
from common.meta.interface import Member, Members

_log = get_logger(__name__)


class Heartbeat:
    """Registers a member again and again until it leaves.

    One that is refused goes on asking: what it is refused for may end. One that was taken before,
    and hears that another process speaks for its node now, is `superseded` and asks no more.

    Args:
        members: where.
        describe: the member with fresh numbers; may read the disk's capacity.
        on_answer: called after each answer of the register.
    """

    def __init__(
        self,
        members: Members,
        describe: Callable[[], Member],
        on_answer: Callable[[], None] = lambda: None,
    ) -> None:
        self._members = members
        self._describe = describe
        self._on_answer = on_answer
        self._task: asyncio.Task[None] | None = None
        self._healthy = False
        self._admitted = False
        self._refusal = ""
        self._superseded = False
        self._unknown = 0

    @property
    def healthy(self) -> bool:
        """Whether the last sign of life arrived, and was taken."""
        return self._healthy

    @property
    def admitted(self) -> bool:
        """Whether a sign of life was taken, and none refused since."""
        return self._admitted

    @property
    def refusal(self) -> str:
        """Why the last one was refused; "" if it was not."""
        return self._refusal

    @property
    def superseded(self) -> bool:
        """Whether another process has taken the place of this one."""
        return self._superseded

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Leave: the others do not wait for us."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        if self._refusal:
            return  # it is another process that is registered, if any
        try:
            async with asyncio.timeout(HEARTBEAT_MS / 1000):
                member = self._describe()
                await self._members.leave(member.node, member.instance)
        except (PutterError, TimeoutError) as error:
            _log.warning("could not sign off", reason=str(error) or "no answer in time")

    async def _run(self) -> None:
        while not self._superseded:
            try:
                async with asyncio.timeout(MEMBER_LOST_MS / 1000):
                    member = self._describe()
                    verdict = await self._members.heartbeat(member, asks=self._asks)
            except (PutterError, TimeoutError) as error:
                if self._healthy:
                    reason = str(error) or f"no answer within {MEMBER_LOST_MS} ms"
                    _log.warning("no sign of life could be given", reason=reason)
                self._healthy = False
            except Exception:  # noqa: BLE001 - a node that gives no sign any more counts as dead
                _log.exception("a sign of life failed")
                self._healthy = False
            else:
                self._take(member, verdict)
                self._on_answer()
            await asyncio.sleep(HEARTBEAT_MS / 1000)

    @property
    def _asks(self) -> bool:
        """Whether to wait where nothing is known.

        The one that this process was refused for is given the time in which it would be lost.
        """
        return bool(self._refusal) and self._unknown * HEARTBEAT_MS <= MEMBER_LOST_MS

    def _take(self, member: Member, verdict: Verdict) -> None:
        """Remember an answer, and log what is new in it."""
        if verdict.taken:
            if not self._healthy:
                _log.info("registered")
            self._healthy = self._admitted = True
            self._refusal, self._unknown = "", 0
            return
        if verdict.refusal is Refusal.RECORDS and self._has_more_than(member):
            return  # Redis answered late, and knew more by then
        unknown = verdict.refusal is Refusal.UNKNOWN
        self._unknown = self._unknown + 1 if unknown else 0
        reason = verdict.explain(member.node, member.starts, member.records)
        if self._admitted and verdict.refusal is not None and verdict.refusal.ends:
            self._superseded = True
            _log.error("another process took the place of this one", reason=reason)
        elif reason != self._refusal:
            _log.error("refused by the register: nothing is served", reason=reason)
        self._refusal = reason
        self._healthy = self._admitted = False

    def _has_more_than(self, member: Member) -> bool:
        """Whether there are more commit records than this description says."""
        try:
            return self._describe().records > member.records
        except PutterError:
            return False
