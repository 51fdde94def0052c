"""All metrics of a router and of a putter, named and described in one place.

Each process object has a registry of its own, so that a router and a putter in one process, or
many of them in one test, do not share numbers. Counters are moved once per batch, never once
per frame. Labels take few values: a port, a status, a node, an error code; never a name or a
ticket.
"""

from __future__ import annotations

from typing import Final, Literal, TypeVar, cast

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from common.wire.status import Status

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_SYNC_BUCKETS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5)
_REQUEST_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 120)
Labelled = TypeVar("Labelled", Counter, Histogram)


class Metrics:
    """The counters, gauges and histograms of one process.

    Both roles declare all of them; those that a role never moves stay at zero and, where they
    have labels, do not appear.

    Attributes:
        registry: what `render` reads.
        connections: open connections, by port.
        tls_expires_seconds: when the TLS certificate ends, seconds since 1970; 0 without one.
        refused: connections and requests that were turned away, by port and reason.
        ingest_bytes: bytes taken from clients, by port.
        served_bytes: bytes of files sent to clients.
        objects_written: objects that were answered OK.
        objects_failed: objects that were answered with an error, by its code.
        objects_freed: objects whose tickets were freed on every node.
        orphans_freed: objects that nobody knew of whose tickets were freed.
        degraded_writes: objects written on fewer than the wanted replicas.
        degraded_reads: fetches of about a run that were verified on fewer replicas than wanted.
        local_read_bytes: bytes of frames that were read from files of putters on the same machine.
        stale_reads: reads of what a name held lately, while Redis was away.
        requests: answered web requests, by method and HTTP status.
        request_seconds: their duration, by method.
        s3_requests: those of them that came to the S3 door, by operation and HTTP status.
        s3_seconds: their duration, by operation.
        acks: acks, by status; a router counts those it took, a putter those it gave.
        acks_ignored: acks for a ticket that is not in flight to that putter, by reason.
        frames: frames received and checked by a putter.
        frames_resent: frames that were sent again, to the same node or to another.
        members: putters that are registered, by state.
        link_up: 1 while the session to a node stands, by node.
        inflight_bytes: frame bytes sent and not yet acknowledged, by node.
        pending_bytes: bytes held in memory for writes.
        write_seconds: from the first byte of an object to its answer.
        tickets_used: highest ticket number that was leased.
        group_commit_seconds: from the first write of a batch to the end of its sync.
        group_commit_size: write requests that shared one sync.
        stored_bytes: data bytes made durable by a putter.
        read_bytes: data bytes read and verified by a putter.
        fsyncs: syncs of a putter's disk.
        free_bytes: free space of a putter's disk.
        compacted_bytes: bytes that a putter copied to get the space of removed ones back.
        reclaimed_bytes: bytes of disk that it got back so.
        run_plain_bytes: bytes of the runs that a putter wrote since its start.
        run_stored_bytes: what they took on its disk, packed, with their headers.
        scrubbed_bytes: bytes of its disk that a putter verified.
        scrub_findings: damages that it found there, by what is damaged.
        scrub_mended: of them, what it made again at once.
        scrub_progress: 0 … 1, of the pass under way; 0 while there is none.
        scrub_completed_seconds: when the last whole pass ended, seconds since 1970.
        damaged_tickets: tickets that are marked as damaged.
        damaged_others: other things that are: commit records, removals, indexes.
        owed_objects: objects that putters should hold and do not, for each of them.
        owed_bytes: bytes of these objects.
        uneven_bytes: bytes on putters that hold more than their share, once one is far off its own.
        owed_records: commit records without an object that putters lack, for each of them.
        repaired_objects: objects given to putters that lacked them.
        repaired_bytes: bytes copied for that.
        handed_records: records without an object that were given to putters that lacked them.
        healed: damages of replicas that were healed.
        audit_found: what comparing inventories found to be missing or too much, by what.
        audit_completed_seconds: when this router last compared them, seconds since 1970.
        lifecycle_expired: what ended by lifecycle rules of buckets, by what.
        lifecycle_completed_seconds: when this router last carried them out, seconds since 1970.
        surplus_freed: objects freed on putters that held them in the place of others.
        events_waiting: events of buckets that wait for a target, by target.
        events_delivered: events that a target took, by target.
        events_failed: tries to deliver some that failed, by target.
        events_dropped: events that had to go undelivered, by target.
    """

    def __init__(self, role: Literal["router", "putter"]) -> None:
        self.role = role
        self.registry = CollectorRegistry()
        self._children: dict[tuple[object, ...], Counter | Histogram] = {}
        self._process()
        self._writing()
        self._links()
        self._disk()
        self._scrub()
        self._repair()
        self._events()

    def render(self) -> bytes:
        """Everything in the text format of Prometheus (`CONTENT_TYPE`)."""
        return generate_latest(self.registry)

    def child(self, metric: Labelled, *values: str) -> Labelled:
        """What ``metric.labels(…)`` gives, remembered: the library looks for it anew each time.

        Args:
            metric: one of these.
            values: of its labels.
        """
        key = (metric, *values)
        found = self._children.get(key)
        if found is None:
            found = self._children[key] = metric.labels(*values)
        return cast("Labelled", found)

    def count_acks(self, statuses: dict[int, int]) -> None:
        """Add a batch of acks, status byte to count."""
        for status, count in statuses.items():
            try:
                name = Status(status).name.lower()
            except ValueError:
                name = "unknown"
            self.acks.labels(name).inc(count)

    def _process(self) -> None:
        ProcessCollector(registry=self.registry)
        self._gauge("putter_info", "1; which role answers.", "role").labels(self.role).set(1)
        self.connections = self._gauge("putter_connections", "Open connections.", "port")
        self.refused = self._counter(
            "putter_refused", "Connections and requests turned away.", "port", "reason"
        )
        self.tls_expires_seconds = self._gauge(
            "putter_tls_expires_seconds", "When the TLS certificate ends, since 1970."
        )
        self.requests = self._counter(
            "putter_requests", "Answered web requests.", "method", "status"
        )
        self.request_seconds = self._histogram(
            "putter_request_seconds", "Duration of web requests.", _REQUEST_BUCKETS, "method"
        )

        self.s3_requests = self._counter(
            "putter_s3_requests", "Answered requests of the S3 door.", "operation", "status"
        )
        self.s3_seconds = self._histogram(
            "putter_s3_seconds",
            "Duration of requests of the S3 door.",
            _REQUEST_BUCKETS,
            "operation",
        )

    def _writing(self) -> None:
        self.ingest_bytes = self._counter(
            "putter_ingest_bytes", "Bytes taken from clients.", "port"
        )
        self.served_bytes = self._counter("putter_served_bytes", "Bytes of files sent to clients.")
        self.objects_written = self._counter(
            "putter_objects_written", "Objects that were answered OK."
        )
        self.objects_failed = self._counter(
            "putter_objects_failed", "Objects that were answered with an error.", "code"
        )
        self.objects_freed = self._counter(
            "putter_objects_freed", "Objects whose tickets were freed on every node."
        )
        self.orphans_freed = self._counter(
            "putter_orphans_freed", "Objects that nobody knew of whose tickets were freed."
        )
        self.degraded_writes = self._counter(
            "putter_degraded_writes", "Objects written on fewer than the wanted replicas."
        )
        self.local_read_bytes = self._counter(
            "putter_local_read_bytes", "Bytes of frames read from files of putters here."
        )
        self.degraded_reads = self._counter(
            "putter_degraded_reads", "Fetches verified on fewer replicas than wanted."
        )
        self.stale_reads = self._counter(
            "putter_stale_reads", "Reads of what a name held lately, while Redis was away."
        )
        self.write_seconds = self._histogram(
            "putter_write_seconds", "First byte of an object to its answer.", _REQUEST_BUCKETS
        )
        self.pending_bytes = self._gauge("putter_pending_bytes", "Bytes held in memory for writes.")
        self.tickets_used = self._gauge(
            "putter_tickets_used", "Highest ticket number that was leased."
        )

    def _links(self) -> None:
        self.acks = self._counter("putter_acks", "Acks taken or given.", "status")
        self.acks_ignored = self._counter(
            "putter_acks_ignored", "Acks for tickets not in flight to that putter.", "reason"
        )
        self.frames = self._counter("putter_frames", "Frames received and checked.")
        self.frames_resent = self._counter("putter_frames_resent", "Frames sent again.")
        self.members = self._gauge("putter_members", "Putters that are registered.", "state")
        self.link_up = self._gauge("putter_link_up", "1 while the session stands.", "node")
        self.inflight_bytes = self._gauge(
            "putter_inflight_bytes", "Frame bytes sent and not yet acknowledged.", "node"
        )

    def _disk(self) -> None:
        self.group_commit_seconds = self._histogram(
            "putter_group_commit_seconds",
            "First write of a batch to the end of its sync.",
            _SYNC_BUCKETS,
        )
        self.group_commit_size = self._histogram(
            "putter_group_commit_size",
            "Write requests that shared one sync.",
            (1, 2, 4, 8, 16, 32, 64, 128, 256),
        )
        self.stored_bytes = self._counter("putter_stored_bytes", "Data bytes made durable.")
        self.read_bytes = self._counter("putter_read_bytes", "Data bytes read and verified.")
        self.fsyncs = self._counter("putter_fsync", "Syncs of the disk.")
        self.free_bytes = self._gauge("putter_free_bytes", "Free space of the disk.")
        self.compacted_bytes = self._counter(
            "putter_compacted_bytes", "Bytes copied to get the space of removed ones back."
        )
        self.reclaimed_bytes = self._counter(
            "putter_reclaimed_bytes", "Bytes of disk that compaction gave back."
        )
        self.run_plain_bytes = self._gauge(
            "putter_run_plain_bytes", "Bytes of runs written since the start."
        )
        self.run_stored_bytes = self._gauge(
            "putter_run_stored_bytes", "What these took on the disk."
        )

    def _scrub(self) -> None:
        self.scrubbed_bytes = self._counter("putter_scrubbed_bytes", "Bytes of disk verified.")
        self.scrub_findings = self._counter(
            "putter_scrub_findings", "Damages that were found.", "part"
        )
        self.scrub_mended = self._counter(
            "putter_scrub_mended", "Damages that were mended at once.", "part"
        )
        self.scrub_progress = self._gauge("putter_scrub_progress", "0 to 1, of the present pass.")
        self.scrub_completed_seconds = self._gauge(
            "putter_scrub_completed_seconds", "When the last whole pass ended, since 1970."
        )
        self.damaged_tickets = self._gauge("putter_damaged_tickets", "Tickets marked as damaged.")
        self.damaged_others = self._gauge(
            "putter_damaged_others", "Commit records, removals, indexes marked as damaged."
        )

    def _repair(self) -> None:
        self.owed_objects = self._gauge(
            "putter_owed_objects", "Objects that putters should hold and do not, each of them."
        )
        self.owed_bytes = self._gauge("putter_owed_bytes", "Bytes of these objects.")
        self.uneven_bytes = self._gauge(
            "putter_uneven_bytes", "Bytes above their share on putters, if one is far off its own."
        )
        self.repaired_objects = self._counter(
            "putter_repaired_objects", "Objects given to putters that lacked them."
        )
        self.repaired_bytes = self._counter(
            "putter_repaired_bytes", "Bytes copied to putters that lacked them."
        )
        self.owed_records = self._gauge(
            "putter_owed_records", "Commit records without an object that putters lack."
        )
        self.handed_records = self._counter(
            "putter_handed_records", "Such records given to putters that lacked them."
        )
        self.healed = self._counter(
            "putter_healed", "Damages of replicas that were healed from good ones."
        )
        self.audit_found = self._counter(
            "putter_audit_found", "What comparing inventories found missing or too much.", "what"
        )
        self.audit_completed_seconds = self._gauge(
            "putter_audit_completed_seconds", "When inventories were last compared, since 1970."
        )
        self.lifecycle_expired = self._counter(
            "putter_lifecycle_expired", "What ended by lifecycle rules of buckets.", "what"
        )
        self.lifecycle_completed_seconds = self._gauge(
            "putter_lifecycle_completed_seconds", "When these were last carried out, since 1970."
        )
        self.surplus_freed = self._counter(
            "putter_surplus_freed", "Objects freed on putters that need not hold them any more."
        )

    def _events(self) -> None:
        self.events_waiting = self._gauge(
            "putter_events_waiting", "Events of buckets that wait for their target.", "target"
        )
        self.events_delivered = self._counter(
            "putter_events_delivered", "Events that their target took.", "target"
        )
        self.events_failed = self._counter(
            "putter_events_failed", "Tries to deliver events that failed.", "target"
        )
        self.events_dropped = self._gauge(
            "putter_events_dropped", "Events that had to go undelivered.", "target"
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        """A counter; ``_total`` is added to its name."""
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(name, text, labels, registry=self.registry, buckets=buckets)
