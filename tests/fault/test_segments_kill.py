"""kill -9 at random moments under load, Redis wiped in between: segment stores lose nothing.

Three putters and two routers as real processes, and clients that write, overwrite, delete and
read. Each round kills some of them, or Valkey, or all, and in many rounds Valkey loses everything
it had; then it is brought back, by the routers or by `putter rebuild`. What was acknowledged is
there byte for byte, what was deleted or overwritten does not come back, not even for a moment.

With ``PUTTER_SOAK=1``: 200 rounds, half of them on small disks, where segments are compacted.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.books_kit import Traffic, no_traceback, small_disk, traffic
from tests.store_kit import Cluster, Process, cluster, eventually
from tests.traffic_kit import SOAK, putter

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800 if SOAK else 180)]
_log = logging.getLogger(__name__)
MIB = 1024 * 1024
PUTTERS = 3
DISK_BYTES = 1024 * MIB
ROUNDS = 20 if SOAK else 3
CHECK_EVERY = 5 if SOAK else 3
SEEDS = {"auto": range(7 if SOAK else 1), "manual": range(3 if SOAK else 1)}
FLAGS = ("--grace-ms", "200", "--rebuild")


@dataclass
class Calamity:
    """What happens to a store under load.

    Attributes:
        store: to this one.
        rng: when, and to whom.
        by_hand: whether `putter rebuild` brings a Redis back that lost everything.
    """

    store: Cluster
    rng: random.Random
    by_hand: bool

    def happen(self, kind: str) -> None:
        """One round; everything runs again when this returns."""
        KINDS[kind](self)

    # -- kinds -----------------------------------------------------------------------------

    def a_putter(self) -> None:
        self._restart([self.rng.choice(self.store.putters)])

    def some_putters(self) -> None:
        self._restart(self.rng.sample(self.store.putters, 2))

    def a_router(self) -> None:
        self._restart([self.rng.choice(self.store.routers)])

    def valkey(self) -> None:
        self.store.valkey.kill()
        self._pause()
        self.store.valkey.start()

    def everything(self) -> None:
        self._everything(wiped=False)

    def everything_wiped(self) -> None:
        self._everything(wiped=True)
        self._bring_back()

    def valkey_wiped(self) -> None:
        self.store.valkey.kill()
        self.store.valkey.forget()
        self._pause()
        self.store.valkey.start()
        self._bring_back()

    def flushed(self) -> None:
        self._flush()
        self._bring_back()

    def flushed_without_a_putter(self) -> None:
        """What the one that is away holds has to be waited for."""
        away = self.rng.choice(self.store.putters)
        away.kill()
        self._flush()
        self._pause()
        away.start()
        self._bring_back()

    def killed_while_it_is_brought_back(self) -> None:
        self._flush()
        command = self._start_rebuild() if self.by_hand else None
        self._pause()
        if command is not None:
            command.kill()
            command.wait()
        again = self.rng.random() < 0.5
        if again:
            self._flush()
        self._restart([self.rng.choice(self.store.processes)])
        self._bring_back(refused=again)  # else the command may have come to its end

    # -- inside ----------------------------------------------------------------------------

    def _pause(self) -> None:
        time.sleep(self.rng.uniform(0.0, 1.0))

    def _restart(self, processes: list[Process]) -> None:
        for process in processes:
            process.kill()
        self._pause()
        for process in processes:
            process.start()

    def _everything(self, wiped: bool) -> None:
        processes = self.store.processes
        for process in processes:
            process.signal(signal.SIGKILL)
        self.store.valkey.kill()
        if wiped:
            self.store.valkey.forget()
        for process in processes:
            process.wait(10)
        self.store.valkey.start()
        for process in self.rng.sample(processes, len(processes)):
            process.start()

    def _flush(self) -> None:
        assert self.store.valkey.ask("FLUSHALL") == "+OK\r\n"

    def _bring_back(self, *, refused: bool = True) -> None:
        """See to it that Redis knows everything again; until then everything is refused."""
        if not self.by_hand:
            return
        for router in range(len(self.store.routers)):
            self.store.wait_ready(router)
            if not refused:
                continue
            status, _, body = self.store.http("GET", "/file/photos/none", router=router)
            assert status == 503, body
            assert "putter rebuild" in json.loads(body)["hint"]
        self.rebuild()

    def rebuild(self, *flags: str) -> None:
        """`putter rebuild`, to its end."""
        ended = putter(self.store, *self._words(), *flags)
        assert ended.code == 0, ended.err
        told = ended.told
        assert told["complete"]
        assert (told["conflicts"], told["damaged"], told["unknown"]) == (0, 0, 0), told

    def _start_rebuild(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.store.command(*self._words()),
            cwd=self.store.directory,
            env=self.store.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _words(self) -> tuple[str, ...]:
        key = str(self.store.directory / "cluster.key")
        return (
            *("rebuild", "--redis", self.store.valkey.url, "--key-file", key),
            *("--wait", "30", "--json"),
        )


KINDS: dict[str, Callable[[Calamity], None]] = {
    "a putter": Calamity.a_putter,
    "some putters": Calamity.some_putters,
    "a router": Calamity.a_router,
    "valkey": Calamity.valkey,
    "everything": Calamity.everything,
    "everything, wiped": Calamity.everything_wiped,
    "valkey, wiped": Calamity.valkey_wiped,
    "flushed": Calamity.flushed,
    "flushed without a putter": Calamity.flushed_without_a_putter,
    "killed while it is brought back": Calamity.killed_while_it_is_brought_back,
}


def rounds(rng: random.Random, by_hand: bool) -> list[str]:
    """What happens, in order."""
    if SOAK:
        return [rng.choice(sorted(KINDS)) for _ in range(ROUNDS)]
    if by_hand:
        return ["flushed", "everything, wiped"]
    return ["a putter", "everything, wiped", "killed while it is brought back"]


def compare(store: Cluster, clients: Traffic, router: int) -> None:
    """The books and the store, once everything is well."""
    for number in range(len(store.routers)):
        store.wait_ready(number)
        eventually(lambda number=number: store.http("GET", "/readyz", router=number)[0] == 200, 60)
    clients.check(router)


@pytest.mark.parametrize(
    ("mode", "seed"), [(mode, seed) for mode, seeds in SEEDS.items() for seed in seeds]
)
def test_nothing_is_lost_and_nothing_comes_back(tmp_path: Path, mode: str, seed: int) -> None:
    rng = random.Random(f"{mode}/{seed}")
    home = tmp_path / "s"
    by_hand = mode == "manual"
    with contextlib.ExitStack() as stack:
        for number in range(PUTTERS if seed % 2 else 0):
            stack.enter_context(small_disk(home / f"node{number}", DISK_BYTES))
        store = stack.enter_context(
            cluster(
                home,
                putters=PUTTERS,
                routers=2,
                storage="segments",
                replicas=2,
                router_flags=(*FLAGS, mode),
            )
        )
        calamity = Calamity(store, rng, by_hand)
        clients = stack.enter_context(traffic(store, seed, (0, 1), deletes=True))
        for number, kind in enumerate(rounds(rng, by_hand), 1):
            clients.wait_for_more(rng.randint(20, 60))
            _log.warning("round %d of %s/%d: %s", number, mode, seed, kind)
            calamity.happen(kind)
            if number % CHECK_EVERY == 0:
                clients.wait_for_more(20)
                clients.stop()
                compare(store, clients, number % 2)
                clients.start()
        clients.wait_for_more(20)
        clients.stop()
        compare(store, clients, 0)
        # Once more from nothing but the putters, and with everything read.
        calamity.flushed()
        compare(store, clients, 1)
        calamity.rebuild("--all")
        compare(store, clients, 0)
        assert clients.reads > 10
        no_traceback(store)
