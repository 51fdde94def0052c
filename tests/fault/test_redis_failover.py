"""Redis restarts, fails over, moves its slots, or forgets everything, under load.

Clients that keep books write, overwrite, delete and read meanwhile. Every request is answered
within the patience, with OK or with an error that says what to do; what was acknowledged is there
afterwards through every router, and no number was given twice. ``PUTTER_SOAK=1``: more rounds,
and more of each.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from redis.crc import key_slot

from common.meta.schema import COUNTERS
from tests.books_kit import Traffic, no_number_twice, no_traceback, traffic
from tests.failover_kit import freeze, sharded, slot_of, thaw, watched
from tests.metadata_kit import free_port
from tests.store_kit import Cluster, cluster, eventually
from tests.traffic_kit import SOAK

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900 if SOAK else 180)]
FLAGS = ("--grace-ms", "200", "--rebuild", "auto")
SEEDS = range(5 if SOAK else 1)
ROUNDS = 3 if SOAK else 1
ANSWERS = 200 if SOAK else 50
PATIENCE_S = 30.0
SLACK_S = 20.0
"""What a busy machine may take beside the waiting."""


def under_load(
    store: Cluster, seed: int, calamity: Callable[[Traffic], None], patience_s: float = PATIENCE_S
) -> Traffic:
    """Clients, calamities in the middle of what they do, and a look at their books."""
    routers = tuple(range(len(store.routers)))
    with traffic(store, seed, routers, deletes=True) as clients:
        for _ in range(ROUNDS):
            clients.wait_for_more(ANSWERS, 90)
            calamity(clients)
            clients.wait_for_more(ANSWERS, 90)
    assert clients.slowest_s < patience_s + SLACK_S
    for router in routers:
        store.wait_ready(router)
        eventually(lambda router=router: store.http("GET", "/readyz", router=router)[0] == 200, 60)
        clients.check(router)
    no_number_twice(store)
    no_traceback(store)
    return clients


def codes(clients: Traffic) -> set[str]:
    """The codes of what clients were told; each says what to do."""
    found = set()
    for told in clients.failures:
        if told.startswith("OBJECT WRITE FAILED "):
            assert told.endswith(")\n"), f"no hint: {told}"
            found.add(told.split()[3])
        else:
            answer = json.loads(told)
            assert answer["hint"], told
            found.add(answer["code"])
    return found


# -- one server ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("how", "away_s"),
    [("killed", 0.5), ("stopped", 5.0), *([("killed", 5.0), ("stopped", 0.5)] if SOAK else [])],
)
def test_one_server_is_restarted(tmp_path: Path, how: str, away_s: float, seed: int) -> None:
    with cluster(tmp_path / "s", putters=2, routers=2, router_flags=FLAGS) as store:

        def calamity(_: Traffic) -> None:
            if how == "stopped":
                store.valkey.stop()
            else:
                store.valkey.kill()
            time.sleep(away_s)
            store.valkey.start()

        clients = under_load(store, seed, calamity)
        assert not clients.failures


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("how", ["stopped", "frozen"])
def test_one_server_is_away_for_longer_than_anybody_waits(
    tmp_path: Path, how: str, seed: int
) -> None:
    flags = (*FLAGS, "--redis-patience-ms", "1500")
    with cluster(tmp_path / "s", putters=2, routers=2, router_flags=flags) as store:

        def calamity(clients: Traffic) -> None:
            before = len(clients.failures)
            if how == "stopped":
                store.valkey.stop()
            else:
                freeze(store.valkey)
            eventually(lambda: len(clients.failures) >= before + 24, 60)
            for router in (0, 1):
                eventually(
                    lambda router=router: store.http("GET", "/readyz", router=router)[0] == 503, 30
                )
            if how == "stopped":
                store.valkey.start()
            else:
                thaw(store.valkey)

        clients = under_load(store, seed, calamity, patience_s=1.5)
        assert codes(clients) == {"redis"}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("how", ["flushed twice", "started empty", *(["flushed"] if SOAK else [])])
def test_one_server_loses_everything(tmp_path: Path, how: str, seed: int) -> None:
    with cluster(tmp_path / "s", putters=3, routers=2, router_flags=FLAGS) as store:

        def calamity(_: Traffic) -> None:
            if how == "started empty":
                store.valkey.kill()
                store.valkey.forget()
                store.valkey.start()
                return
            assert store.valkey.ask("FLUSHALL") == "+OK\r\n"
            if how == "flushed twice":
                time.sleep(0.4)
                assert store.valkey.ask("FLUSHALL") == "+OK\r\n"

        clients = under_load(store, seed, calamity)
        # What Redis forgot of an object that was being written is not published.
        assert codes(clients) <= {"gone", "redis"}


def notices(store: Cluster, router: int) -> bool:
    """Whether this router has an answer of Redis at once."""
    status, _, _ = store.http("GET", "/metadata?bucket=objects", router=router)
    return status == 200


# -- Sentinel ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("how", ["planned", "frozen", "behind", *(["killed"] if SOAK else [])])
def test_sentinel_promotes_a_replica(tmp_path: Path, how: str, seed: int) -> None:
    copies = 1 if how == "killed" else 2
    with (
        watched(tmp_path / "w", copies) as redis,
        cluster(
            tmp_path / "s", putters=2, routers=2, router_flags=FLAGS, redis_url=redis.url
        ) as store,
    ):

        def calamity(clients: Traffic) -> None:
            former = redis.primary()
            if how == "planned":
                redis.fail_over()
            elif how == "frozen":
                freeze(former)
            else:
                if how == "behind":
                    # They follow nobody for a while: what is written meanwhile is lost.
                    nobody = f"127.0.0.1 {free_port()}"
                    for server in redis.servers:
                        if server is not former:
                            assert server.ask(f"REPLICAOF {nobody}").startswith("+OK")
                    clients.wait_for_more(ANSWERS)
                former.kill()
            redis.wait_for_another(former)
            clients.wait_for_more(ANSWERS, 90)
            if how == "frozen":
                # It still takes itself for the primary, until the Sentinels tell it: whoever is
                # still waiting for its answer would get one. See docs/internals/durability.md.
                for router in range(len(store.routers)):
                    eventually(lambda router=router: notices(store, router), 60)
                thaw(former)
            elif SOAK and how != "planned":
                former.start()
            if SOAK:
                eventually(lambda: former.role() == "slave", 60)

        clients = under_load(store, seed, calamity)
        assert codes(clients) <= {"gone", "redis"}


# -- Cluster -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_a_cluster_moves_the_slots_of_busy_buckets(tmp_path: Path, seed: int) -> None:
    with (
        sharded(tmp_path / "w") as redis,
        cluster(
            tmp_path / "s", putters=2, routers=2, router_flags=FLAGS, redis_url=redis.url
        ) as store,
    ):

        def calamity(clients: Traffic) -> None:
            # Each of them comes by all servers, also the one that keeps the counters.
            for bucket in ("photos", "objects") * 3:
                at = redis.primaries.index(redis.owner(slot_of(bucket)))
                redis.move(bucket, redis.primaries[(at + 1) % 3])
                clients.wait_for_more(5)

        clients = under_load(store, seed, calamity)
        assert codes(clients) <= {"gone", "redis"}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("whose", ["a bucket", "the counters"])
def test_a_replica_takes_over_in_a_cluster(tmp_path: Path, whose: str, seed: int) -> None:
    slot = slot_of("objects") if whose == "a bucket" else key_slot(COUNTERS)
    with (
        sharded(tmp_path / "w", copies=True) as redis,
        cluster(
            tmp_path / "s", putters=2, routers=2, router_flags=FLAGS, redis_url=redis.url
        ) as store,
    ):

        def calamity(clients: Traffic) -> None:
            former = redis.owner(slot)
            former.kill()
            eventually(lambda: redis.owner(slot) is not former, 60)
            if SOAK:
                former.start()
                eventually(lambda: former.role() == "slave", 60)

        clients = under_load(store, seed, calamity)
        assert codes(clients) <= {"gone", "redis"}
