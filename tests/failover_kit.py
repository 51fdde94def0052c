"""Coordinators of several servers, real ones of 127.0.0.1: with Sentinels, and as a cluster."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

from redis import Redis
from redis.crc import key_slot

from common.meta.schema import bucket_key
from tests.metadata_kit import CLUSTER_SETTINGS, ValkeyServer, running
from tests.store_kit import eventually

SERVICE: Final = "coordinator"
SLOTS: Final = 16_384
DOWN_AFTER_MS: Final = 1_000
NODE_TIMEOUT_MS: Final = 1_500


def freeze(server: ValkeyServer) -> None:
    """It does nothing, and its connections stay."""
    os.kill(server.pid, signal.SIGSTOP)


def thaw(server: ValkeyServer) -> None:
    """It goes on as if nothing had been."""
    os.kill(server.pid, signal.SIGCONT)


@dataclass
class Watched:
    """Data servers, and Sentinels that watch them.

    Attributes:
        servers: the first one is the primary at the beginning.
        sentinels: three.
    """

    servers: list[ValkeyServer]
    sentinels: list[ValkeyServer]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}"

    def primary(self) -> ValkeyServer:
        """Whom the first Sentinel names."""
        with client_of(self.sentinels[0]) as asked:
            _, port = asked.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return next(each for each in self.servers if each.port == int(port))

    def wait_for_another(self, former: ValkeyServer) -> ValkeyServer:
        """Until another server is the primary, and says so itself."""

        def there() -> None:
            found = self.primary()
            assert found is not former
            assert found.role() == "master"

        eventually(there, 60)
        return self.primary()

    def fail_over(self) -> None:
        """As an operator does it who wants to restart the primary."""
        with client_of(self.sentinels[0]) as asked:
            asked.execute_command("SENTINEL", "FAILOVER", SERVICE)


@contextlib.contextmanager
def watched(directory: Path, replicas: int = 1, *settings: str) -> Iterator[Watched]:
    """A primary with replicas and three Sentinels, which agree about all of them."""
    primary = _server(directory, "server0", *settings)
    copies = [
        _server(directory, f"server{n}", "--replicaof", f"127.0.0.1 {primary.port}", *settings)
        for n in range(1, replicas + 1)
    ]
    sentinels = []
    for number in range(3):
        sentinel = _server(directory, f"sentinel{number}")
        (sentinel.directory / "sentinel.conf").write_text(
            f"port {sentinel.port}\nbind 127.0.0.1\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary.port} 2\n"
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}\n"
            f"sentinel failover-timeout {SERVICE} 6000\n"
        )
        sentinels.append(sentinel.as_sentinel("sentinel.conf"))
    made = Watched([primary, *copies], sentinels)
    with running(*made.servers, *sentinels):
        for sentinel in sentinels:
            eventually(lambda sentinel=sentinel: _knows_all(sentinel, replicas), 60)
        yield made


def _knows_all(sentinel: ValkeyServer, replicas: int) -> bool:
    with client_of(sentinel) as asked:
        told = asked.sentinel_master(SERVICE)
    return (told["num-slaves"], told["num-other-sentinels"]) == (replicas, 2)


@dataclass
class Sharded:
    """A cluster whose primaries share the slots.

    Attributes:
        primaries: at the beginning.
        replicas: the one at the same place follows that primary; may be empty.
    """

    primaries: list[ValkeyServer]
    replicas: list[ValkeyServer]

    @property
    def servers(self) -> list[ValkeyServer]:
        return [*self.primaries, *self.replicas]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.primaries)
        return f"redis+cluster://{hosts}"

    def owner(self, slot: int) -> ValkeyServer:
        """Who serves a slot, as the first server that lives and knows it says."""
        for server in self.servers:
            if not server.answers():
                continue
            with client_of(server) as asked:
                ranges = asked.execute_command("CLUSTER", "SLOTS")
            port = next(row[2][1] for row in ranges if row[0] <= slot <= row[1])
            return next(each for each in self.servers if each.port == port)
        raise AssertionError("nobody answers")

    def move(self, bucket: str, heir: ValkeyServer) -> None:
        """Move a bucket's slot with all its keys, one after the other, as a resharding does it."""
        slot = slot_of(bucket)
        owner = self.owner(slot)
        assert owner is not heir
        with client_of(owner) as source, client_of(heir) as target:
            ours, theirs = _id_of(source), _id_of(target)
            target.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ours)
            source.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", theirs)
            while keys := source.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 3):
                source.execute_command(
                    *("MIGRATE", "127.0.0.1", heir.port, "", 0, 5_000, "KEYS", *keys)
                )
            target.execute_command("CLUSTER", "SETSLOT", slot, "NODE", theirs)
        for server in self.servers:
            if server is not heir and server.answers() and server.role() == "master":
                with client_of(server) as told:
                    told.execute_command("CLUSTER", "SETSLOT", slot, "NODE", theirs)


@contextlib.contextmanager
def sharded(directory: Path, *settings: str, copies: bool = False) -> Iterator[Sharded]:
    """Three primaries, each with a replica if there are to be copies."""
    settings = (*CLUSTER_SETTINGS, "--cluster-node-timeout", str(NODE_TIMEOUT_MS), *settings)
    servers = [_server(directory, f"server{n}", *settings) for n in range(6 if copies else 3)]
    made = Sharded(servers[:3], servers[3:])
    with running(*servers):
        for number, server in enumerate(servers):
            with client_of(server) as told:
                if number < 3:
                    low, high = SLOTS * number // 3, SLOTS * (number + 1) // 3 - 1
                    told.execute_command("CLUSTER", "ADDSLOTSRANGE", low, high)
                told.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
                told.execute_command("CLUSTER", "MEET", "127.0.0.1", servers[0].port)
        for server in servers:
            eventually(lambda server=server: _is_whole(server, len(servers)), 60)
        for primary, copy in zip(made.primaries, made.replicas, strict=False):
            with client_of(primary) as asked, client_of(copy) as told:
                told.execute_command("CLUSTER", "REPLICATE", _id_of(asked))
            eventually(lambda copy=copy: "master_link_status:up" in copy.ask("INFO replication"))
        yield made


def slot_of(bucket: str) -> int:
    """The slot in which a bucket lives."""
    return int(key_slot(bucket_key(bucket, "files")))


def buckets_in(low: int, high: int, how_many: int) -> list[str]:
    """Names of buckets whose slots lie in a range."""
    names = (f"bucket-{n}" for n in count())
    found: list[str] = []
    while len(found) < how_many:
        name = next(names)
        if low <= slot_of(name) < high:
            found.append(name)
    return found


@contextlib.contextmanager
def client_of(server: ValkeyServer) -> Iterator[Redis]:
    """A client of one server."""
    client = Redis(port=server.port, socket_timeout=10, protocol=2)
    try:
        yield client
    finally:
        client.close()


def _id_of(client: Redis) -> str:
    found = client.execute_command("CLUSTER", "MYID")
    return found.decode() if isinstance(found, bytes) else str(found)


def _is_whole(server: ValkeyServer, size: int) -> bool:
    told = server.ask("CLUSTER INFO")
    return "cluster_state:ok" in told and f"cluster_known_nodes:{size}" in told


def _server(directory: Path, name: str, *settings: str) -> ValkeyServer:
    home = directory / name
    home.mkdir(parents=True)
    return ValkeyServer(home, *settings)
