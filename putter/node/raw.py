"""Raw connections on 5000: frames of 1474 bytes, any tickets in any order, acked on the same line.

Whole frames are checked and stored by the bufferful. The last frame may be shorter (17 bytes at
least) and is ended by half-close. A frame that is refused does not end the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import numpy as np

from common import tickets
from common.budget import Budget, Gate
from common.buffers import BufferPool
from common.errors import PutterError
from common.keys import Keyring
from common.limits import (
    CONNECTION_PENDING_BYTES_MAX,
    FRAME_HEADER_BYTES,
    KIB,
    RAW_DATA_BYTES,
    RAW_FRAME_BYTES,
)
from common.metrics import Metrics
from common.wire import acks, frames
from common.wire.frames import Statuses
from common.wire.status import Status
from putter.node.committer import Committer
from putter.storage.engine import Engine, Run

_FIRST_BYTES: Final = 12 * RAW_FRAME_BYTES
_FULL_BYTES: Final = 700 * RAW_FRAME_BYTES
_NO_KEY: Final = 255

assert _FIRST_BYTES < 32 * KIB


@dataclass(frozen=True)
class _Checked:
    """Frames after their verification.

    Attributes:
        fields, numbers, statuses: see `common.wire.frames.check_any`.
        keys: uint8, for each frame the index of the key that fits, or `_NO_KEY`.
        key_ids: the ids of the keys.
    """

    fields: tickets.Fields
    numbers: tickets.Numbers
    statuses: Statuses
    keys: Statuses
    key_ids: list[str]


def _check(rows: memoryview, keyring: Keyring) -> _Checked:
    """Find the key of each frame; the writing one is tried first."""
    first, *others = keyring.keys
    fields, numbers, statuses = frames.check_any(rows, RAW_DATA_BYTES, [first.checksum])
    keys = np.where(statuses == Status.WRITTEN, np.uint8(0), np.uint8(_NO_KEY))
    for index, key in enumerate(others[: _NO_KEY - 1], start=1):
        missing = statuses == Status.CHECKSUM_MISMATCH
        if not missing.any():
            break
        _, _, found = frames.check_any(rows, RAW_DATA_BYTES, [key.checksum])
        fits = missing & (found == Status.WRITTEN)
        statuses[fits] = Status.WRITTEN
        keys[fits] = index
    return _Checked(fields, numbers, statuses, keys, keyring.ids)


class _RawJob:
    """A bufferful of frames on its way to the disk."""

    objects: Collection[str] = ()
    requests: Collection[str] = ()

    def __init__(
        self,
        port: RawConnection,
        rows: memoryview,
        checked: _Checked,
    ) -> None:
        self.size = len(rows)
        self._port = port
        self._rows = rows
        self._checked = checked
        self._statuses = checked.statuses

    def apply(self, engine: Engine) -> None:
        at = 0
        checked = self._checked
        for first, count, key in tickets.segments(checked.numbers, checked.keys):
            if key != _NO_KEY:
                run = Run(
                    first=first,
                    frames=self._rows[at * RAW_FRAME_BYTES : (at + count) * RAW_FRAME_BYTES],
                    frame_bytes=RAW_DATA_BYTES,
                    object_id="",
                    key_id=checked.key_ids[key],
                )
                self._statuses[at : at + count] = engine.put(run, raw=True)
            at += count

    def finish(self, error: PutterError | None) -> None:
        if error is not None:
            self._statuses[self._statuses == Status.WRITTEN] = error.status
        self._port.answer(self._checked.fields, self._statuses, self._rows)


class RawConnection:
    """The handler of one raw connection.

    Args:
        transport: where acks go.
        committer: the way to the disk.
        keyring: a frame is good if one of these keys fits.
        pool: memory for frames.
        budget: of the whole node.
        metrics: of the whole node.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        committer: Committer,
        keyring: Keyring,
        pool: BufferPool,
        budget: Budget,
        metrics: Metrics,
    ) -> None:
        self._transport = transport
        self._committer = committer
        self._keyring = keyring
        self._pool = pool
        self._metrics = metrics
        self._gate = Gate(budget, CONNECTION_PENDING_BYTES_MAX, self._pause, self._resume)
        self._buffer: memoryview | None = None
        self._filled = 0
        self._room = _FIRST_BYTES
        self._eof = False
        self._slow_reader = False
        self._held = False

    def get_buffer(self) -> memoryview:
        """Where the next bytes go."""
        if self._buffer is None:
            self._buffer = self._pool.take(self._room)
        return self._buffer[self._filled :]

    def buffer_updated(self, size: int) -> None:
        """``size`` bytes came; store the frames that are whole."""
        assert self._buffer is not None
        self._filled += size
        whole = self._filled // RAW_FRAME_BYTES * RAW_FRAME_BYTES
        if whole == 0:
            return
        if self._filled == len(self._buffer):
            self._room = _FULL_BYTES
        buffer, rest = self._buffer, self._filled - whole
        self._buffer = None
        self._filled = 0
        if rest:
            self._buffer = self._pool.take(self._room)
            self._buffer[:rest] = buffer[whole : whole + rest]
            self._filled = rest
        self._store(buffer[:whole])

    def eof_received(self) -> bool:
        """The sender is done: the rest is its last, short frame.

        Returns:
            True: the connection stays open until everything is acked.
        """
        self._eof = True
        buffer, size = self._buffer, self._filled
        self._buffer = None
        self._filled = 0
        if buffer is not None and size > FRAME_HEADER_BYTES:
            self._store(buffer[:size])
        elif buffer is not None and size:
            self._refuse_part(bytes(buffer[: min(8, size)]))
        self._close_if_done()
        return True

    def connection_lost(self) -> None:
        """The sender is gone; what it sent is stored all the same."""
        self._buffer = None
        self._eof = True

    def pause_writing(self) -> None:
        """The sender does not read its acks: stop reading its frames."""
        self._slow_reader = True
        self._apply_pause()

    def resume_writing(self) -> None:
        """It reads again."""
        self._slow_reader = False
        self._apply_pause()

    @property
    def pending_bytes(self) -> int:
        """Bytes of whole frames that are received and not yet acked."""
        return self._gate.held_bytes

    def stop(self) -> None:
        """The node is stopping: no more frames; the connection ends once everything is acked."""
        self._eof = True
        self._held = True
        self._apply_pause()
        self._close_if_done()

    def give_up(self) -> None:
        """The sender is silent: a frame that it began is malformed."""
        buffer, size = self._buffer, self._filled
        self._buffer = None
        self._filled = 0
        if buffer is not None and size:
            self._refuse_part(bytes(buffer[: min(8, size)]))

    def answer(self, fields: tickets.Fields, statuses: Statuses, rows: memoryview) -> None:
        """These frames are durable, or refused."""
        good = int((statuses == Status.WRITTEN).sum())
        self._metrics.stored_bytes.inc(good * RAW_DATA_BYTES)
        size = len(rows)
        rows.release()
        self._write(fields, statuses)
        self._gate.give(size)
        self._close_if_done()

    def _refuse_part(self, start: bytes) -> None:
        """Ack a frame that is not there as a whole, by what there is of its ticket."""
        field = np.zeros((1, 8), np.uint8)
        field[0, : len(start)] = np.frombuffer(start, np.uint8)
        self._write(field, np.array([Status.MALFORMED], np.uint8))

    def _store(self, rows: memoryview) -> None:
        self._gate.take(len(rows))
        checked = _check(rows, self._keyring)
        self._metrics.frames.inc(len(checked.numbers))
        self._committer.submit(_RawJob(self, rows, checked))

    def _write(self, fields: tickets.Fields, statuses: Statuses) -> None:
        values, counts = np.unique(statuses, return_counts=True)
        self._metrics.count_acks(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        if not self._transport.is_closing():
            self._transport.write(acks.encode(fields, statuses))

    def _close_if_done(self) -> None:
        if self._eof and self._gate.held_bytes == 0 and not self._transport.is_closing():
            self._transport.close()

    def _pause(self) -> None:
        self._held = True
        self._apply_pause()

    def _resume(self) -> None:
        self._held = self._eof
        self._apply_pause()

    def _apply_pause(self) -> None:
        if self._transport.is_closing() or (self._eof and not self._held):
            return
        if self._held or self._slow_reader:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()
