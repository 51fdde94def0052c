"""All putters as the router sees them: who is there, where to put, whom to ask."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection
from dataclasses import dataclass

from common.buffers import BufferPool
from common.errors import NodesUnavailable, PutterError
from common.keys import Keyring
from common.limits import HEARTBEAT_MS, ROOM_GAINED_BYTES
from common.logs import get_logger
from common.membership import Decision, State
from common.meta.interface import Member, Members, Seen
from common.metrics import Metrics
from common.transport import Network
from common.wire.session import Hello
from router.links import LinkOptions, NodeLink
from router.parcels import Parcel
from router.placement import Candidate, Placement, choose, place
from router.quorum import Policy

_log = get_logger(__name__)


@dataclass(frozen=True)
class NodeView:
    """One putter for `status`."""

    node: str
    address: str
    state: State
    link: str
    reason: str
    inflight_bytes: int
    member: Member | None
    age_ms: int | None


class Fleet:
    """Keeps a link to every putter that Redis or the command line names.

    Args:
        members: the register of Redis.
        static: ``(host, port)`` of putters named by hand.
        introduce: makes the Hello of each connection.
        keyring, network, pool, rng, metrics: of the router.
        options: shared by all links.
    """

    def __init__(
        self,
        members: Members,
        static: tuple[tuple[str, int], ...],
        *,
        introduce: Callable[[], Hello],
        keyring: Keyring,
        network: Network,
        pool: BufferPool,
        rng: random.Random,
        metrics: Metrics,
        options: LinkOptions,
    ) -> None:
        self._members = members
        self._static = static
        self._introduce = introduce
        self._keyring = keyring
        self._network = network
        self._pool = pool
        self._rng = rng
        self._metrics = metrics
        self._options = options
        self._links: list[NodeLink] = []
        self._by_node: dict[str, NodeLink] = {}
        self._eligible: tuple[list[Candidate], list[Candidate]] | None = None
        self._known: dict[str, Candidate] = {}
        self._left_out: frozenset[str] = frozenset()
        self.turns = 0  # how often others were left out than before
        self._seen: dict[str, Seen] = {}
        self._least_free: dict[str, int] = {}  # of putters that are full
        self._homeless: dict[str, list[Parcel]] = {}  # for putters that left, by node
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # -- who is there ----------------------------------------------------------------------

    def start(self) -> None:
        """Begin to connect."""
        for host, port in self._static:
            self._open(host, port, "")
        self._task = asyncio.get_running_loop().create_task(self._follow())

    async def stop(self) -> None:
        """Close all links."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        links, self._links = self._links, []
        await asyncio.gather(*(link.close() for link in links))

    def up(self) -> list[NodeLink]:
        """Links with a session, by node."""
        return [link for link in self._links if link.up]

    def link(self, node: str) -> NodeLink | None:
        """The link to a node, up or down; one that is up if there are several."""
        known = self._by_node.get(node)
        if known is not None and known.up:
            return known
        found = [link for link in self._links if link.node == node]
        best = next((link for link in found if link.up), found[0] if found else None)
        if best is not None:
            self._by_node[node] = best
        return best

    async def wait_up(self, timeout_ms: int) -> None:
        """Wait until at least one putter is connected.

        Raises:
            NodesUnavailable: none in time.
        """
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                while not self.up():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise NodesUnavailable(
                f"no putter could be reached within {timeout_ms} ms{self._reasons()}",
                hint="start one: python -m putter server",
            ) from None

    def expected(self) -> int:
        """How many putters gave a sign of life lately, connected or not."""
        silent = (State.DOWN, State.GONE)
        alive = {n for n, seen in self._seen.items() if seen.state not in silent}
        return len(alive | {link.node for link in self.up()})

    def down(self) -> frozenset[str]:
        """Putters that are known and not connected."""
        return frozenset(self._known) - {link.node for link in self.up()}

    def leaving(self, away_ms: int) -> frozenset[str]:
        """Putters that shall be emptied, were declared gone, or are not expected back.

        Args:
            away_ms: silence by the coordinator's clock after which a putter that is not connected
                is not expected back; 0: never.
        """
        up = {link.node for link in self.up()}
        silent = {
            node
            for node, seen in self._seen.items()
            if away_ms and seen.age_ms > away_ms and node not in up
        }
        return frozenset(silent | self._declared().keys())

    def absent(self, nodes: Collection[str]) -> frozenset[str]:
        """Those of the cluster's putters that signed off and are not connected."""
        return frozenset(nodes) - self._seen.keys() - {link.node for link in self.up()}

    def expect(self, nodes: Collection[str]) -> None:
        """Reckon with putters that signed off, and that nobody else told of."""
        there, _ = self._candidates()
        for node in set(nodes) - self._known.keys():
            weight = sum(each.weight for each in there) / len(there) if there else 1.0
            self._known[node] = Candidate(node, weight)
            self._eligible = None

    def leave_out(self, nodes: frozenset[str]) -> None:
        """Give nothing new to these putters, and owe them nothing."""
        if nodes != self._left_out:
            self.turns += 1
            self._left_out = nodes
            self._eligible = None

    @property
    def left_out(self) -> frozenset[str]:
        """Putters that leave: they get nothing new and are owed nothing."""
        return self._left_out

    def given_up(self) -> frozenset[str]:
        """Putters that are left out and not connected."""
        return self._left_out - {link.node for link in self.up()}

    def views(self) -> list[NodeView]:
        """All putters that are known, for people."""
        linked = {link.node for link in self._links}
        views = [
            NodeView(node, seen.member.address, seen.state, "down", "", 0, seen.member, seen.age_ms)
            for node, seen in self._seen.items()
            if node not in linked
        ]
        for link in sorted(self._links, key=lambda link: (link.node, link.host, link.port)):
            seen = self._seen.get(link.node)
            views.append(
                NodeView(
                    node=link.node,
                    address=f"{link.host}:{link.port}",
                    state=seen.state if seen else State.LIVE if link.up else State.DOWN,
                    link="up" if link.up else "down",
                    reason="" if link.up else link.reason,
                    inflight_bytes=link.inflight_bytes,
                    member=seen.member if seen else None,
                    age_ms=seen.age_ms if seen else None,
                )
            )
        return sorted(views, key=lambda view: view.node)

    # -- where to put ----------------------------------------------------------------------

    def place(self, key: str, policy: Policy) -> Placement:
        """The nodes for a new extent.

        Args:
            key: names the extent.
            policy: that counts for it.

        Raises:
            NodesUnavailable: nobody is there, or too few under ``strict``.
        """
        there, away = self._candidates()
        policy.copies(len(there))
        return place(key, there, away, policy.replicas)

    def choose_another(self, key: str, avoid: Collection[str]) -> str | None:
        """A live node for one more copy, None if there is none but those to be avoided."""
        chosen = choose(key, self._candidates()[0], 1, avoid)
        return chosen[0] if chosen else None

    def carry(self, node: str, parcel: Parcel) -> None:
        """Send a parcel to a node (see `router.parcels.Carrier`)."""
        link = self.link(node)
        if link is None:
            self._homeless.setdefault(node, []).append(parcel)
            asyncio.get_running_loop().call_soon(self._strand, node, parcel)
        else:
            for other in self._others(node, link):
                other.withdraw(parcel)
            link.carry(parcel)

    def withdraw(self, node: str, parcel: Parcel) -> None:
        """Send it there no more."""
        waiting = self._homeless.get(node, [])
        if parcel in waiting:
            waiting.remove(parcel)
            if not waiting:
                del self._homeless[node]
                self._changed.set()
        for link in self._others(node, None):
            link.withdraw(parcel)

    def substitute(self, parcel: Parcel, avoid: set[str]) -> str | None:
        """Another live node for a parcel."""
        return self.choose_another(parcel.name, avoid)

    def has_room(self, nodes: tuple[str, ...]) -> bool:
        """Whether the windows of these nodes have room now."""
        for node in nodes:
            link = self.link(node)
            if link.congested if link is not None else node in self._homeless:
                return False
        return True

    async def room(self, nodes: tuple[str, ...]) -> None:
        """Wait until the windows of these nodes have room; one that left has one for one parcel."""
        for node in nodes:
            while (link := self.link(node)) is None and node in self._homeless:
                self._changed.clear()
                await self._changed.wait()
            if link is not None:
                await link.room()

    def acked(self, node: str, first: int, count: int, status: int) -> int:
        """Acks came from a node; returns how many were for tickets in flight to it."""
        link = self.link(node)
        if link is None:
            return 0
        known = link.acked(first, count, status)
        if known < count:
            known += sum(o.acked(first, count, status) for o in self._others(node, link))
        return known

    def ack_connection_renewed(self, node: str) -> None:
        """Acks of this node may have been lost: send again what is in flight."""
        for link in self._others(node, None):
            if link.busy:
                link.resend()

    # -- inside ----------------------------------------------------------------------------

    def _others(self, node: str, link: NodeLink | None) -> list[NodeLink]:
        """The links to a node but this one.

        There are two where it was named by hand and is a member under another address.
        """
        return [other for other in self._links if other.node == node and other is not link]

    def _candidates(self) -> tuple[list[Candidate], list[Candidate]]:
        """Who may take new bytes, and who could if it were there.

        Kept until a link or the membership changes.
        """
        if self._eligible is None:
            there = self._find_candidates()
            known = {candidate.node: candidate for candidate in there}
            self._known.update(known)
            for node, seen in self._seen.items():
                weight = max(1.0, float(seen.member.free_bytes))
                self._known.setdefault(node, Candidate(node, weight, seen.member.zone))
            up = {link.node for link in self.up()}
            without = up | self._left_out | self._declared().keys()
            away = [self._known[node] for node in sorted(self._known) if node not in without]
            self._eligible = there, away
        return self._eligible

    def _find_candidates(self) -> list[Candidate]:
        declared = self._declared()
        able = [link for link in self.up() if link.node not in self._left_out]
        up = [link for link in able if link.node not in declared]
        if not up:  # better there than nowhere
            up = [link for link in able if declared.get(link.node) is not Decision.GONE]
        roomy = [link for link in up if not link.full] or up
        known = [
            seen.member.free_bytes
            for link in roomy
            if (seen := self._seen.get(link.node)) is not None and seen.member.free_bytes > 0
        ]
        usual = sum(known) / len(known) if known else 1.0
        candidates = {}
        for link in roomy:
            seen = self._seen.get(link.node)
            member = seen.member if seen is not None else None
            weight = usual
            if member is not None and (member.capacity_bytes or member.free_bytes):
                weight = max(1.0, float(member.free_bytes))
            zone = member.zone if member is not None else ""
            candidates[link.node] = Candidate(link.node, weight, zone)
        return [candidates[node] for node in sorted(candidates)]

    def _declared(self) -> dict[str, Decision]:
        """Putters that get nothing new, by what the operator decided of them."""
        return {n: seen.decision for n, seen in self._seen.items() if seen.decision is not None}

    async def _follow(self) -> None:
        while True:
            try:
                seen = await self._members.seen()
                await self._update([entry for entry in seen if entry.member.role == "putter"])
            except Exception as error:  # noqa: BLE001 - it goes on with the next round
                tell = _log.debug if isinstance(error, PutterError) else _log.exception
                tell("membership is not to be had", reason=str(error))
            await asyncio.sleep(HEARTBEAT_MS / 1000)

    async def _update(self, seen: list[Seen]) -> None:
        self._seen = {entry.member.node: entry for entry in seen}
        self._eligible = None
        self._look_for_room()
        states = [entry.state for entry in seen]
        for state in State:
            self._metrics.members.labels(state.value).set(states.count(state))
        there = {entry.member.node for entry in seen if entry.state is not State.GONE}
        for entry in seen:
            member = entry.member
            if member.node not in there:
                continue
            link = self.link(member.node)
            if link is None:
                if not self._expects_somebody(member.host, member.port):
                    self._open(member.host, member.port, member.node)
            elif not link.up and (link.host, link.port) not in self._static:
                link.host, link.port = member.host, member.port
            elif not link.up and not self._goes_to(member.host, member.port):
                self._open(member.host, member.port, member.node)
            elif link.up and link.instance != member.instance:
                link.renew(f"another process speaks for putter {member.node} now")
        gone = [
            link
            for link in self._links
            if link.node not in there
            and (link.host, link.port) not in self._static
            and not link.up
            and not link.busy
        ]
        for link in gone:
            self._links.remove(link)
            self._by_node.pop(link.node, None)
            await link.close()

    def _look_for_room(self) -> None:
        """A putter that refused bytes for want of space is tried again once it has gained some."""
        full = {link.node for link in self._links if link.full}
        self._least_free = {n: free for n, free in self._least_free.items() if n in full}
        for link in self._links:
            seen = self._seen.get(link.node)
            if not link.full or seen is None:
                continue
            free = seen.member.free_bytes
            least = self._least_free[link.node] = min(free, self._least_free.get(link.node, free))
            if free >= least + ROOM_GAINED_BYTES:
                link.full = False

    def _goes_to(self, host: str, port: int) -> bool:
        """Whether a link goes there."""
        return any((link.host, link.port) == (host, port) for link in self._links)

    def _expects_somebody(self, host: str, port: int) -> bool:
        """Whether a link by hand goes there, and does not know yet who answers."""
        return any((link.host, link.port, link.node) == (host, port, "") for link in self._links)

    def _open(self, host: str, port: int, node: str) -> None:
        self._links.append(
            NodeLink(
                host,
                port,
                node,
                introduce=self._introduce,
                keyring=self._keyring,
                network=self._network,
                pool=self._pool,
                rng=self._rng,
                metrics=self._metrics,
                options=self._options,
                on_change=self._link_changed,
            )
        )

    def _link_changed(self, link: NodeLink) -> None:
        self._eligible = None
        self._changed.set()
        if link.up:
            for parcel in self._homeless.pop(link.node, []):
                self.carry(link.node, parcel)
            self._strand_homeless()

    def _strand_homeless(self) -> None:
        """Somebody else may take what waits for putters that left."""
        for node, parcels in list(self._homeless.items()):
            for parcel in list(parcels):
                self._strand(node, parcel)

    def _strand(self, node: str, parcel: Parcel) -> None:
        if parcel in self._homeless.get(node, ()):
            parcel.stranded(node, NodesUnavailable(f"putter {node} is not known any more"))

    def _reasons(self) -> str:
        reasons = [f"{link.host}:{link.port}: {link.reason}" for link in self._links]
        return f" ({'; '.join(reasons[:3])})" if reasons else ""
