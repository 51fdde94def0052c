"""Seeded chaos on a whole cluster: names are written, overwritten, deleted and read while links,
processes, disks and the coordinator fail; then everything heals, and every promise is checked.

Each seed is one history, as in `test_write_path`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog

from common.checksum import object_digest
from common.errors import NotFound, PreconditionFailed, PutterError
from common.limits import KIB
from common.records import KEYS_BUCKET, AccessKey
from common.sealing import unseal
from router.ahead import Ahead
from router.app import Router
from router.quorum import Policy
from router.rights import Wanted
from router.targets import Target
from tests import history_kit
from tests.history_kit import FOREIGN, NOTHING, Kind, Op, wrongs
from tests.simulation import oracle
from tests.simulation.cluster import KEY, Cluster, SimRouter
from tests.simulation.loop import World, run
from tests.simulation.nemesis import Gate, Nemesis

SEEDS = range(
    int(os.environ.get("PUTTER_SEED_FIRST", "0")),
    int(os.environ.get("PUTTER_SEEDS", "0")) or (3_000 if os.environ.get("PUTTER_SOAK") else 120),
)
BUCKET = "bucket"
NAMES = 5
CLIENTS = 5
STEPS = 10
CALAMITIES = 6
SIZES = (16, 100, 8 * KIB - 1, 8 * KIB, 8 * KIB + 1, 40_000, 1_300_000)
"""The last one travels as several runs, the first ones together with others."""
RAW_SIZES = (16, 100, 8 * KIB, *SIZES)
FRAME_BYTES = 8 * KIB
HEALING_S = 900.0
SHAPES = (
    (Policy(2, 2), 3),
    (Policy(2, 2, read_quorum=2), 4),
    (Policy(3, 2), 4),
    (Policy(2, 1), 3),
    (Policy(3, 3), 3),
    (Policy(1, 1), 1),
)


@dataclass
class Life:
    """What the clients did and heard."""

    history: history_kit.History = field(default_factory=history_kit.History)
    contents: dict[str, bytes] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    raw: dict[str, bytes] = field(default_factory=dict)
    empty: set[str] = field(default_factory=set)
    stamps: set[int] = field(default_factory=set)
    settings: dict[int, dict[str, Any]] = field(default_factory=dict)
    keys: dict[str, AccessKey] = field(default_factory=dict)
    secrets: dict[bytes, str] = field(default_factory=dict)

    def new(self, rng: random.Random, size: int) -> tuple[str, bytes]:
        data = rng.randbytes(size)
        value = object_digest(data).hex()
        self.contents[value] = data
        return value, data


class Client:
    """Does one thing after the other.

    Args:
        cluster: with whom.
        life: notes it all.
        rng: chooses.
        gate: is passed before each.
        name: of the client.
    """

    def __init__(
        self, cluster: Cluster, life: Life, rng: random.Random, gate: Gate, name: str
    ) -> None:
        self._cluster = cluster
        self._life = life
        self._rng = rng
        self._gate = gate
        self._name = name

    async def live(self) -> None:
        for _ in range(STEPS):
            async with self._gate:
                router = self._rng.choice(self._cluster.routers)
                key = f"name-{self._rng.randrange(NAMES)}"
                dice = self._rng.random()
                if dice < 0.38:
                    await self._put(router, key)
                elif dice < 0.52:
                    await self._delete(router, key)
                elif dice < 0.84:
                    await self.get(router, key)
                elif dice < 0.94:
                    await self._stream(router)
                elif dice < 0.96:
                    await self._configure(router)
                elif dice < 0.98:
                    await self._change_key(router)
                else:
                    await self._empty(router)
            await asyncio.sleep(self._rng.uniform(0, 1.0))

    async def get(self, router: SimRouter, key: str) -> None:
        """All of it, or a part."""
        op = self._ask(Kind.GET, router, key)

        async def read(inside: Router) -> str:
            version = await inside.reads.resolve(BUCKET, key)
            start, end = 0, version.size
            if self._rng.random() < 0.3:
                start, end = sorted(self._rng.randrange(version.size + 1) for _ in range(2))
            pieces = [bytes(p) async for p in inside.reads.stream(version, start, end)]
            value = version.objects[0].blake3.hex()
            known = self._life.contents.get(value, b"")[start:end]
            return value if b"".join(pieces) == known else FOREIGN

        try:
            value = await self._cluster.call(router, read)
        except NotFound as error:
            if "there is no file" in str(error):
                history_kit.done(op, self._now(), NOTHING)
        except PutterError as error:
            self._cluster.note(f"{op}: {error.code}")
        else:
            if value is not None:
                history_kit.done(op, self._now(), value)
        self._cluster.note(str(op))

    # -- inside ----------------------------------------------------------------------------

    async def _put(self, router: SimRouter, key: str) -> None:
        value, data = self._life.new(self._rng, self._rng.choice(SIZES))
        target, expected = Target(BUCKET, key), None
        if self._rng.random() < 0.3:
            expected = self._rng.choice((NOTHING, *list(self._life.etags)[-3:]))
            target = Target(BUCKET, key, if_match=self._life.etags.get(expected, ""))
        op = self._ask(Kind.PUT, router, key, value, expected)
        try:
            written = await self._cluster.write(router, data, target)
        except PreconditionFailed:
            history_kit.refused(op, self._now())
        except PutterError as error:
            self._cluster.note(f"{op}: {error.code}")
        else:
            if written is not None:
                history_kit.done(op, self._now())
                self._note_stamp(written.version.stamp)
                self._life.etags[value] = written.version.etag
        self._cluster.note(str(op))

    async def _delete(self, router: SimRouter, key: str) -> None:
        op = self._ask(Kind.DELETE, router, key)
        try:
            found = await self._cluster.call(router, lambda r: r.writes.delete(BUCKET, key))
        except PutterError as error:
            self._cluster.note(f"{op}: {error.code}")
        else:
            if found is not None:
                history_kit.done(op, self._now())
                op.kind = Kind.DELETE if found else Kind.GET
        self._cluster.note(str(op))

    async def _stream(self, router: SimRouter) -> None:
        """Raw streams, some at the same time, some soon after: of these the first are announced."""
        for _ in range(self._rng.choice((1, 6, 12))):
            together = self._rng.choice((1, 1, 4))
            await asyncio.gather(*(self._send(router) for _ in range(together)))
            await asyncio.sleep(self._rng.choice((0, 0, 0.05, 0.3, 0.6)))

    async def _send(self, router: SimRouter) -> None:
        _, data = self._life.new(self._rng, self._rng.choice(RAW_SIZES))
        words = (await self._cluster.send(router, data)).split()
        if words[:3] == ["OBJECT", "WRITTEN", "OK"]:
            assert words[3] not in self._life.raw, "an ObjectID was given twice"
            self._life.raw[words[3]] = data
        self._cluster.note(" ".join(words))

    async def _configure(self, router: SimRouter) -> None:
        """Another number of replicas for the bucket, more than the store's or the same."""
        policy, putters = self._cluster.policy, len(self._cluster.putters)
        more = self._rng.choice((None, min(policy.replicas + 1, putters)))
        verified = self._rng.choice((None, policy.replicas))
        changes = {"replicas": more, "read_quorum": verified, self._name: self._rng.random()}
        try:
            done = await self._cluster.call(router, lambda r: r.configure.change(BUCKET, changes))
        except PutterError as error:
            self._cluster.note(f"settings: {error.code}")
        else:
            if done is not None:
                self._note_stamp(done.record.stamp)
                self._life.settings[done.record.stamp] = done.record.settings

    async def _change_key(self, router: SimRouter) -> None:
        """Make the client's own access key, or give it another secret, or take it away."""
        name, secret = f"key-of-{self._name}", f"secret-{self._rng.randrange(1 << 30)}"
        verb = self._rng.choice(("create", "create", "rotate", "delete"))

        async def change(inside: Router) -> AccessKey:
            if verb == "create":
                return (await inside.access_keys.create(Wanted(name, secret))).record
            if verb == "rotate":
                return (await inside.access_keys.rotate(name, secret)).record
            return await inside.access_keys.delete(name)

        try:
            record = await self._cluster.call(router, change)
        except PutterError as error:
            self._cluster.note(f"{verb} {name}: {error.code}")
        else:
            if record is not None:
                self._note_stamp(record.stamp)
                self._life.keys[name] = record
                if record.sealed:
                    self._life.secrets[record.sealed] = secret
            self._cluster.note(f"{verb} {name}")

    async def _empty(self, router: SimRouter) -> None:
        key = f"empty-{self._name}-{self._rng.randrange(1 << 30)}"
        target = Target("empties", key, empty_allowed=True)
        try:
            written = await self._cluster.write(router, b"", target)
        except PutterError as error:
            self._cluster.note(f"{key}: {error.code}")
        else:
            if written is not None:
                self._note_stamp(written.version.stamp)
                self._life.empty.add(key)

    def _note_stamp(self, stamp: int) -> None:
        assert stamp not in self._life.stamps, f"stamp {stamp} was given twice"
        self._life.stamps.add(stamp)

    def _ask(
        self,
        kind: Kind,
        router: SimRouter,
        key: str,
        value: str = NOTHING,
        expected: str | None = None,
    ) -> Op:
        who = f"{self._name} by {router.name}"
        return self._life.history.ask(self._now(), kind, key, value, expected=expected, who=who)

    def _now(self) -> float:
        return self._cluster.world.loop.time()


