"""Numbers under a ceiling, in Redis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common.meta.calls import Args, Calls
from common.meta.interface import CeilingReached, Ceilings, EpochUnknown, Granted, Kind
from common.meta.link import Command
from common.meta.schema import COUNTERS
from common.meta.scripts import script

Lease = Granted | CeilingReached | EpochUnknown


class _LeaseVerb:
    """Leases of one kind that are asked for in the same moment: one range, split."""

    registers = False
    absent = None

    def __init__(self, random_word: str) -> None:
        self._random_word = random_word

    def command(self, group: str, calls: Sequence[Args]) -> Command:
        total = sum(int(count) for (count,) in calls)
        return Command((1, COUNTERS, self._random_word, group, total), script("lease"))

    def results(self, reply: Any, calls: Sequence[Args]) -> Sequence[Lease]:
        word, *numbers = reply
        if word == b"unknown":
            return [EpochUnknown(numbers[0].decode())] * len(calls)
        if word == b"ceiling":
            epoch, wanted, *ceilings = numbers
            reached = CeilingReached(
                epoch.decode(), int(wanted), Ceilings(*(int(each) for each in ceilings))
            )
            return [reached] * len(calls)
        first = int(numbers[0])
        granted: list[Lease] = []
        for (count,) in calls:
            granted.append(Granted(first, int(count)))
            first += int(count)
        return granted


class RedisCounters:
    """`common.meta.interface.Counters` in Redis."""

    def __init__(self, calls: Calls, random_word: str) -> None:
        self._calls = calls
        self._random_word = random_word
        self._lease = _LeaseVerb(self._random_word)

    async def lease(self, kind: Kind, count: int) -> Lease:
        """Take ``count`` ≥ 1 consecutive numbers."""
        if count < 1:
            raise ValueError(f"a lease has at least one number, not {count}")
        lease: Lease = await self._calls.gather(self._lease, kind.value, (count,))
        return lease

    async def raise_to(self, epoch: str, ceilings: Ceilings) -> bool:
        """Lift the ceilings (never lowers one). False if the epoch is not the established one."""
        return await self._set("raise", epoch, ceilings)

    async def establish(self, epoch: str, floor: Ceilings) -> bool:
        """Lift counters and ceilings to the floor and accept the epoch, if it is the present."""
        return await self._set("establish", epoch, floor)

    async def _set(self, name: str, epoch: str, values: Ceilings) -> bool:
        words = (self._random_word, epoch, values.tickets, values.objects, values.stamps)
        return bool(await self._calls.run(Command((1, COUNTERS, *words), script(name))))
