"""One session on 5000, after the greeting: runs and records in, answers out.

A run is the unit of storage: if one of its frames is bad, nothing of it is stored and all of its
tickets are acked with that status, so that the sender repeats the run as a whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from common.budget import Budget, Gate
from common.errors import ProtocolError, PutterError
from common.keys import ClusterKey
from common.limits import (
    COMMIT_RECORD_BYTES_MAX,
    CONNECTION_PENDING_BYTES_MAX,
    FRAME_DATA_BYTES_MAX,
    FRAME_DATA_BYTES_MIN,
)
from common.logs import get_logger
from common.requests import about_request, resume_request
from common.tickets import TICKETS_MAX
from common.wire import frames
from common.wire.handshake import Peer
from common.wire.message import split_payload
from common.wire.reader import MessageReader
from common.wire.session import (
    AnyMessage,
    Batch,
    RecordHeader,
    RecordsDone,
    Refused,
    RunHeader,
    RunsDone,
    encode,
)
from common.wire.status import Status
from putter.node.acks import AckLink
from putter.node.committer import Committer
from putter.node.queries import Queries
from putter.node.services import Services
from putter.storage.engine import Engine, Record, Run

_log = get_logger(__name__)
_NAMED: Final = 32


@dataclass
class _PendingRun:
    run: Run
    count: int
    status: int
    data_bytes: int
    request_id: str = ""


class _BatchJob:
    """The runs and records of one `Batch` on their way to the disk."""

    def __init__(
        self,
        payload: memoryview,
        runs: list[_PendingRun],
        records: list[tuple[RecordHeader, Record]],
        done: Callable[[_BatchJob, PutterError | None], None],
    ) -> None:
        self.size = len(payload)
        self.payload = payload
        self.runs = runs
        self.records = records
        self.answers: list[tuple[int, int]] = []
        self._done = done

    @property
    def objects(self) -> set[str]:
        runs = {pending.run.object_id for pending in self.runs}
        return runs | {record.object_id for _, record in self.records if record.object_id}

    @property
    def requests(self) -> set[str]:
        asked = [pending.request_id for pending in self.runs]
        asked += [header.request_id for header, _ in self.records]
        return {*filter(None, asked)}

    def apply(self, engine: Engine) -> None:
        with about_request(""):
            for pending in self.runs:
                if pending.status == Status.WRITTEN:
                    resume_request(pending.request_id)
                    pending.status = frames.worst(engine.put(pending.run))
            refused = {run.run.object_id: run.status for run in self.runs if run.status}
            for header, record in self.records:
                resume_request(header.request_id)
                # Of a run that was refused, it would say that this node holds what it does not,
                # and take the last room.
                status = refused.get(record.object_id) or _put_record(engine, record)
                self.answers.append((header.request, status))

    def finish(self, error: PutterError | None) -> None:
        if error is not None:
            for pending in self.runs:
                pending.status = pending.status or error.status
            self.answers = [(header.request, error.status) for header, _ in self.records]
        self._done(self, error)

    def refused(self) -> dict[str, dict[str, list[str]]]:
        """By reason: some objects that were refused something, and the requests that were."""
        asked = [(p.status, p.run.object_id, p.request_id) for p in self.runs if p.status]
        statuses = {request: status for request, status in self.answers if status}
        if statuses:
            asked += [
                (statuses[header.request], record.object_id, header.request_id)
                for header, record in self.records
                if header.request in statuses
            ]
        found: dict[str, dict[str, list[str]]] = {}
        for status, object_id, request_id in asked:
            why = Status(status).name.lower().replace("_", " ")
            about = found.setdefault(why, {"objects": [], "requests": []})
            _note(about["objects"], object_id)
            _note(about["requests"], request_id)
        return found


def _put_record(engine: Engine, record: Record) -> int:
    try:
        engine.put_record(record)
    except PutterError as error:
        return error.status
    return Status.WRITTEN


def _note(found: list[str], name: str) -> None:
    if name and name not in found and len(found) < _NAMED:
        found.append(name)


class SessionConnection:
    """The handler of one session.

    Args:
        transport: where answers go.
        peer: what the greeting established.
        services: what the node shares among its connections.
        acks: the link to the client's ack port, or None to answer on this session.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        peer: Peer,
        services: Services,
        acks: AckLink | None,
    ) -> None:
        self._transport = transport
        self._peer = peer
        self._committer: Committer = services.committer
        self._keyring = services.keyring
        self._pool = services.pool
        self._metrics = services.metrics
        self._acks = acks
        self._reader = MessageReader(services.pool)
        self._stopping = False
        self._queries = Queries(
            transport,
            services.engine,
            services.committer,
            services.readers,
            services.metrics,
            services.fence,
            services.scrubber,
            services.check,
        )
        self._fence = services.fence
        budget: Budget = services.budget
        self._gate = Gate(budget, CONNECTION_PENDING_BYTES_MAX, self._hold, self._resume)
        self._held = False
        self._unread = False

    def get_buffer(self) -> memoryview:
        """Where the next bytes go."""
        return self._reader.get_buffer()

    def buffer_updated(self, size: int) -> None:
        """``size`` bytes came.

        Raises:
            PutterError: the stream cannot be re-synchronised.
        """
        for message, payload in self._reader.buffer_updated(size):
            self._take(message, payload)
        self._look_at_queue()

    def eof_received(self) -> bool:
        """The client says nothing more: answers on their way are dropped with the connection."""
        return False

    def connection_lost(self) -> None:
        """The client is gone; what it sent whole is stored all the same."""
        self._queries.cancel()

    def pause_writing(self) -> None:
        """The client does not read its answers."""
        self._queries.pause()

    def resume_writing(self) -> None:
        """It reads again."""
        self._queries.resume()
        if self._unread:
            self._unread = False
            self._apply_pause()

    @property
    def pending_bytes(self) -> int:
        """Bytes that are received and not yet acked."""
        return self._gate.held_bytes

    def stop(self) -> None:
        """The node is stopping: runs that come now are refused with status 6."""
        self._stopping = True

    def refuse(self, error: PutterError) -> None:
        """Tell the client why the session ends."""
        if not self._transport.is_closing():
            self._transport.write(encode(Refused(error.status, error.message, error.hint)))

    # -- inside ----------------------------------------------------------------------------

    def _take(self, message: AnyMessage, payload: memoryview) -> None:
        if isinstance(message, Batch):
            self._store(message, payload)
            return
        if payload:
            raise ProtocolError(f"{type(message).__name__} has no payload")
        self._queries.take(message)

    def _store(self, batch: Batch, payload: memoryview) -> None:
        lengths = [run.wire_bytes for run in batch.runs]
        lengths += [record.length for record in batch.records]
        if not lengths:
            raise ProtocolError("a batch without runs and records")
        parts = split_payload(payload, lengths)
        runs = [self._check(header, part) for header, part in zip(batch.runs, parts, strict=False)]
        records = []
        for record, part in zip(batch.records, parts[len(batch.runs) :], strict=True):
            if record.length > COMMIT_RECORD_BYTES_MAX:
                raise ProtocolError(f"a commit record of {record.length} bytes is too large")
            body = Record(record.stamp, record.object_id, bytes(part))
            records.append((record, body))
        del parts
        late = [h.request for h, record in records if self._fence.covers(record.object_id)]
        if late:
            records = [entry for entry in records if entry[0].request not in late]
            self._queries.send(RecordsDone(tuple((r, Status.TICKET_TAKEN) for r in late)))
        job = _BatchJob(payload, runs, records, self._finished)
        if self._stopping:
            for pending in runs:
                pending.status = Status.SHUTTING_DOWN
            job.answers = [(header.request, Status.SHUTTING_DOWN) for header, _ in records]
            self._answer(job)
            return
        self._gate.take(job.size)
        self._committer.submit(job)

    def _check(self, header: RunHeader, part: memoryview) -> _PendingRun:
        first, object_id = header.first, header.object_id
        frame_bytes = header.frame_bytes or self._peer.frame_bytes
        if not FRAME_DATA_BYTES_MIN <= frame_bytes <= FRAME_DATA_BYTES_MAX:
            raise ProtocolError(f"frames of {frame_bytes} bytes are not of a size that is stored")
        size = frames.data_bytes_of(len(part), frame_bytes)
        if size <= 0:
            raise ProtocolError(f"a run of {len(part)} bytes ends within a frame header")
        count = frames.frame_count(size, frame_bytes)
        if not 0 <= first <= TICKETS_MAX - count:
            raise ProtocolError(f"tickets {first} + {count} do not exist")
        key = self._peer.key
        if self._fence.covers(object_id):
            run = Run(first, part, frame_bytes, object_id, key.key_id)
            return _PendingRun(run, count, Status.TICKET_TAKEN, size, header.request_id)
        key, status = self._keyed(part, first, frame_bytes)
        self._metrics.frames.inc(count)
        run = Run(first, part, frame_bytes, object_id, key.key_id)
        return _PendingRun(run, count, status, size, header.request_id)

    def _keyed(self, part: memoryview, first: int, frame_bytes: int) -> tuple[ClusterKey, int]:
        """The key of a run, and the worst status of its frames.

        As a rule it is the key of the session; the client may have begun to write with another one
        since.
        """
        greeted = self._peer.key
        status = frames.worst(frames.check(part, first, frame_bytes, greeted.checksum))
        if status == Status.WRITTEN and greeted.key_id in self._keyring.ids:
            return greeted, status
        for key in self._keyring.keys:
            if key.key_id != greeted.key_id:
                found = frames.check(part, first, frame_bytes, key.checksum)
                if frames.worst(found) == Status.WRITTEN:
                    return key, Status.WRITTEN
        return greeted, Status.CHECKSUM_MISMATCH

    def _finished(self, job: _BatchJob, error: PutterError | None) -> None:
        size = job.size
        if error is None:  # the committer told of it
            self._tell(job)
        self._metrics.stored_bytes.inc(
            sum(pending.data_bytes for pending in job.runs if pending.status == Status.WRITTEN)
        )
        self._answer(job)
        # The engine only borrowed the payload: the pool may have the buffer back.
        job.runs = []
        self._pool.give(job.payload)
        self._gate.give(size)

    def _tell(self, job: _BatchJob) -> None:
        """Name what was refused: the client hears the same, with no more than a status."""
        for why, about in job.refused().items():
            _log.warning("something is refused", why=why, client=self._peer.hello.node, **about)

    def _answer(self, job: _BatchJob) -> None:
        totals: dict[int, int] = {}
        for pending in job.runs:
            totals[pending.status] = totals.get(pending.status, 0) + pending.count
        self._metrics.count_acks(totals)
        if self._acks is not None:
            for pending in job.runs:
                self._acks.send(pending.run.first, pending.count, pending.status)
        elif job.runs:
            done = tuple((p.run.first, p.count, p.status) for p in job.runs)
            self._queries.send(RunsDone(done))
        if job.answers:
            self._queries.send(RecordsDone(tuple(job.answers)))
        self._look_at_queue()

    def _look_at_queue(self) -> None:
        """A client that does not read its answers may ask no more."""
        if not self._unread and self._queries.unread:
            self._unread = True
            self._apply_pause()

    def _hold(self) -> None:
        self._held = True
        self._apply_pause()

    def _resume(self) -> None:
        self._held = False
        self._apply_pause()

    def _apply_pause(self) -> None:
        if self._transport.is_closing():
            return
        if self._held or self._unread:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()
