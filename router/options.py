"""What the operator of a router decides, and what it is if he does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from common.callers import CallerLimits
from common.event_targets import EventTarget
from common.limits import (
    AUDIT_PERIOD_S,
    FRAME_DATA_BYTES_DEFAULT,
    JANITOR_PERIOD_MS,
    LIFECYCLE_PERIOD_S,
    MARKS_PERIOD_MS,
    REBALANCE_PERCENT,
    REPAIR_BYTES_PER_S,
    REPAIR_PERIOD_MS,
    REPLACE_AFTER_S,
    REPLICA_AWAY_MS,
    STALE_READS_S,
    SWEEP_PERIOD_MS,
)
from router.quorum import Policy


@dataclass(frozen=True)
class RouterOptions:
    """What the operator decides.

    Attributes:
        host: address to listen on.
        ingest_port, ack_port: 0 = any free one.
        web_port: None: no web door.
        s3_port: None: no S3 door.
        s3_domain: under which buckets have host names of their own there; "": none.
        s3_website_domain: under which the websites of buckets have host names there; "": none.
        reuse_ports: share the ports of clients with the other workers of this router.
        advertise_host: where putters bring acks; "" = where the session comes from.
        nodes: ``(host, port)`` of putters named by hand.
        policy: N, W, R, consistency.
        frame_bytes: data bytes of a frame in new objects.
        write_timeout_ms: how long a step of a write may stand still.
        idle_ms: silence after which a stream fails.
        callers: connections of each port.
        failover_ms: how long a putter may be away before its frames go to another.
        janitor_period_ms: time between two rounds.
        replica_away_ms: how long an unfinished object waits for a putter that its record names.
        marks_period_ms: time between two rounds of moving the marks.
        sweep_period_ms: time between two walks for what nobody knows of; 0: never.
        repair_period_ms: time between two looks at what putters are owed; 0: never.
        lifecycle_period_ms: time from one pass over the rules of buckets to the next; 0: none.
        audit_period_ms: time between two comparisons of inventories; 0: only when asked for.
        repair_bytes_per_s: rate at which they are given it while nobody writes; 0: no bound.
        rebalance_percent: of its share that a putter may be off before bytes move; 0: none moves.
        replace_after_ms: how long a putter may be away before others get copies; 0: for ever.
        stale_reads_ms: how old what Redis said of a name may be for reads while it is away; 0: they
            wait. Under ``strict`` they always do.
        local_reads: read large objects from the files of putters on the same machine.
        rebuild_auto: bring a Redis that lost everything back without being asked.
        token: of the web door where it is not on loopback.
        event_targets: where events of buckets can go, by name.
    """

    host: str = "127.0.0.1"
    ingest_port: int = 5001
    ack_port: int = 5002
    web_port: int | None = 5004
    s3_port: int | None = None
    s3_domain: str = ""
    s3_website_domain: str = ""
    reuse_ports: bool = False
    advertise_host: str = ""
    nodes: tuple[tuple[str, int], ...] = ()
    policy: Policy = field(default_factory=lambda: Policy(2, 2))
    frame_bytes: int = FRAME_DATA_BYTES_DEFAULT
    write_timeout_ms: int = 30_000
    idle_ms: int = 60_000
    callers: CallerLimits = field(default_factory=CallerLimits)
    failover_ms: int = 2_000
    janitor_period_ms: int = JANITOR_PERIOD_MS
    replica_away_ms: int = REPLICA_AWAY_MS
    marks_period_ms: int = MARKS_PERIOD_MS
    sweep_period_ms: int = SWEEP_PERIOD_MS
    repair_period_ms: int = REPAIR_PERIOD_MS
    repair_bytes_per_s: int = REPAIR_BYTES_PER_S
    lifecycle_period_ms: int = LIFECYCLE_PERIOD_S * 1_000
    audit_period_ms: int = AUDIT_PERIOD_S * 1_000
    rebalance_percent: int = REBALANCE_PERCENT
    replace_after_ms: int = REPLACE_AFTER_S * 1000
    stale_reads_ms: int = STALE_READS_S * 1000
    local_reads: bool = True
    rebuild_auto: bool = True
    token: str = field(default="", repr=False)
    event_targets: Mapping[str, EventTarget] = field(default_factory=dict)
