"""The coordinator in Redis or Valkey, and how to connect to it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from common.clock import Clock, SystemClock
from common.limits import CONNECT_TIMEOUT_MS
from common.meta.address import RedisAddress, parse_address
from common.meta.calls import Calls
from common.meta.counters import RedisCounters
from common.meta.files import RedisFiles
from common.meta.leases import RedisLeases
from common.meta.link import (
    REPLY_TIMEOUT_MS,
    ClusterLink,
    Command,
    Link,
    MasterConnection,
    PlainConnection,
    SingleLink,
    TlsConnection,
    TlsMasterConnection,
    UnixConnection,
)
from common.meta.members import RedisMembers
from common.meta.objects import RedisObjects
from common.meta.redis_access import RedisAccess
from common.meta.redis_announcements import RedisAnnouncements
from common.meta.redis_buckets import RedisBuckets
from common.meta.redis_claims import RedisClaims
from common.meta.redis_handoff import RedisHandOff
from common.meta.redis_outbox import RedisOutbox
from common.meta.redis_recovery import RedisRecovery
from common.meta.redis_repairs import RedisRepairs
from common.meta.redis_versions import RedisVersions
from common.meta.repairs import REACH_MS

GRACE_MS_DEFAULT: Final = 60_000
PATIENCE_MS_DEFAULT: Final = 10_000
TOMBSTONE_MS_DEFAULT: Final = 24 * 60 * 60 * 1000
CONNECTIONS_MAX: Final = 4
"""Two pipelines under way, and room to spare."""
CLUSTER_CONNECTIONS_MAX: Final = 64
_CLUSTER_REDIRECTS: Final = 2


class RedisMetadata:
    """`common.meta.interface.Metadata` in Redis ≥ 6.2 or Valkey ≥ 8.

    Args:
        where: a URL (see `common.meta.address`), or a client of the redis package, which then
            belongs to this object.
        grace_ms: how long the bytes of a deleted or failed object are kept at least.
        patience_ms: how long a call waits for Redis before `MetadataUnavailable`.
        tombstone_ms: how long Redis remembers that a name was deleted, so that an older version
            that comes late does not appear; far longer than any commit can be under way.
        reach_ms: how long what a putter was sent is kept there, until a description says so.
        clock: measures the patience.

    Raises:
        SettingInvalid: not a URL.
    """

    def __init__(
        self,
        where: str | Redis | RedisCluster,
        *,
        grace_ms: int = GRACE_MS_DEFAULT,
        patience_ms: int = PATIENCE_MS_DEFAULT,
        tombstone_ms: int = TOMBSTONE_MS_DEFAULT,
        reach_ms: int = REACH_MS,
        clock: Clock | None = None,
    ) -> None:
        link = link_to(where)
        self._address = link.address
        self._calls = Calls(link, clock or SystemClock(), patience_ms)
        random_word = secrets.token_hex(20)
        self._counters = RedisCounters(self._calls, random_word)
        self._files = RedisFiles(self._calls, grace_ms, tombstone_ms, random_word)
        self._objects = RedisObjects(self._calls, self._files, grace_ms)
        self._announcements = RedisAnnouncements(self._calls)
        self._buckets = RedisBuckets(self._calls, self._files)
        self._versions = RedisVersions(self._calls, self._files)
        self._access = RedisAccess(self._calls)
        self._claims = RedisClaims(self._calls)
        self._repairs = RedisRepairs(self._calls, self._files, grace_ms, reach_ms)
        self._handoff = RedisHandOff(self._calls, self._files)
        self._outbox = RedisOutbox(self._calls, self._files)
        self._members = RedisMembers(self._calls, random_word)
        self._leases = RedisLeases(self._calls)
        self._recovery = RedisRecovery(
            self._calls, self._files, (grace_ms, tombstone_ms), random_word, sharded=link.sharded
        )

    @property
    def address(self) -> str:
        """Where this Redis is, without password."""
        return self._address

    @property
    def counters(self) -> RedisCounters:
        """Numbers."""
        return self._counters

    @property
    def objects(self) -> RedisObjects:
        """Objects."""
        return self._objects

    @property
    def announcements(self) -> RedisAnnouncements:
        """Objects that may come."""
        return self._announcements

    @property
    def files(self) -> RedisFiles:
        """Names."""
        return self._files

    @property
    def buckets(self) -> RedisBuckets:
        """Buckets and their settings."""
        return self._buckets

    @property
    def versions(self) -> RedisVersions:
        """Versions of names."""
        return self._versions

    @property
    def access(self) -> RedisAccess:
        """Access keys."""
        return self._access

    @property
    def claims(self) -> RedisClaims:
        """Names that conditional writes claim."""
        return self._claims

    @property
    def repairs(self) -> RedisRepairs:
        """What putters lack, and what they hold too much."""
        return self._repairs

    @property
    def handoff(self) -> RedisHandOff:
        """Records that putters missed."""
        return self._handoff

    @property
    def outbox(self) -> RedisOutbox:
        """Events that wait."""
        return self._outbox

    @property
    def members(self) -> RedisMembers:
        """Members."""
        return self._members

    @property
    def leases(self) -> RedisLeases:
        """Leases."""
        return self._leases

    @property
    def recovery(self) -> RedisRecovery:
        """Bringing Redis up to date."""
        return self._recovery

    @property
    def lapses(self) -> int:
        """How often a call found Redis away, in another run, or refusing."""
        return self._calls.lapses

    async def ping(self) -> None:
        """Return when Redis answers.

        Raises:
            MetadataUnavailable: not within the patience.
        """
        await self._calls.run(Command((b"PING",)))

    async def wait_ready(self, on_wait: Callable[[str], None]) -> None:
        """Return when Redis answers, however long that takes.

        Args:
            on_wait: gets one line of text when the first try failed, and again at most every
                ten seconds.
        """
        await self._calls.wait_ready(on_wait)

    async def close(self) -> None:
        """Close all connections; calls under way end with `ShuttingDown`."""
        await self._calls.close()


def connect(
    url: str,
    *,
    grace_ms: int = GRACE_MS_DEFAULT,
    patience_ms: int = PATIENCE_MS_DEFAULT,
    clock: Clock | None = None,
) -> RedisMetadata:
    """The coordinator at a URL; nothing is sent before the first call.

    Raises:
        SettingInvalid: not a URL of a Redis.
    """
    return RedisMetadata(url, grace_ms=grace_ms, patience_ms=patience_ms, clock=clock)


def link_to(where: str | Redis | RedisCluster) -> Link:
    """The way to a server: a URL, or a client of the redis package."""
    if isinstance(where, RedisCluster):
        nodes = ",".join(f"{node.host}:{node.port}" for node in where.startup_nodes)
        return ClusterLink(where, nodes)
    if isinstance(where, Redis):
        return SingleLink(where, _address_of(where))
    address = parse_address(where)
    if address.kind == "cluster":
        return ClusterLink(_cluster_client(address), str(address))
    if address.kind == "sentinel":
        return _sentinel_link(address)
    return SingleLink(_single_client(address), str(address))


def _settings(address: RedisAddress) -> dict[str, Any]:
    """What all connections share. Trying again is our own business, so the package does not."""
    return {
        "username": address.user,
        "password": address.password,
        "protocol": 2,
        "socket_connect_timeout": CONNECT_TIMEOUT_MS / 1000,
        "socket_timeout": REPLY_TIMEOUT_MS / 1000,
        "socket_keepalive": True,
    }


def _single_client(address: RedisAddress) -> Redis:
    settings = _settings(address) | {"db": address.db, "retry": Retry(NoBackoff(), 0)}
    if address.kind == "unix":
        settings |= {"path": address.path, "connection_class": UnixConnection}
        del settings["socket_keepalive"]
    else:
        host, port = address.hosts[0]
        settings |= {"host": host, "port": port, "connection_class": PlainConnection}
        if address.tls:
            settings["connection_class"] = TlsConnection
    pool = BlockingConnectionPool(
        max_connections=CONNECTIONS_MAX, timeout=REPLY_TIMEOUT_MS / 1000, **settings
    )
    return Redis.from_pool(pool)


def _sentinel_link(address: RedisAddress) -> SingleLink:
    settings = _settings(address)
    ask = settings | {"retry": Retry(NoBackoff(), 0), "ssl": address.tls}
    del ask["username"], ask["password"]
    sentinel = Sentinel(list(address.hosts), sentinel_kwargs=ask)  # type: ignore[no-untyped-call]
    client: Redis = sentinel.master_for(
        address.service,
        db=address.db,
        connection_class=TlsMasterConnection if address.tls else MasterConnection,
        max_connections=CONNECTIONS_MAX,
        retry=Retry(NoBackoff(), 0),
        **settings,
    )
    return SingleLink(client, str(address), sentinel.sentinels)


def _cluster_client(address: RedisAddress) -> RedisCluster:
    return RedisCluster(
        startup_nodes=[ClusterNode(host, port) for host, port in address.hosts],
        retry=Retry(NoBackoff(), _CLUSTER_REDIRECTS),
        max_connections=CLUSTER_CONNECTIONS_MAX,
        ssl=address.tls,
        **_settings(address),
    )


def _address_of(client: Redis) -> str:
    settings: dict[str, Any] = client.connection_pool.connection_kwargs
    path = settings.get("path")
    return str(path) if path else f"{settings.get('host')}:{settings.get('port')}"
