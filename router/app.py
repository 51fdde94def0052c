"""A router as a whole: made of its parts, started, and stopped without losing a stream."""

from __future__ import annotations

import random
from typing import Final

from common.buffers import BufferPool
from common.certificates import Certificates
from common.clock import Clock
from common.heartbeat import Heartbeat
from common.keys import Keyring
from common.limits import WORKER_LINKS_MS
from common.logs import get_logger
from common.meta.interface import Member, Metadata
from common.metrics import Metrics
from common.siblings import Siblings
from common.tls_ports import node_network
from common.transport import Network
from common.wire.handshake import CHALLENGE_BYTES, Identity
from common.wire.session import Hello
from router.access_keys import AccessKeys
from router.acks import AckPort, ack_network
from router.audit import Audit
from router.belonging import Belonging
from router.catchup import CatchUp, CatchUpOptions
from router.census import Census
from router.configure import Configure
from router.copying import Copier
from router.delivery import Delivery
from router.doors import Doors
from router.expiry import Expiry
from router.fetching import Fetching
from router.fleet import Fleet
from router.follow import Follow
from router.gateway.parts import part_of
from router.handoff import RecordHandOff
from router.heal import Healer
from router.ingest import IngestPort
from router.janitor import Janitor
from router.keeping import Keeping
from router.lately import Lately
from router.leftovers import Leftovers
from router.links import LinkOptions
from router.local_reads import LocalReads
from router.numbers import Numbers
from router.options import RouterOptions
from router.pace import Pace
from router.policies import Policies
from router.reads import ReadPath
from router.rebalance import Rebalance
from router.repair import Repair
from router.replicas import Replicas
from router.retag import Retag
from router.storewide import StoreFollow
from router.surplus import Freeing
from router.sweep import Sweep
from router.uploads import Uploads
from router.vacate import Vacate
from router.watermark import Watermark
from router.workers import Part, Workers, linked
from router.writes import WritePath

_log = get_logger(__name__)
_STOP_MS: Final = 5_000
"""With what follows it less than the 10 seconds after which `docker stop` kills."""