async def scenario(world: World, seed: int) -> tuple[Life, list[str]]:
    policy, putters = SHAPES[seed % len(SHAPES)]
    rng = world.random
    cluster = Cluster(
        world,
        putters=putters,
        routers=2 + seed % 2,
        policy=policy,
        storage="tree" if seed % 4 == 3 else "segments",
        frame_bytes=FRAME_BYTES,
        replace_after_ms=20_000,
        reach_ms=60_000,
    )
    with told(cluster, seed):
        await cluster.start()
        life, gate = Life(), Gate()
        gate.open.set()
        wipes = min(policy.write_quorum, policy.replicas) - 1
        nemesis = Nemesis(
            cluster, random.Random(rng.random()), gate, wipes=wipes, forgets=seed % 3 != 0
        )
        operator = asyncio.create_task(nemesis.operate())
        clients = [
            Client(cluster, life, random.Random(rng.random()), gate, f"client{n}")
            for n in range(CLIENTS)
        ]
        await asyncio.gather(nemesis.rage(CALAMITIES), *(client.live() for client in clients))
        await oracle.healed(cluster, HEALING_S, records_too=True)
        await check(cluster, life, clients[0])
        # Once more, with nothing in the way: the putters alone know everything.
        cluster.lose_everything(same_run=False)
        await oracle.healed(cluster, HEALING_S, records_too=True)
        await check(cluster, life, clients[0])
        operator.cancel()
        await asyncio.gather(operator, return_exceptions=True)
        assert operator.cancelled(), operator.exception()
        await cluster.stop()
        oracle.check_disks(cluster)
    return life, cluster.trace


