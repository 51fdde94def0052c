"""The web doors of a router: REST on one port, S3 on another."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final

from common.certificates import Certificates
from common.clock import Clock
from common.keys import Keyring
from common.meta.interface import Metadata
from common.web import make_application
from common.web_lane import LaneConnection
from common.web_port import WebPort
from router.buckets import Directory
from router.gateway.buckets import BucketRoutes
from router.gateway.cluster import ClusterRoutes
from router.gateway.denials import Denials
from router.gateway.drain import DrainRoutes
from router.gateway.explain import ExplainRoutes
from router.gateway.files import FileRoutes
from router.gateway.keyed_door import KeyedDoor
from router.gateway.keys import KeyRoutes
from router.gateway.lane import FileLane
from router.gateway.repair import RepairRoutes
from router.gateway.s3.call import Store
from router.gateway.s3.gate import AllRules
from router.gateway.s3.lane import NAMES, ObjectLane
from router.gateway.s3.port import S3Connection
from router.gateway.s3.put_lane import PUTS
from router.gateway.s3.server import S3Door
from router.gateway.s3.website.serving import Websites

if TYPE_CHECKING:
    from router.app import Router

_HASHERS: Final = 4
"""Threads that compute checksums of bodies; there is little to gain beyond the processors."""


class Doors:
    """Both ports.

    Args:
        router: what is behind them.
        meta: the coordinator.
        keyring: the cluster keys.
        clock: tells when a signature is too old.
        certificates: connections are encrypted with; None: they are not.
        not_ready: why the router cannot do its work; "" if it can.
        redis_address: for people.
    """

    def __init__(
        self,
        router: Router,
        meta: Metadata,
        keyring: Keyring,
        clock: Clock,
        certificates: Certificates | None,
        not_ready: Callable[[], str],
        redis_address: str,
    ) -> None:
        self._router = router
        self._meta = meta
        self._keyring = keyring
        self._clock = clock
        self._certificates = certificates
        self._not_ready = not_ready
        self._redis_address = redis_address
        self._rules = AllRules(meta.buckets)
        self._hashers = ThreadPoolExecutor(_HASHERS, "checksum")
        self._web: WebPort | None = None
        self._s3: WebPort | None = None

    @property
    def web_port(self) -> int:
        """The port of REST, once started; 0 without one."""
        return self._web.port if self._web is not None else 0

    @property
    def s3_port(self) -> int:
        """The port of S3, once started; 0 without one."""
        return self._s3.port if self._s3 is not None else 0

    async def start(self) -> None:
        """Listen.

        Raises:
            Unavailable: a port is taken; nothing is left open.
        """
        options = self._router.options
        try:
            if options.web_port is not None:
                web = self._make_web()
                await web.start(
                    options.host, options.web_port, "--web-port", reuse_port=options.reuse_ports
                )
                self._web = web
            if options.s3_port is not None:
                s3 = self._make_s3()
                await s3.start(
                    options.host, options.s3_port, "--s3-port", reuse_port=options.reuse_ports
                )
                self._s3 = s3
        except BaseException:
            await self.stop()
            raise

    async def close_listeners(self) -> None:
        """Accept nothing new; requests under way go on."""
        for port in (self._s3, self._web):
            if port is not None:
                await port.close_listener()

    async def stop(self) -> None:
        """Wait for requests under way, then close."""
        for port in (self._s3, self._web):
            if port is not None:
                await port.stop()
        await self._rules.stop()
        self._hashers.shutdown(wait=False)

    # -- inside ----------------------------------------------------------------------------

    def _make_web(self) -> WebPort:
        router, meta = self._router, self._meta
        options, metrics = router.options, router.metrics
        door = KeyedDoor(
            options.host,
            options.token,
            self._keyring,
            router.access_keys,
            self._clock,
            Denials(self._rules, meta, self._clock),
            encrypted=self._certificates is not None,
        )
        application = make_application(metrics, door, self._not_ready, router.workers)
        FileRoutes(router.writes, router.lately, metrics, options.idle_ms).add_to(application)
        BucketRoutes(meta, router.policies, router.configure).add_to(application)
        KeyRoutes(router.access_keys).add_to(application)
        DrainRoutes(meta, router.vacate, router.workers, router.catch_up).add_to(application)
        ExplainRoutes(meta, router.reads, router.fleet, router.policies).add_to(application)
        RepairRoutes(router.fleet, router.audit, router.workers).add_to(application)
        ClusterRoutes(
            meta,
            router.fleet,
            router.policies,
            router.workers,
            router.identity,
            self._redis_address,
            lambda: router.numbers.tickets_used,
        ).add_to(application)
        lane = FileLane(router.lately, metrics, door)
        return WebPort(
            application,
            metrics,
            options.callers,
            partial(LaneConnection, lane=lane),
            self._certificates,
        )

    def _make_s3(self) -> WebPort:
        router, options = self._router, self._router.options
        store = Store(
            self._meta,
            router.writes,
            router.lately,
            router.retag,
            Directory(self._meta, router.configure, self._clock),
            self._rules,
            router.metrics,
            self._hashers,
            options.idle_ms,
            options.event_targets,
        )
        node, keys, domain = router.identity.node, router.access_keys, options.s3_domain
        websites = Websites(store, self._clock, options.s3_website_domain, node)
        door = S3Door(store, keys, self._clock, domain, websites, node)
        lane = ObjectLane(store, keys, self._clock, domain, websites, node)
        return WebPort(
            door.application(),
            router.metrics,
            options.callers,
            partial(S3Connection, lane=lane, names=NAMES, puts=PUTS),
            self._certificates,
            name="s3",
        )
