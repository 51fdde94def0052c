"""What the web door tells of the cluster: its members, their disks, what is owed and what moves."""

from __future__ import annotations

from typing import Any

import msgspec

from putter.client.buckets import BucketInfo, BucketPolicy
from putter.client.models import Stored


class RedisStatus(msgspec.Struct, frozen=True):
    """The coordinator as a router sees it."""

    ok: bool
    address: str = ""


class ScrubPass(msgspec.Struct, frozen=True):
    """A verification of a putter's whole disk that came to its end.

    Attributes:
        number: passes of a putter are numbered.
        started_ms: wall clock, milliseconds since 1970.
        ended_ms: the same.
        verified_bytes: that were read.
        findings: damages that were found.
        mended: of them, what was made again at once: indexes, the state, data-key files.
    """

    number: int
    started_ms: int
    ended_ms: int
    verified_bytes: int
    findings: int
    mended: int = 0


class ScrubFlaw(msgspec.Struct, frozen=True):
    """Something that is damaged on a putter.

    Attributes:
        part: ``tickets``, ``header``, ``record``, ``removal``, ``index``, ``segment``,
            ``state`` or ``keys``.
        first: TicketID of the first ticket, where it is about tickets.
        last: of the last one.
        count: how many tickets.
        record: number of the commit record, where it is about one.
        raw: whether they are raw tickets.
        object: ObjectID; None if it is not known.
        file: ``bucket/key``; None if Redis knows none.
        place: file in the putter's data directory, and where in it.
        reason: what is wrong.
    """

    part: str
    first: str | None = None
    last: str | None = None
    count: int = 0
    record: int | None = None
    raw: bool = False
    object: str | None = None
    file: str | None = None
    place: str = ""
    reason: str = ""


class ScrubState(msgspec.Struct, frozen=True):
    """The verification of a putter's disk.

    Attributes:
        number: of the pass under way, or else of the newest.
        running: whether one is under way.
        demanded: whether somebody asked for it.
        started_ms: when it began, milliseconds since 1970.
        verified_bytes: so far.
        total_bytes: about how many there are; None if nobody knows.
        findings: damages so far.
        last: the last pass that came to its end.
        damaged_tickets: tickets that are marked as damaged now.
        damaged_others: other things that are.
        flaws: what is damaged, at most 1000; only from `Store.scrub`.
    """

    number: int = 0
    running: bool = False
    demanded: bool = False
    started_ms: int = 0
    verified_bytes: int = 0
    total_bytes: int | None = None
    findings: int = 0
    last: ScrubPass | None = None
    damaged_tickets: int = 0
    damaged_others: int = 0
    flaws: tuple[ScrubFlaw, ...] = ()

    @property
    def damaged(self) -> bool:
        """Whether anything is."""
        return self.damaged_tickets + self.damaged_others > 0


class NodeScrub(msgspec.Struct, frozen=True):
    """A putter and its scrub; ``scrub`` is None, with a reason, if it could not be asked."""

    node: str
    address: str = ""
    reason: str = ""
    scrub: ScrubState | None = None


class Scrubs(msgspec.Struct, frozen=True):
    """The scrubs of all putters that were asked."""

    nodes: tuple[NodeScrub, ...] = ()


class NodeStatus(msgspec.Struct, frozen=True):
    """A putter as a router sees it.

    Attributes:
        node: identity.
        address: ``host:port`` of its frame port.
        state: ``joining``, ``live``, ``suspect``, ``down``, ``draining`` or ``gone``.
        age_ms: time since its last sign of life.
        storage: engine.
        capacity_bytes: size of its disk.
        free_bytes: free space of its disk.
        link: ``up`` or ``down``.
        reason: why the link is down.
        version: of its software.
        zone: where it stands; "" if nobody said.
        inflight_bytes: bytes sent and not yet acknowledged.
        scrub: the verification of its disk; None if it did not tell.
        packing: how it stores what it writes, the bytes are those since its start; None if it gave
            no sign of life.
    """

    node: str
    address: str = ""
    state: str = ""
    age_ms: int | None = None
    storage: str = ""
    capacity_bytes: int = 0
    free_bytes: int = 0
    link: str = "down"
    reason: str = ""
    version: str = ""
    zone: str = ""
    inflight_bytes: int = 0
    scrub: ScrubState | None = None
    packing: Stored | None = None


class Stuck(msgspec.Struct, frozen=True):
    """An object that could not be given to a putter."""

    object: str
    reason: str


class Refill(msgspec.Struct, frozen=True):
    """What a putter should hold and does not.

    Attributes:
        node: the putter; ``*`` for one that is not chosen yet.
        objects: how many objects it lacks something of.
        bytes: of these objects and records.
        bytes_per_s: how fast this router has given it something lately.
        eta_s: seconds until it has everything, if it goes on like this; None: unknown.
        stuck: some that could not be given to it.
        records: how many commit records without an object (deletions, files without a byte) it
            lacks.
    """

    node: str
    objects: int
    bytes: int
    bytes_per_s: int = 0
    eta_s: int | None = None
    stuck: tuple[Stuck, ...] = ()
    records: int = 0


class AuditFound(msgspec.Struct, frozen=True):
    """What a comparison of what putters hold with what they should has found.

    Attributes:
        names: that were gone through.
        objects: extents of objects that putters lack, for each of them.
        tickets: in these.
        records: commit records of objects that putters lacked, and were given.
        bare: records without an object that too few putters have.
        strays: objects of which putters hold something that nothing places there.
        lost: extents that no putter which should hold them has whole.
        unsure: extents of which that could not be told: putters are away.
    """

    names: int = 0
    objects: int = 0
    tickets: int = 0
    records: int = 0
    bare: int = 0
    strays: int = 0
    lost: int = 0
    unsure: int = 0


