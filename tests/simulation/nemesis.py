"""Everything that may happen to a simulated cluster, chosen by a seed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from tests.simulation.cluster import Cluster, SimPutter, SimRouter
from tests.simulation.oracle import LOOK_S, healed, records_are_redundant

AWAY_S = (0.01, 0.5, 4.0, 9.0, 30.0)
"""How long a process or a line is away: from unnoticed to replaced."""
REDUNDANT_S = 400.0
_SETTLING_S = 5.0
"""For resets that are on their way, and connections in their place."""


@dataclass
class Gate:
    """Lets clients pass, or waits until none is on its way."""

    open: asyncio.Event = field(default_factory=asyncio.Event)
    inside: int = 0

    async def __aenter__(self) -> None:
        await self.open.wait()
        self.inside += 1

    async def __aexit__(self, *_: object) -> None:
        self.inside -= 1

    async def close(self) -> None:
        """Return once nobody is inside; nobody comes in until it is opened."""
        self.open.clear()
        while self.inside:
            await asyncio.sleep(0.1)


class Nemesis:
    """Makes things go wrong, one after the other.

    Args:
        cluster: what suffers.
        rng: chooses.
        gate: of the clients.
        wipes: how many disks may be lost in all, each from a cluster that is redundant.
        forgets: whether the coordinator may lose what it knows.
    """

    def __init__(
        self, cluster: Cluster, rng: random.Random, gate: Gate, *, wipes: int, forgets: bool
    ) -> None:
        self._cluster = cluster
        self._rng = rng
        self._gate = gate
        self._wipes = wipes
        self._gone: list[str] = []
        self._calamities: list[Callable[[], Awaitable[None]]] = [
            self._crash_putter,
            self._crash_putter,
            self._crash_all_putters,
            self._crash_router,
            self._cut,
            self._partition,
            self._partition,
            self._stall,
            self._slow,
            self._isolate,
            self._away_from_the_coordinator,
            self._lose_answers,
            self._coordinator_away,
        ]
        if forgets:
            self._calamities += [self._forget_a_little, self._forget_a_little, self._forget_all]
        if wipes:
            self._calamities += [self._wipe, self._wipe]
        if cluster.policy.replicas < len(cluster.putters):
            self._calamities.append(self._want_more)

    async def rage(self, calamities: int) -> None:
        """So many of them; everything is there again, and can be reached, afterwards."""
        for _ in range(calamities):
            await asyncio.sleep(self._rng.uniform(0.05, 2.0))
            await self._rng.choice(self._calamities)()
        await self.heal()
        await asyncio.sleep(_SETTLING_S)

    async def heal(self) -> None:
        """Start what is down, join what is cut."""
        self._cluster.network.heal()
        for process in (*self._cluster.putters, *self._cluster.routers):
            if process.view is not None:
                process.view.mute = process.view.deaf = False
        for putter in self._cluster.putters:
            if putter.node is None:
                await self._cluster.start_putter(putter)
        for router in self._cluster.routers:
            if router.router is None:
                await self._cluster.start_router(router)

    async def operate(self) -> None:
        """What an operator does who sees that a lost disk is waited for."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self._gone and await self._cluster.give_up(self._gone[0]):
                self._gone.pop(0)

    # -- inside ----------------------------------------------------------------------------

    def _some(self) -> tuple[SimRouter, SimPutter]:
        return self._rng.choice(self._cluster.routers), self._rng.choice(self._cluster.putters)

    async def _wait(self) -> None:
        await asyncio.sleep(self._rng.choice(AWAY_S) * self._rng.uniform(0.5, 1.5))

    async def _crash_putter(self) -> None:
        _, victim = self._some()
        if victim.node is not None:
            await self._cluster.crash_putter(victim)
            await self._wait()
            await self._cluster.start_putter(victim)

    async def _crash_all_putters(self) -> None:
        for victim in self._cluster.putters:
            if victim.node is not None:
                await self._cluster.crash_putter(victim)
        await self._wait()
        for victim in self._cluster.putters:
            await asyncio.sleep(self._rng.uniform(0, 0.5))
            await self._cluster.start_putter(victim)

    async def _crash_router(self) -> None:
        victim, _ = self._some()
        if victim.router is not None:
            await self._cluster.crash_router(victim)
            await asyncio.sleep(self._rng.choice((0.01, 1.0, 12.0)))
            await self._cluster.start_router(victim)

    async def _cut(self) -> None:
        one, other = self._some()
        cut = self._cluster.network.cut(one.name, other.name)
        self._cluster.note(f"cut {cut} connections of {one.name} and {other.name}")

    async def _partition(self) -> None:
        ends = [each.name for each in self._some()]
        self._rng.shuffle(ends)
        one, other = ends
        one_way = self._rng.random() < 0.5
        self._cluster.note(f"partition {one} {'→' if one_way else '↔'} {other}")
        self._cluster.network.partition(one, other, one_way=one_way)
        await self._wait()
        self._cluster.network.heal()

    async def _stall(self) -> None:
        one, other = self._some()
        stuck = self._cluster.network.stall(one.name, other.name)
        self._cluster.note(f"stall {stuck} connections of {one.name} and {other.name}")
        await self._wait()
        self._cluster.network.heal()

    async def _slow(self) -> None:
        ends = [each.name for each in self._some()]
        self._rng.shuffle(ends)
        self._cluster.note(f"slow {ends[0]} → {ends[1]}")
        self._cluster.network.slow_down(ends[0], ends[1], self._rng.choice((0.05, 0.5, 3.0)))
        await self._wait()
        self._cluster.network.heal()

    async def _isolate(self) -> None:
        """One process is cut off from everybody, the coordinator too, in one direction or both."""
        victim = self._rng.choice([*self._some()])
        others = self._cluster.routers if isinstance(victim, SimPutter) else self._cluster.putters
        way = self._rng.choice(("mute", "deaf", "cut off"))
        self._cluster.note(f"{victim.name} is {way}")
        for other in others:
            if way != "deaf":
                self._cluster.network.partition(victim.name, other.name, one_way=True)
            if way != "mute":
                self._cluster.network.partition(other.name, victim.name, one_way=True)
        await self._without_coordinator(victim, mute=way != "deaf", deaf=way != "mute")
        self._cluster.network.heal()

    async def _away_from_the_coordinator(self) -> None:
        victim = self._rng.choice([*self._some()])
        mute = self._rng.random() < 0.5
        self._cluster.note(f"{victim.name} is {'mute' if mute else 'deaf'} to the coordinator")
        await self._without_coordinator(victim, mute=mute, deaf=not mute)

    async def _without_coordinator(
        self, victim: SimPutter | SimRouter, *, mute: bool, deaf: bool
    ) -> None:
        view = victim.view
        if view is not None:
            view.mute, view.deaf = mute, deaf
            await self._wait()
            view.mute = view.deaf = False

    async def _lose_answers(self) -> None:
        self._cluster.meta.lose_answers(self._rng.randrange(1, 4))

    async def _coordinator_away(self) -> None:
        self._cluster.meta.fail_for(self._rng.randrange(10, 3_000))
        self._cluster.restart_coordinator()

    async def _forget_a_little(self) -> None:
        await self._cluster.lose_last_seconds(self._rng.uniform(0.05, 3.0))

    async def _forget_all(self) -> None:
        self._cluster.lose_everything(same_run=self._rng.random() < 0.3)

    async def _want_more(self) -> None:
        """Routers are killed, and come back with a larger N, one after the other."""
        policy = self._cluster.policy
        if policy.replicas == len(self._cluster.putters):
            return
        self._cluster.policy = replace(policy, replicas=policy.replicas + 1)
        self._cluster.note(f"the store wants {policy.replicas + 1} replicas")
        for router in self._cluster.routers:
            if router.router is not None:
                await self._cluster.crash_router(router)
            await asyncio.sleep(self._rng.uniform(0, 0.5))
            await self._cluster.start_router(router)

    async def _wipe(self) -> None:
        """A disk is lost, while every acknowledged byte is on another one, too."""
        if not self._wipes:
            return
        await self._gate.close()
        await self.heal()
        await healed(self._cluster, REDUNDANT_S)
        self._wipes -= 1
        if not records_are_redundant(self._cluster):
            self._cluster.note("no disk may be lost")
            self._gate.open.set()
            return
        _, victim = self._some()
        lost = victim.identity
        await self._cluster.wipe_putter(victim)
        self._gate.open.set()
        await self._wait()
        self._gone.append(lost)
        await self._cluster.start_putter(victim)
