"""A cluster of real processes under mixed load, while one thing after the other goes wrong.

Four putters, two routers and Valkey are killed with -9, stopped with SIGSTOP, cut off in both
directions or in one, restarted, and wiped; sixteen clients note what they ask for and hear. After
every round the history is judged (`tests/history_kit.py`), and in the end everything is on two
putters again. Wires are cut by relays between the processes, and by packet filters where network
namespaces are permitted. `PUTTER_ROUNDS` and `PUTTER_SEED_FIRST` run more rounds and another seed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chaos_kit import (
    ChaosCluster,
    Clients,
    NamespaceWires,
    Node,
    RelayWires,
    Wires,
)
from tests.netns_kit import namespaces, why_not
from tests.relay_kit import can_listen_on
from tests.traffic_kit import SOAK

pytestmark = [pytest.mark.slow, pytest.mark.timeout(6 * 3600 if SOAK else 900)]
_log = logging.getLogger(__name__)
PUTTERS, ROUTERS = 4, 2
ROUNDS = int(os.environ.get("PUTTER_ROUNDS", "0")) or (100 if SOAK else 3)
SEED = int(os.environ.get("PUTTER_SEED_FIRST", "0"))
HEALED_S = 480.0


@contextlib.contextmanager
def running(directory: Path, wires: Wires) -> Iterator[ChaosCluster]:
    with wires.here():
        store = ChaosCluster(directory, wires, putters=PUTTERS, routers=ROUTERS)
        try:
            store.start()
            yield store
        finally:
            store.stop()


class Round:
    """One calamity, chosen by chance or in turn, while the clients go on.

    Args:
        store: what suffers.
        clients: who suffer.
        rng: chooses.
    """

    def __init__(self, store: ChaosCluster, clients: Clients, rng: random.Random) -> None:
        self._store = store
        self._clients = clients
        self._rng = rng
        self.all: list[Callable[[], str]] = [
            self.kill_putter,
            self.cut_putter,
            self.stop_router,
            self.kill_router,
            self.cut_router,
            self.stop_putter,
            self.kill_valkey,
            self.stop_valkey,
            self.kill_everything,
            self.wipe_putter,
            self.forget,
        ]

    def kill_putter(self) -> str:
        return self._kill(self._rng.choice(self._store.putters))

    def kill_router(self) -> str:
        return self._kill(self._rng.choice(self._store.routers))

    def stop_putter(self) -> str:
        return self._freeze(self._rng.choice(self._store.putters))

    def stop_router(self) -> str:
        return self._freeze(self._rng.choice(self._store.routers))

    def cut_putter(self) -> str:
        return self._cut(self._rng.randrange(PUTTERS))

    def cut_router(self) -> str:
        return self._cut(PUTTERS + self._rng.randrange(ROUTERS))

    def kill_valkey(self) -> str:
        self._store.valkey.kill()
        time.sleep(self._rng.uniform(0.0, 2.0))
        self._store.valkey.start()
        return "kill Valkey"

    def stop_valkey(self) -> str:
        os.kill(self._store.valkey.pid, signal.SIGSTOP)
        time.sleep(self._rng.uniform(0.5, 4.0))
        os.kill(self._store.valkey.pid, signal.SIGCONT)
        return "stop Valkey"

    def kill_everything(self) -> str:
        for node in self._store.nodes:
            node.process.kill()
        self._store.valkey.kill()
        self._store.valkey.start()
        for node in self._store.nodes:
            node.process.start()
        return "kill everything"

    def wipe_putter(self) -> str:
        """A disk is lost, once all that was acknowledged is on another one, too."""
        self._clients.stop()
        self._store.wait_ready()
        self._store.wait_redundant(HEALED_S)
        victim = self._rng.choice(self._store.putters)
        self._store.wipe(victim)
        self._clients.start()
        self._clients.wait_for_more(100)
        victim.process.start()
        return f"wipe {victim.process.name}"

    def forget(self) -> str:
        """Valkey loses everything; putters whose disks were lost are not waited for."""
        self._store.forget()
        self._store.valkey.start()
        if self._store.wiped:
            self._store.rebuild_without(self._store.wiped)
        return "wipe Valkey"

    # -- inside ----------------------------------------------------------------------------

    def _kill(self, node: Node) -> str:
        node.process.kill()
        time.sleep(self._rng.uniform(0.0, 3.0))
        node.process.start()
        return f"kill {node.process.name}"

    def _freeze(self, node: Node) -> str:
        node.process.signal(signal.SIGSTOP)
        time.sleep(self._rng.uniform(1.0, 6.0))
        node.process.signal(signal.SIGCONT)
        return f"stop {node.process.name}"

    def _cut(self, number: int) -> str:
        incoming, outgoing = self._rng.choice(((True, True), (True, False), (False, True)))
        self._store.wires.cut(number, incoming=incoming, outgoing=outgoing)
        time.sleep(self._rng.uniform(1.0, 6.0))
        self._store.wires.heal()
        return f"cut {self._store.nodes[number].process.name}, {incoming=}, {outgoing=}"


def live_through(store: ChaosCluster, seed: int, rounds: int) -> list[str]:
    """Rounds of calamities; what happened.

    Raises:
        AssertionError: a promise was broken.
    """
    rng = random.Random(seed)
    clients = Clients(store, seed)
    told: list[str] = []
    each = Round(store, clients, rng)
    try:
        clients.start()
        for number in range(rounds):
            clients.wait_for_more(rng.randint(60, 200))
            turn = each.all[number] if number < 2 else rng.choice(each.all)
            began_s = time.monotonic()
            told.append(turn())
            clients.wait_for_more(rng.randint(60, 200))
            clients.stop()
            store.wait_ready()
            clients.settle()
            _log.info("%s; healed and judged after %.0f s", told[-1], time.monotonic() - began_s)
            clients.start()
        clients.stop()
        store.wait_redundant(HEALED_S)
        clients.settle()
        clients.check_raw()
        assert clients.raw
    except BaseException as error:
        clients._stopping.set()
        error.add_note(f"seed {seed}, after {told}")
        for node in store.nodes:
            error.add_note(f"--- {node.process.name}\n{node.process.tail()}")
        raise
    for node in store.nodes:
        assert "Traceback" not in node.process.text(), node.process.name
    return told


@pytest.mark.skipif(not can_listen_on("127.0.1.1"), reason="only 127.0.0.1 is local here")
def test_a_cluster_lives_through_everything(tmp_path: Path) -> None:
    wires = RelayWires()
    try:
        with running(tmp_path, wires) as store:
            told = live_through(store, SEED, ROUNDS)
            assert len(told) == ROUNDS
    finally:
        wires.close()


def test_a_cluster_in_network_namespaces_lives_through_everything(tmp_path: Path) -> None:
    if reason := why_not():
        pytest.skip(reason)
    with (
        namespaces(PUTTERS + ROUTERS) as made,
        running(tmp_path, NamespaceWires(made)) as store,
    ):
        told = live_through(store, SEED + 1, ROUNDS)
        assert len(told) == ROUNDS
