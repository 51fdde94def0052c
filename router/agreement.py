"""One slice asked of several replicas at once, until enough of them hold the same bytes.

One sends them, the others verify them where they lie. Whoever fails, or does not answer for two
seconds, is replaced by the next one; if there is none, the slice goes without the late ones, unless
the policy is strict.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from common.errors import PutterError
from router.fetched import Fetched

LATE_S: Final = 2.0
"""After so long without an answer others are asked, as another putter takes over a write."""

Ask = Callable[[str, Fetched | None], Awaitable[bytes]]
"""Checksums of the slice at a node that holds it whole and right; its bytes go to the second."""


class Agreement:
    """One slice.

    Args:
        nodes: who can be asked, the best first.
        quorum: how many have to hold it.
        patient: whether late ones are waited for although the bytes are there.
        ask: asks one of them.
        late: told of one that does not answer in time.

    Attributes:
        piece: the bytes, verified; None until somebody has sent them.
        sums: by node, what those hold that answered.
        problems: why others could not be used, by node.
    """

    def __init__(
        self,
        nodes: Sequence[str],
        quorum: int,
        *,
        patient: bool,
        ask: Ask,
        late: Callable[[str], None],
    ) -> None:
        self.piece: Fetched | None = None
        self.sums: dict[str, bytes] = {}
        self.problems: dict[str, PutterError] = {}
        self._waiting = deque(nodes)
        self._quorum = quorum
        self._patient = patient
        self._ask = ask
        self._tell_late = late
        self._asked: dict[asyncio.Task[bytes], tuple[str, Fetched | None]] = {}
        self._late: set[asyncio.Task[bytes]] = set()

    async def reach(self) -> None:
        """Ask until enough hold it, or nobody is left to be asked."""
        try:
            while self.piece is None or len(self.sums) < self._quorum:
                self._ask_more()
                if not self._asked or (self._all_late and self.piece and not self._patient):
                    return
                timeout = None if self._all_late else LATE_S
                done, _ = await asyncio.wait(
                    self._asked, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    self._note_late()
                for task in done:
                    self._take(task)
        finally:
            for task in self._asked:
                task.cancel()
            await asyncio.gather(*self._asked, return_exceptions=True)

    # -- inside ----------------------------------------------------------------------------

    @property
    def _all_late(self) -> bool:
        return len(self._late) == len(self._asked)

    def _ask_more(self) -> None:
        """So many that it is enough if all of them hold it; one of them for the bytes."""
        in_time = [each for task, each in self._asked.items() if task not in self._late]
        sending = self.piece is not None or any(taken is not None for _, taken in in_time)
        lacking = self._quorum - len(self.sums) - len(in_time)
        while self._waiting and (lacking > 0 or not sending):
            self._start(self._waiting.popleft(), None if sending else Fetched())
            sending, lacking = True, lacking - 1
        if not sending and self.sums:
            # All others failed or are late: one that verified it sends it, too.
            node = next(iter(self.sums))
            del self.sums[node]
            self._start(node, Fetched())

    def _start(self, node: str, taken: Fetched | None) -> None:
        task = asyncio.ensure_future(self._ask(node, taken))
        self._asked[task] = node, taken

    def _take(self, task: asyncio.Task[bytes]) -> None:
        node, taken = self._asked.pop(task)
        self._late.discard(task)
        error = task.exception()
        if isinstance(error, PutterError):
            self.problems[node] = error
        elif error is not None:
            raise error
        else:
            self.sums[node] = task.result()
            if taken is not None and self.piece is None:
                self.piece = taken

    def _note_late(self) -> None:
        for task, (node, _) in self._asked.items():
            if task not in self._late:
                self._late.add(task)
                self._tell_late(node)