async def check(cluster: Cluster, life: Life, reader: Client) -> None:
    """The promises, after everything has come back."""
    oracle.check_replicas(cluster)
    oracle.check_numbers(cluster)
    for router in cluster.routers:
        for n in range(NAMES):
            await reader.get(router, f"name-{n}")
        unread = [str(op) for op in life.history.ops[-NAMES:] if op.outcome != "done"]
        assert not unread, unread
    found = wrongs(life.history.ops)
    assert not found, "\n".join(found)
    names = {v.key: v for v in oracle.held(cluster.meta.snapshot())}
    for key, data in life.raw.items():
        assert names[key].objects[0].blake3 == object_digest(data)
    assert life.empty <= names.keys()
    if life.settings:
        kept = cluster.meta.snapshot().buckets[BUCKET].settings
        latest = max(life.settings)
        assert kept is not None
        assert kept.stamp >= latest, "a change of settings was lost"
        assert kept.stamp > latest or kept.settings == life.settings[latest]
    known = cluster.meta.snapshot().bucket(KEYS_BUCKET).access
    for name, record in life.keys.items():
        assert known[name].stamp >= record.stamp, "a change of an access key was lost"
        assert known[name].stamp > record.stamp or known[name] == record
        if known[name].sealed in life.secrets:
            secret = unseal(KEY, name, known[name].sealed)
            assert secret == life.secrets[known[name].sealed]


@contextmanager
def told(cluster: Cluster, seed: int) -> Iterator[None]:
    """Say what happened, and how it happens again."""
    try:
        yield
    except BaseException as error:
        error.add_note("\n".join(cluster.trace))
        error.add_note(
            f"again: PUTTER_SEED_FIRST={seed} PUTTER_SEEDS={seed + 1} PUTTER_SIMULATION_LOG=1 "
            ".venv/bin/python -m pytest -p no:randomly tests/simulation/test_cluster.py "
            "-k every_promise"
        )
        raise


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Lines that nobody reads cost a third of the time; PUTTER_SIMULATION_LOG=1 shows them."""
    if os.environ.get("PUTTER_SIMULATION_LOG"):
        yield
        return
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_promise_holds(seed: int) -> None:
    life, _ = run(lambda world: scenario(world, seed), seed, limit_s=7_200)
    assert life.history.ops, "a history in which nothing was asked for proves nothing"


def test_objects_that_were_announced_before_they_came_are_among_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used: list[int] = []
    withdrawn: list[int] = []
    give, take_back = Ahead.give, Ahead._take_back

    def given(self: Ahead, entries: Any) -> Any:
        used.append(len(entries))
        return give(self, entries)

    async def taken_back(self: Ahead, bucket: str, ids: tuple[str, ...]) -> None:
        withdrawn.append(len(ids))
        await take_back(self, bucket, ids)

    monkeypatch.setattr(Ahead, "give", given)
    monkeypatch.setattr(Ahead, "_take_back", taken_back)
    for seed in range(4, 8):
        run(lambda world, seed=seed: scenario(world, seed), seed, limit_s=7_200)  # type: ignore[misc]
    assert sum(used) >= 20
    assert sum(withdrawn) >= 10


def test_a_seed_repeats_itself() -> None:
    def once() -> list[str]:
        return run(lambda world: scenario(world, 4), 4, limit_s=7_200)[1]

    assert once() == once()
