"""A putter node as a whole: made of its parts, started, and stopped without losing a byte."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Final

from common.budget import Budget
from common.buffers import BufferPool
from common.callers import CallerLimits
from common.certificates import Certificates
from common.clock import Clock, SystemClock
from common.errors import PutterError
from common.heartbeat import Heartbeat
from common.keys import Keyring
from common.limits import NODE_PENDING_BYTES_MAX
from common.logs import get_logger
from common.meta.interface import Member, Metadata
from common.meta.packing import Packing
from common.metrics import Metrics
from common.tls_ports import TlsDoor, node_network
from common.transport import Listener, Network
from common.wire.handshake import Identity
from putter.node.acks import AckLinks
from putter.node.admission import Admission
from putter.node.committer import Committer
from putter.node.fence import Fence
from putter.node.port import Connections, PutterConnection
from putter.node.scrub import Scrubber
from putter.node.services import Services
from putter.node.upkeep import Upkeep
from putter.node.verify import NodeCheck
from putter.storage.damage import Damage
from putter.storage.engine import Engine
from putter.storage.marked import DAMAGE, MarkedEngine
from putter.storage.notes import MemoryNotes, Notes
from putter.storage.stored import Packs, Stored

_log = get_logger(__name__)
_DRAIN_MS: Final = 5_000


@dataclass(frozen=True)
class NodeOptions:
    """What the operator decides.

    Attributes:
        host: address to listen on.
        port: for frames and sessions; 0 = any free one.
        advertise_host: where the routers reach this node.
        web_port: told to the others, for `status`.
        zone: failure zone.
        idle_ms: silence after which a raw connection is closed.
        callers: connections at the same time.
        scrub_bytes_per_s: verified in the background; 0 = only when asked to.
        scrub_period_s: from the end of one pass to the beginning of the next.
    """

    host: str = "127.0.0.1"
    port: int = 5000
    advertise_host: str = "127.0.0.1"
    web_port: int = 0
    zone: str = ""
    idle_ms: int = 60_000
    callers: CallerLimits = field(default_factory=CallerLimits)
    scrub_bytes_per_s: int = 0
    scrub_period_s: float = 14 * 86_400


class PutterNode:
    """One node.

    Args:
        options: what the operator decides.
        identity: of the node; the same for every start on one data directory.
        engine: its disk; closed by `stop`.
        keyring: the cluster keys.
        network: the transport seam.
        metadata: where it registers; None: nowhere, routers name it by hand.
        rng: challenges and jitter.
        disk_thread: the one thread that writes.
        readers: threads that read.
        notes: keeps what is damaged and how far it was looked at; in memory if None.
        clock: dates the passes; the machine's if None.
        starts: how often the data directory was started; 0 if nobody counts.
        on_superseded: called when another process has taken the place of this one.
        certificates: sessions and acks are encrypted with; None: they are not.
    """

    def __init__(
        self,
        options: NodeOptions,
        identity: Identity,
        engine: Engine,
        keyring: Keyring,
        network: Network,
        metadata: Metadata | None,
        rng: random.Random,
        *,
        disk_thread: Executor,
        readers: Executor,
        notes: Notes | None = None,
        clock: Clock | None = None,
        starts: int = 0,
        on_superseded: Callable[[], None] = lambda: None,
        certificates: Certificates | None = None,
    ) -> None:
        self.options: Final = options
        self.identity: Final = identity
        self.metrics: Final = Metrics("putter")
        self._stored: Final = engine.stored if isinstance(engine, Packs) else Stored
        self.metrics.run_plain_bytes.set_function(lambda: self._stored().plain_bytes)
        self.metrics.run_stored_bytes.set_function(lambda: self._stored().stored_bytes)
        notes = notes or MemoryNotes()
        check = NodeCheck(keyring)
        damage = Damage(notes.load(DAMAGE), self._count_damage)
        self._engine: Final = MarkedEngine(engine, notes, damage, check)
        door = None
        if certificates is not None:
            nodes = certificates
            door = TlsDoor("putter", lambda: nodes.now.nodes, self.metrics, options.callers)
        self._network = network = node_network(network, certificates, door)
        self._metadata = metadata
        self._disk_thread = disk_thread
        self._readers = readers
        self._starts = starts
        self._on_superseded = on_superseded
        committer = Committer(self._engine, disk_thread, self.metrics)
        self._scrubber = Scrubber(
            self._engine,
            committer,
            readers,
            check,
            self.metrics,
            clock or SystemClock(),
            rate_bytes_per_s=options.scrub_bytes_per_s,
            period_s=options.scrub_period_s,
        )
        self._services = Services(
            identity=identity,
            keyring=keyring,
            engine=self._engine,
            committer=committer,
            readers=readers,
            pool=BufferPool(),
            budget=Budget(NODE_PENDING_BYTES_MAX),
            acks=AckLinks(network, keyring, identity, rng),
            admission=Admission(identity.node, registers=metadata is not None),
            fence=Fence(lambda: asyncio.get_running_loop().time()),
            scrubber=self._scrubber,
            check=check,
            metrics=self.metrics,
            rng=rng,
        )
        self._upkeep = Upkeep(self._services.committer, self.metrics)
        self._connections = Connections(
            self.metrics, options.callers, encrypted=certificates is not None
        )
        self._listener: Listener | None = None
        self._heartbeat: Heartbeat | None = None

    @property
    def port(self) -> int:
        """The port it listens on, once started."""
        return self._listener.port if self._listener is not None else 0

    @property
    def ready(self) -> bool:
        """Whether it takes frames (and is registered, where it should be)."""
        return not self.trouble

    @property
    def trouble(self) -> str:
        """Why it is not ready; "" if it is."""
        if self._listener is None:
            return "not ready"
        if self._heartbeat is None or self._heartbeat.healthy:
            return ""
        return self._heartbeat.refusal or "not registered"

    @property
    def superseded(self) -> str:
        """Why another process has taken the place of this one; "" if none has."""
        beat = self._heartbeat
        return beat.refusal if beat is not None and beat.superseded else ""

    async def start(self) -> None:
        """Listen and register.

        Raises:
            Unavailable: the port is taken.
        """
        self._listener = await self._network.listen(
            lambda: PutterConnection(self._services, self._connections, self.options.idle_ms),
            self.options.host,
            self.options.port,
            shortcut=True,
            flag="--putter-port",
        )
        self._upkeep.start()
        self._scrubber.start()
        if self._metadata is not None:
            self._heartbeat = Heartbeat(self._metadata.members, self._member, self._answered)
            self._heartbeat.start()
        _log.info(
            "putter listens",
            node=self.identity.node,
            address=f"{self.options.host}:{self.port}",
            storage=self._engine.layout,
        )

    async def stop(self) -> None:
        """Finish what was received, refuse the rest with status 6, let go of the disk."""
        if self._heartbeat is not None:
            await self._heartbeat.stop()
        if self._listener is not None:
            await self._listener.close()
            self._listener = None
        for connection in self._connections.all():
            connection.stop()
        await self._drained()
        await self._upkeep.stop()
        await self._scrubber.stop()
        await self._services.committer.stop()
        await self._services.acks.close(flush_ms=_DRAIN_MS)
        for connection in self._connections.all():
            connection.close()
        self._connections.leaving.abort()
        try:
            await asyncio.get_running_loop().run_in_executor(self._disk_thread, self._engine.close)
        except PutterError as error:
            _log.error("the storage engine did not close cleanly", reason=str(error))
        _log.info("putter stopped", node=self.identity.node)

    def _answered(self) -> None:
        """The register said whether this process may speak for the node."""
        beat, admission = self._heartbeat, self._services.admission
        assert beat is not None
        if beat.admitted:
            admission.grant()
            return
        error = admission.refuse(beat.refusal)
        for connection in self._connections.all():
            connection.turn_away(error)
        if beat.superseded:
            self._on_superseded()

    def _count_damage(self, tickets: int, others: int) -> None:
        self.metrics.damaged_tickets.set(tickets)
        self.metrics.damaged_others.set(others)

    async def _drained(self) -> None:
        await _until(lambda: all(c.pending_bytes == 0 for c in self._connections.all()), _DRAIN_MS)

    def _member(self) -> Member:
        capacity = self._engine.capacity()
        stored = self._stored()
        self.metrics.free_bytes.set(capacity.free_bytes)
        return Member(
            node=self.identity.node,
            role="putter",
            instance=self.identity.instance,
            host=self.options.advertise_host,
            port=self.port,
            web_port=self.options.web_port,
            version=self.identity.version,
            storage=self._engine.layout,
            capacity_bytes=capacity.total_bytes,
            free_bytes=capacity.free_bytes,
            zone=self.options.zone,
            packing=Packing(
                stored.compression,
                stored.encryption,
                stored.plain_bytes,
                stored.stored_bytes,
            ),
            starts=self._starts,
            records=self._services.committer.last_number,
        )


async def _until(holds: Callable[[], bool], limit_ms: int) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limit_ms / 1000
    while not holds() and loop.time() < deadline:
        await asyncio.sleep(0.01)