class Router:
    """One router.

    Args:
        options: what the operator decides.
        identity: of this start.
        keyring: the cluster keys.
        network: the transport seam.
        meta: the coordinator.
        clock: the clocks.
        rng: challenges, jitter.
        redis_address: for people, without password.
        siblings: the other workers of this router; None: it is alone.
        certificates: sessions, acks and the web door are encrypted with; None: they are not.
    """

    def __init__(
        self,
        options: RouterOptions,
        identity: Identity,
        keyring: Keyring,
        network: Network,
        meta: Metadata,
        clock: Clock,
        rng: random.Random,
        redis_address: str = "",
        siblings: Siblings | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        self.options: Final = options
        self.identity: Final = identity
        self.metrics: Final = Metrics("router")
        self._keyring = keyring
        self._rng = rng
        self._meta = meta
        pool = BufferPool()
        self.fleet: Final = Fleet(
            meta.members,
            options.nodes,
            introduce=self._introduce,
            keyring=keyring,
            network=node_network(network, certificates),
            pool=pool,
            rng=rng,
            metrics=self.metrics,
            options=LinkOptions(options.frame_bytes, failover_ms=options.failover_ms),
        )
        self._acks = AckPort(
            self.fleet,
            identity,
            keyring,
            ack_network(network, certificates, self.metrics, options.callers),
            rng,
            self.metrics,
            options.callers,
        )
        self.policies: Final = Policies(meta.buckets, options.policy)
        replicas = Replicas(self.fleet, keyring)
        self.catch_up: Final = CatchUp(
            meta,
            self.fleet,
            identity.instance,
            rng,
            CatchUpOptions(
                options.rebuild_auto,
                wait_ms=options.write_timeout_ms,
                away_max=options.policy.missing_max,
            ),
            mend=replicas.complete,
        )
        self.numbers: Final = Numbers(
            meta.counters, self.fleet, self.catch_up, self.metrics, options.write_timeout_ms
        )
        self.healer: Final = Healer(
            meta,
            self.fleet,
            replicas,
            self.metrics,
            identity.instance,
            options.repair_period_ms,
        )
        self._local = LocalReads(keyring, pool, self.metrics, enabled=options.local_reads)
        self.reads: Final = ReadPath(
            meta,
            Fetching(self.fleet, keyring, self.metrics, pool, self._local, self.healer.report),
            self.policies,
            self.metrics,
            identity.instance,
            pool,
            keyring,
        )
        self.lately: Final = Lately(
            meta.files, self.policies, clock, self.reads, options.stale_reads_ms
        )
        self.writes: Final = WritePath(
            meta,
            self.fleet,
            self.policies,
            self.numbers,
            keyring,
            clock,
            pool,
            self.metrics,
            self.lately,
            instance=identity.instance,
            frame_bytes=options.frame_bytes,
            timeout_ms=options.write_timeout_ms,
        )
        self._ingest = IngestPort(
            self.writes,
            network,
            self.metrics,
            idle_ms=options.idle_ms,
            limits=options.callers,
        )
        belonging = Belonging(self.fleet)
        self.janitor: Final = Janitor(
            meta,
            self.fleet,
            belonging,
            replicas,
            self.numbers,
            self.policies,
            self.metrics,
            identity.instance,
            options.janitor_period_ms,
            options.replica_away_ms,
        )
        self.watermark: Final = Watermark(
            meta, self.fleet, identity.instance, options.marks_period_ms
        )
        self.sweep: Final = Sweep(
            meta, self.fleet, self.metrics, identity.instance, options.sweep_period_ms
        )
        uploads = Uploads(meta, self.writes)
        self.leftovers: Final = Leftovers(meta, uploads, clock, identity.instance)
        self.expiry: Final = Expiry(
            meta,
            self.writes,
            uploads,
            clock,
            self.metrics,
            identity.instance,
            options.lifecycle_period_ms,
        )
        self.delivery: Final = Delivery(
            meta, options.event_targets, clock, rng, self.metrics, identity
        )
        self.repair: Final = Repair(
            meta,
            self.fleet,
            self.policies,
            replicas,
            Copier(self.fleet, keyring, replicas, pool),
            Freeing(meta, self.fleet, belonging, self.policies, self.metrics, self.healer.report),
            RecordHandOff(meta, self.fleet, self.policies, self.metrics),
            self.numbers,
            self.metrics,
            identity.instance,
            options.repair_period_ms,
            Pace(options.repair_bytes_per_s, lambda: self.writes.busy),
        )
        self.audit: Final = Audit(
            meta,
            self.fleet,
            replicas,
            self.policies,
            self.numbers,
            keyring,
            clock,
            self.metrics,
            self.healer.report,
            identity.instance,
            options.audit_period_ms,
        )
        self.vacate: Final = Vacate(
            meta,
            self.fleet,
            belonging,
            Census(meta, identity.instance),
            self.repair,
            self.policies,
            options.replace_after_ms,
        )
        self.rebalance: Final = Rebalance(
            meta,
            self.fleet,
            self.repair,
            self.metrics,
            identity.instance,
            options.rebalance_percent,
            options.replace_after_ms,
        )
        wait_ms = options.write_timeout_ms
        keeping = Keeping(meta, self.fleet, self.policies, wait_ms)
        self.configure: Final = Configure(
            meta, self.policies, keeping, self.numbers, clock, identity.instance
        )
        self.retag: Final = Retag(meta, self.fleet, self.policies, replicas, keeping, self.numbers)
        self.access_keys: Final = AccessKeys(
            meta, keyring, keeping, self.numbers, clock, identity.instance
        )
        self.follow: Final = Follow(
            meta, self.fleet, self.policies, replicas, self.numbers, identity.instance, wait_ms
        )
        self.store_follow: Final = StoreFollow(
            meta, self.policies, self.repair, identity.instance, wait_ms
        )
        self._heartbeat = Heartbeat(meta.members, self._member)
        self.workers: Final = Workers(
            siblings, self.metrics, self._not_ready, self._part, self.access_keys.answers
        )
        self._doors = Doors(
            self,
            meta,
            keyring,
            clock,
            certificates,
            self._not_ready,
            redis_address,
        )
        self._stopping = False

    @property
    def ingest_port(self) -> int:
        """The port of raw streams, once started."""
        return self._ingest.port

    @property
    def ack_port(self) -> int:
        """The port of acks, once started."""
        return self._acks.port

    @property
    def web_port(self) -> int:
        """The port of the web door, once started; 0 without one."""
        return self._doors.web_port

    @property
    def s3_port(self) -> int:
        """The port of the S3 door, once started; 0 without one."""
        return self._doors.s3_port

    async def start(self) -> None:
        """Open the doors.

        Raises:
            Unavailable: a port is taken; nothing is left open.
        """
        options = self.options
        try:
            await self._acks.start(options.host, options.ack_port)
            self.fleet.start()
            if options.reuse_ports:
                await linked(self.fleet, WORKER_LINKS_MS)
            await self._ingest.start(
                options.host, options.ingest_port, reuse_port=options.reuse_ports
            )
            await self._doors.start()
            await self.workers.start()
        except BaseException:
            await self._doors.stop()
            await self._ingest.close_listener()
            await self.fleet.stop()
            await self._acks.stop()
            raise
        self.catch_up.start()
        self.watermark.start()
        self.writes.start()
        self._heartbeat.start()
        self.janitor.start()
        self.sweep.start()
        self.leftovers.start()
        self.expiry.start()
        self.delivery.start()
        self.repair.start()
        self.healer.start()
        self.vacate.start()
        if options.repair_period_ms:
            self.follow.start()
            self.store_follow.start()
        self.access_keys.start()
        self.audit.start()
        self.rebalance.start()
        _log.info(
            "router listens",
            router=self.identity.instance,
            host=options.host,
            ingest=self.ingest_port,
            acks=self.ack_port,
            s3=self.s3_port,
            web=self.web_port,
        )

    async def stop(self) -> None:
        """Accept nothing new, let writes finish for a while, tell the rest, close."""
        self._stopping = True
        await self.workers.stop()
        await self._ingest.close_listener()
        await self._doors.close_listeners()
        await self.writes.stop(_STOP_MS)
        await self._ingest.stop()
        await self.lately.stop()
        await self.rebalance.stop()
        await self.store_follow.stop()
        await self.follow.stop()
        await self.access_keys.stop()
        await self.audit.stop()
        await self.vacate.stop()
        await self.healer.stop()
        await self.repair.stop()
        await self.delivery.stop()
        await self.expiry.stop()
        await self.leftovers.stop()
        await self.sweep.stop()
        await self.janitor.stop()
        await self.watermark.stop()
        await self.catch_up.stop()
        await self.policies.stop()
        await self._doors.stop()
        await self._heartbeat.stop()
        await self._acks.stop()
        await self.fleet.stop()
        await self._local.stop()
        _log.info("router stopped", router=self.identity.instance)

    # -- inside ----------------------------------------------------------------------------

    def _not_ready(self) -> str:
        if self._stopping:
            return "shutting down"
        if not self._heartbeat.healthy:
            return "Redis does not answer"
        if not self.fleet.up():
            return "no putter is connected"
        return self.catch_up.trouble

    def _part(self) -> Part:
        return part_of(
            self.identity,
            self.writes,
            self.fleet,
            self.repair,
            self.healer,
            self.rebalance,
            self.audit,
            self.vacate,
            self.delivery,
        )

    def _introduce(self) -> Hello:
        return Hello(
            role="router",
            node=self.identity.node,
            instance=self.identity.instance,
            frame_bytes=self.options.frame_bytes,
            key_ids=tuple(self._keyring.ids),
            challenge=self._rng.randbytes(CHALLENGE_BYTES),
            ack_host=self.options.advertise_host,
            ack_port=self.ack_port,
            version=self.identity.version,
        )

    def _member(self) -> Member:
        return Member(
            node=self.identity.node,
            role="router",
            instance=self.identity.instance,
            host=self.options.advertise_host or self.options.host,
            port=self.ingest_port,
            web_port=self.web_port,
            version=self.identity.version,
            replicas=self.options.policy.replicas,
        )
