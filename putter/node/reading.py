"""Answers to `Read` and `Verify`: tickets from the disk, by threads, many questions at a time.

What came in one receive is shared out among a few jobs, so that many small questions cost few
hand-overs between threads; what a job has read leaves in one write. While the client does not take
its answers, nothing more is read.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

import msgspec

from common.checksum import Buffer
from common.errors import IntegrityError, ProtocolError, PutterError, StorageError
from common.limits import MESSAGE_PAYLOAD_BYTES_MAX, MIB
from common.logs import Repeats, get_logger
from common.metrics import Metrics
from common.requests import about_request, current_request, resume_request
from common.tickets import format_id
from common.wire import frames
from common.wire.session import Data, Read, encode
from common.wire.verification import Sums, Verify
from putter.node.verify import NodeCheck
from putter.storage.engine import Engine, Piece

_log = get_logger(__name__)
_JOBS_MAX: Final = 4
_JOB_BYTES: Final = MIB
"""A job ends behind the piece that reaches this."""
_SHARE_MIN: Final = 4
"""So many small questions cost less one after the other than the threads would to take turns."""
_FEW_TICKETS: Final = 4


class Reading:
    """The reads of one session.

    Args:
        transport: where answers go.
        engine: is only read here.
        readers: threads.
        metrics: counters.
        check: verifies frames.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        engine: Engine,
        readers: Executor,
        metrics: Metrics,
        check: NodeCheck,
    ) -> None:
        self._transport = transport
        self._engine = engine
        self._readers = readers
        self._metrics = metrics
        self._check = check
        self._waiting: deque[_Cursor] = deque()
        self._read: deque[_Cursor] = deque()
        self._jobs = 0
        self._cursors = 0
        self._planned = False
        self._paused = False
        self._gone = False
        self._repeats = Repeats()

    @property
    def count(self) -> int:
        """Questions that are not answered to their end."""
        return self._cursors

    def take(self, message: Read | Verify) -> None:
        """Answer a question."""
        self._cursors += 1
        if isinstance(message, Read):
            self._waiting.append(_Cursor(self._engine, message))
        else:
            self._waiting.append(_SumsCursor(self._engine, message, self._check))
        if not self._planned:
            self._planned = True
            asyncio.get_running_loop().call_soon(self._share_out)

    def pause(self) -> None:
        """The client does not read."""
        self._paused = True

    def resume(self) -> None:
        """It reads again."""
        self._paused = False
        self._send()

    def cancel(self) -> None:
        """The client is gone."""
        self._gone = True
        self._waiting.clear()
        self._read.clear()

    # -- inside ----------------------------------------------------------------------------

    def _share_out(self) -> None:
        self._planned = False
        loop = asyncio.get_running_loop()
        while self._waiting and self._jobs < _JOBS_MAX and not self._paused:
            size = -(-len(self._waiting) // (_JOBS_MAX - self._jobs))
            if self._waiting[0].count <= _FEW_TICKETS:
                size = min(max(size, _SHARE_MIN), len(self._waiting))
            share = [self._waiting.popleft() for _ in range(size)]
            self._jobs += 1
            job = loop.run_in_executor(self._readers, _advance, share)
            job.add_done_callback(self._done(share))

    def _done(self, share: list[_Cursor]) -> Callable[[asyncio.Future[int]], None]:
        def done(job: asyncio.Future[int]) -> None:
            self._jobs -= 1
            if self._gone or job.cancelled():
                return
            reached = job.result()
            self._read.extend(share[:reached])
            self._waiting.extendleft(reversed(share[reached:]))
            self._send()

        return done

    def _send(self) -> None:
        """Hand over what was read, then go on with what waits."""
        while self._read and not self._paused and not self._gone:
            parts: list[Buffer] = []
            size = 0
            while self._read and size < _JOB_BYTES:
                cursor = self._read.popleft()
                size += cursor.empty_into(parts)
                if cursor.exhausted:
                    self._cursors -= 1
                    self._tell(cursor)
                else:
                    self._waiting.append(cursor)
            self._metrics.read_bytes.inc(size)
            if not self._transport.is_closing():
                self._transport.writelines(parts)
        self._share_out()

    def _tell(self, cursor: _Cursor) -> None:
        """Name what could not be read: the client hears the same, and asks another putter."""
        error, asked = cursor.error, cursor.message
        if not isinstance(error, (IntegrityError, StorageError)):
            return
        more = self._repeats.due(str(error), asyncio.get_running_loop().time())
        if more is not None:
            with about_request(asked.request_id):
                _log.warning(
                    "a read ends early",
                    first=format_id(asked.first),
                    count=asked.count,
                    reason=str(error),
                    **more,
                )


@dataclass(frozen=True, slots=True)
class _Part:
    """What was read of a piece.

    Attributes:
        piece: as the engine gave it, without its bytes where they are not sent.
        size: bytes that were read.
        payload: what is sent.
    """

    piece: Piece
    size: int
    payload: Buffer


class _Cursor:
    """Steps through one read, about a megabyte at a time."""

    def __init__(self, engine: Engine, message: Read | Verify) -> None:
        self._engine = engine
        self.message: Final = message
        self._raw = isinstance(message, Read) and message.raw
        self._pieces: Iterator[Piece] | None = None
        self._end = message.first + message.count
        self.count: Final = message.count
        self._found: list[_Part] = []
        self.error: PutterError | None = None
        self.exhausted = False

    def advance(self) -> int:
        """On a thread: read the next pieces, in order; their bytes."""
        before = current_request()
        resume_request(self.message.request_id)
        try:
            return self._advance()
        finally:
            resume_request(before)

    def _advance(self) -> int:
        size = 0
        try:
            if self._pieces is None:
                asked = self.message
                self._pieces = iter(self._engine.read(asked.first, asked.count, raw=self._raw))
            while size < MIB and not self.exhausted:
                piece = next(self._pieces, None)
                if piece is None:
                    self.exhausted = True
                    break
                _check(piece)
                self._found.append(self._part(piece))
                size += self._found[-1].size
                self.exhausted = piece.first + piece.count >= self._end
        except PutterError as error:
            self.error, self.exhausted = error, True
        except Exception as error:  # noqa: BLE001 - the client gets an answer, the log the trace
            _log.exception("the storage engine failed", first=self.message.first)
            self.error = StorageError(f"the storage engine failed: {error}")
            self.exhausted = True
        return size

    def empty_into(self, parts: list[Buffer]) -> int:
        """Add the messages for what was read; its bytes. With the last one the answer ends."""
        found, self._found = self._found, []
        size = 0
        for part in found:
            more = not self.exhausted or self.error is not None or part is not found[-1]
            parts += (encode(self._header(part, more=more), len(part.payload)), part.payload)
            size += part.size
        if self.error is not None or (self.exhausted and not found):
            parts.append(encode(self._ending(self.error)))
        return size

    # -- what an answer is made of ---------------------------------------------------------

    def _part(self, piece: Piece) -> _Part:
        """On a thread: what is sent of a piece."""
        return _Part(piece, len(piece.frames), piece.frames)

    def _header(self, part: _Part, *, more: bool) -> Data | Sums:
        piece = part.piece
        return Data(
            request=self.message.request,
            first=piece.first,
            count=piece.count,
            frame_bytes=piece.frame_bytes,
            key_id=piece.key_id,
            more=more,
        )

    def _ending(self, error: PutterError | None) -> Data | Sums:
        end = Data(self.message.request, 0, 0, 0, "", more=False)
        if error is None:
            return end
        return msgspec.structs.replace(end, status=error.status, reason=error.message)


class _SumsCursor(_Cursor):
    """The same for `Verify`: what is read is verified, and its checksums are sent."""

    def __init__(self, engine: Engine, message: Verify, check: NodeCheck) -> None:
        super().__init__(engine, message)
        self._key_id = message.key_id
        self._check = check

    def _part(self, piece: Piece) -> _Part:
        sums = self._check.sums(
            piece.key_id, piece.first, piece.frame_bytes, piece.frames, self._key_id
        )
        return _Part(dataclasses.replace(piece, frames=b""), len(piece.frames), sums)

    def _header(self, part: _Part, *, more: bool) -> Sums:
        piece = part.piece
        size = frames.data_bytes_of(part.size, piece.frame_bytes)
        return Sums(
            self.message.request, piece.first, piece.count, piece.frame_bytes, size, more=more
        )

    def _ending(self, error: PutterError | None) -> Sums:
        end = Sums(self.message.request, 0, 0, 0, 0, more=False)
        if error is None:
            return end
        return msgspec.structs.replace(end, status=error.status, reason=error.message)


def _check(piece: Piece) -> None:
    if len(piece.frames) > MESSAGE_PAYLOAD_BYTES_MAX:
        raise ProtocolError(f"the engine gave a piece of {len(piece.frames)} bytes")


def _advance(cursors: Sequence[_Cursor]) -> int:
    """Read on, one after the other; how many were reached before the job was large enough."""
    size = 0
    for reached, cursor in enumerate(cursors, 1):
        size += cursor.advance()
        if size >= _JOB_BYTES:
            return reached
    return len(cursors)