class AuditRound(msgspec.Struct, frozen=True):
    """A comparison that came to its end.

    Attributes:
        started_ms, ended_ms: wall clock, milliseconds since 1970.
        silent: putters that were not compared.
        found: what it found.
    """

    started_ms: int
    ended_ms: int
    silent: tuple[str, ...] = ()
    found: AuditFound = AuditFound()


class AuditState(msgspec.Struct, frozen=True):
    """Comparisons of what putters hold with what they should.

    Attributes:
        running: whether this router makes one.
        wanted: why one is going to begin.
        found: by the one under way, so far.
        last: the last one of this router; None since its start.
    """

    running: bool = False
    wanted: tuple[str, ...] = ()
    found: AuditFound | None = None
    last: AuditRound | None = None


class RefillNow(Refill, frozen=True):
    """The same with whether the putter can be given it now."""

    up: bool = False


class Repairs(msgspec.Struct, frozen=True):
    """What putters are owed, and how that is found.

    Attributes:
        audit: of this router.
        elsewhere: another router makes a comparison.
        owed: what putters should hold and do not.
    """

    audit: AuditState = AuditState()
    elsewhere: bool = False
    owed: tuple[RefillNow, ...] = ()

    @property
    def to_be_paid(self) -> tuple[RefillNow, ...]:
        """What can be given to putters that are there now."""
        return tuple(
            each for each in self.owed if each.up and each.objects + each.records > len(each.stuck)
        )


class Incurable(msgspec.Struct, frozen=True):
    """Tickets of a putter that could not be healed."""

    node: str
    object: str
    first: str
    count: int
    reason: str


class EventQueue(msgspec.Struct, frozen=True):
    """Events of a bucket that wait for a target.

    Attributes:
        bucket: bucket name.
        target: name of the target.
        waiting: how many wait.
        dropped: how many had to go undelivered.
        trouble: why the last try to deliver some failed, if this router delivers them.
    """

    bucket: str
    target: str
    waiting: int
    dropped: int = 0
    trouble: str = ""


class Drain(msgspec.Struct, frozen=True):
    """How far a putter is emptied.

    Attributes:
        node: the putter.
        decision: ``draining`` or ``gone``; "" for one that was away for too long.
        names_left: how many names still need it; None: nobody has looked yet.
        moving_objects, moving_bytes: what is on its way to others, from all that are emptied.
        eta_s: seconds until that is done, if it goes on like this; None: unknown.
        done: whether it is not needed any more.
    """

    node: str
    decision: str
    names_left: int | None = None
    moving_objects: int = 0
    moving_bytes: int = 0
    eta_s: int | None = None
    done: bool = False


class Drains(msgspec.Struct, frozen=True):
    """All putters that are emptied."""

    nodes: tuple[Drain, ...] = ()


class Share(msgspec.Struct, frozen=True):
    """What a putter holds and what it should.

    Attributes:
        node: identity.
        held_bytes: data, once everything that is owed is paid.
        share_bytes: what it should hold when all disks are equally full.
    """

    node: str
    held_bytes: int = 0
    share_bytes: int = 0


class Balance(msgspec.Struct, frozen=True):
    """How evenly the bytes are spread, at the last look.

    Attributes:
        uneven_bytes: on putters that held too much; 0 if none was far off its share.
        left_bytes: how much of it is not under way yet.
        nodes: the putters.
    """

    uneven_bytes: int = 0
    left_bytes: int = 0
    nodes: tuple[Share, ...] = ()


class RouterStatus(msgspec.Struct, frozen=True):
    """A router that is registered.

    Attributes:
        router: identity of this start of it.
        address: ``host:port`` of its port for raw streams.
        age_ms: time since its last sign of life.
        version: of its software.
        state: ``live``, ``suspect`` or ``down``.
    """

    router: str
    address: str = ""
    age_ms: int | None = None
    version: str = ""
    state: str = ""


class WorkerStatus(msgspec.Struct, frozen=True):
    """A worker of the router that answered.

    Attributes:
        worker: its number.
        router: its identity; None if it did not answer.
        answers: whether it did.
        writing: objects under way.
    """

    worker: int
    router: str | None = None
    answers: bool = False
    writing: int = 0


class StoreStatus(msgspec.Struct, frozen=True):
    """The cluster as one router sees it.

    Attributes:
        version: of the router's code.
        router: identity of the router that answered.
        redis: the coordinator.
        nodes: the putters.
        routers: all routers.
        workers: those of the router that answered, if it has several.
        objects: count of objects by state.
        numbers: ``tickets_used`` and ``tickets_max``.
        repair: what putters are owed.
        incurable: what this router could not heal lately.
        policy: what counts where a bucket has no settings of its own.
        buckets: those that have.
        audit: comparisons of what putters hold with what they should.
        balance: how evenly the bytes are spread; None from a router that has not looked.
        events: those of buckets that wait.
    """

    version: str
    router: Any = None
    redis: RedisStatus = RedisStatus(ok=False)
    nodes: tuple[NodeStatus, ...] = ()
    routers: tuple[RouterStatus, ...] = ()
    workers: tuple[WorkerStatus, ...] = ()
    objects: dict[str, int] = {}
    numbers: dict[str, int] = {}
    repair: tuple[Refill, ...] = ()
    incurable: tuple[Incurable, ...] = ()
    policy: BucketPolicy | None = None
    buckets: tuple[BucketInfo, ...] = ()
    audit: AuditState = AuditState()
    balance: Balance | None = None
    events: tuple[EventQueue, ...] = ()
