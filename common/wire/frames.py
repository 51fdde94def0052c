"""Frames: one ticket's bytes on the wire, built and checked by the batch.

```
offset  size  field
0       8     TicketID, ASCII base 36, padded right with NUL
8       8     checksum: first 8 bytes of keyed BLAKE3 over TicketID and data
16      1..n  data; n is 1458 on a raw connection, else what the session agreed on
```

A batch is *n* rows of equal length, the last one possibly shorter. Building and checking put the
ticket bytes directly before the data for the time of hashing (the checksum's place is free then),
so that one call per frame hashes both and everything else is done by column.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from common import tickets
from common.checksum import CHECKSUM_BYTES, Buffer, checksum, column
from common.limits import FRAME_HEADER_BYTES
from common.wire.status import Status

Statuses = npt.NDArray[np.uint8]
_TICKET = slice(0, 8)
_CHECK = slice(8, 16)
_ONE_GOOD = np.array([Status.WRITTEN], np.uint8)
_ONE_BAD = np.array([Status.CHECKSUM_MISMATCH], np.uint8)
for _one in (_ONE_GOOD, _ONE_BAD):
    _one.flags.writeable = False


def frame_count(data_bytes: int, frame_bytes: int) -> int:
    """How many frames carry ``data_bytes`` (1 or more) at ``frame_bytes`` of data each."""
    return -(-data_bytes // frame_bytes)


def wire_bytes(data_bytes: int, frame_bytes: int) -> int:
    """The length of those frames on the wire, headers included."""
    return data_bytes + FRAME_HEADER_BYTES * frame_count(data_bytes, frame_bytes)


def data_bytes_of(wire: int, frame_bytes: int) -> int:
    """The data in ``wire`` bytes of frames; the inverse of `wire_bytes`.

    Returns:
        The count of data bytes; -1 if the last frame would be cut within its header or empty.
    """
    stride = frame_bytes + FRAME_HEADER_BYTES
    full, tail = divmod(wire, stride)
    if tail == 0:
        return full * frame_bytes
    if tail <= FRAME_HEADER_BYTES:
        return -1
    return full * frame_bytes + tail - FRAME_HEADER_BYTES


def build(out: memoryview, data: memoryview, first: int, frame_bytes: int, key: bytes) -> None:
    """Split data into frames of consecutive tickets.

    Args:
        out: writable, exactly `wire_bytes` of the data long.
        data: contiguous bytes, 1 or more.
        first: number of the first ticket.
        frame_bytes: data bytes of every frame but the last.
        key: the 32-byte checksum subkey.

    Raises:
        TicketInvalid: the tickets end beyond the last TicketID.
    """
    if len(data) <= frame_bytes:
        field = tickets.encode_field(first)
        out[:FRAME_HEADER_BYTES] = field + checksum(key, field, data)
        out[FRAME_HEADER_BYTES:] = data
        return
    stride = frame_bytes + FRAME_HEADER_BYTES
    count = frame_count(len(data), frame_bytes)
    full = len(data) // frame_bytes
    fields = tickets.encode_range(first, count)
    rows = np.frombuffer(out[: full * stride], np.uint8).reshape(full, stride)
    rows[:, _TICKET] = fields[:full]
    rows[:, _CHECK] = fields[:full]
    rows[:, FRAME_HEADER_BYTES:] = np.frombuffer(data[: full * frame_bytes], np.uint8).reshape(
        full, frame_bytes
    )
    if full < count:
        at = full * stride
        field = fields[full].tobytes()
        out[at : at + FRAME_HEADER_BYTES] = field + field
        out[at + FRAME_HEADER_BYTES :] = data[full * frame_bytes :]
    _put_checksums(out, full, count, stride, column(key, out, stride, CHECKSUM_BYTES))


def check(rows: memoryview, first: int, frame_bytes: int, key: bytes) -> Statuses:
    """Verify frames of consecutive tickets.

    The bytes are the same afterwards, but are written to meanwhile.

    Args:
        rows: writable; whole frames, the last possibly shorter.
        first: number of the first ticket that must stand there.
        frame_bytes: data bytes of every frame but the last.
        key: the 32-byte checksum subkey.

    Returns:
        uint8, shape ``(count,)``, not to be changed: ``WRITTEN`` where the frame is good,
        ``CHECKSUM_MISMATCH`` where ticket, checksum and data do not fit.
    """
    stride = frame_bytes + FRAME_HEADER_BYTES
    count = -(-len(rows) // stride)
    if count == 1:
        field = bytes(rows[_TICKET])
        good = field == tickets.encode_field(first) and (
            bytes(rows[_CHECK]) == checksum(key, field, rows[FRAME_HEADER_BYTES:])
        )
        return _ONE_GOOD if good else _ONE_BAD
    given = _fields(rows, stride, count, _TICKET)
    expected = tickets.encode_range(first, count)
    bad = _mismatches(rows, stride, count, given, key) | (given != expected).any(axis=1)
    return np.where(bad, np.uint8(Status.CHECKSUM_MISMATCH), np.uint8(Status.WRITTEN))


def check_any(
    rows: memoryview, frame_bytes: int, keys: Sequence[bytes]
) -> tuple[tickets.Fields, tickets.Numbers, Statuses]:
    """Verify frames whose tickets are in no order, as raw connections send them.

    Args:
        rows: writable; whole frames, the last possibly shorter (17 bytes at least).
        frame_bytes: data bytes of every frame but the last.
        keys: checksum subkeys; a frame is good if one of them fits.

    Returns:
        The ticket fields (uint8, ``(count, 8)``), their numbers (int64, -1 where not base 36) and
        the statuses: ``WRITTEN``, ``CHECKSUM_MISMATCH`` or ``MALFORMED``.
    """
    stride = frame_bytes + FRAME_HEADER_BYTES
    count = -(-len(rows) // stride)
    fields = _fields(rows, stride, count, _TICKET)
    numbers = tickets.decode_fields(fields)
    bad = np.ones(count, np.bool_)
    for key in keys:
        bad &= _mismatches(rows, stride, count, fields, key)
        if not bad.any():
            break
    statuses = np.where(bad, np.uint8(Status.CHECKSUM_MISMATCH), np.uint8(Status.WRITTEN))
    statuses[numbers < 0] = Status.MALFORMED
    return fields, numbers, statuses


def worst(statuses: Statuses) -> int:
    """The highest of one or more statuses: ``WRITTEN`` only if all of them are."""
    return int(statuses[0] if len(statuses) == 1 else statuses.max())


def checksums(rows: Buffer, frame_bytes: int) -> bytes:
    """The checksum column of whole frames, 8 bytes a frame."""
    stride = frame_bytes + FRAME_HEADER_BYTES
    count = -(-len(rows) // stride)
    return _fields(memoryview(rows), stride, count, _CHECK).tobytes()


def checksums_under(rows: Buffer, first: int, frame_bytes: int, key: bytes) -> bytes:
    """The checksums that whole frames of consecutive tickets would have with another key.

    Args:
        rows: whole frames, the last possibly shorter.
        first: number of the first ticket.
        frame_bytes: data bytes of every frame but the last.
        key: the 32-byte checksum subkey.
    """
    out = memoryview(bytearray(len(rows)))
    build(out, memoryview(strip(rows, frame_bytes)), first, frame_bytes, key)
    return checksums(out, frame_bytes)


def strip(rows: Buffer, frame_bytes: int) -> bytearray:
    """The data of whole frames, joined."""
    full, tail = divmod(len(rows), frame_bytes + FRAME_HEADER_BYTES)
    out = bytearray(full * frame_bytes + max(0, tail - FRAME_HEADER_BYTES))
    strip_into(memoryview(out), rows, frame_bytes)
    return out


def strip_into(out: memoryview, rows: Buffer, frame_bytes: int) -> None:
    """The data of whole frames, joined, in memory that is exactly as long."""
    view = memoryview(rows)
    stride = frame_bytes + FRAME_HEADER_BYTES
    full, tail = divmod(len(view), stride)
    np.frombuffer(out, np.uint8, full * frame_bytes).reshape(full, frame_bytes)[:] = np.frombuffer(
        view[: full * stride], np.uint8
    ).reshape(full, stride)[:, FRAME_HEADER_BYTES:]
    if tail:
        out[full * frame_bytes :] = view[full * stride + FRAME_HEADER_BYTES :]


def assemble(data: Buffer, first: int, frame_bytes: int, sums: bytes) -> bytearray:
    """Frames from stored data and its stored checksums; nothing is hashed.

    Args:
        data: the joined data of consecutive tickets.
        first: number of the first ticket.
        frame_bytes: data bytes of every frame but the last.
        sums: 8 checksum bytes for each frame.
    """
    view = memoryview(data)
    stride = frame_bytes + FRAME_HEADER_BYTES
    count = frame_count(len(view), frame_bytes)
    full = len(view) // frame_bytes
    out = bytearray(wire_bytes(len(view), frame_bytes))
    fields = tickets.encode_range(first, count)
    column_of_sums = np.frombuffer(sums, np.uint8).reshape(count, CHECKSUM_BYTES)
    rows = np.frombuffer(out, np.uint8, full * stride).reshape(full, stride)
    rows[:, _TICKET] = fields[:full]
    rows[:, _CHECK] = column_of_sums[:full]
    rows[:, FRAME_HEADER_BYTES:] = np.frombuffer(view[: full * frame_bytes], np.uint8).reshape(
        full, frame_bytes
    )
    if full < count:
        at = full * stride
        out[at : at + FRAME_HEADER_BYTES] = fields[full].tobytes() + column_of_sums[full].tobytes()
        out[at + FRAME_HEADER_BYTES :] = view[full * frame_bytes :]
    return out


def _fields(rows: memoryview, stride: int, count: int, part: slice) -> tickets.Fields:
    """A copy of one 8-byte column, shape ``(count, 8)``."""
    out = np.empty((count, 8), np.uint8)
    full = len(rows) // stride
    table = np.frombuffer(rows[: full * stride], np.uint8).reshape(full, stride)
    out[:full] = table[:, part]
    if full < count:
        at = full * stride
        out[full] = np.frombuffer(rows[at + part.start : at + part.stop], np.uint8)
    return out


def _put_checksums(rows: memoryview, full: int, count: int, stride: int, values: bytes) -> None:
    table = np.frombuffer(rows[: full * stride], np.uint8).reshape(full, stride)
    column_of_values = np.frombuffer(values, np.uint8).reshape(count, CHECKSUM_BYTES)
    table[:, _CHECK] = column_of_values[:full]
    if full < count:
        at = full * stride + _CHECK.start
        rows[at : at + CHECKSUM_BYTES] = values[full * CHECKSUM_BYTES :]


def _mismatches(
    rows: memoryview, stride: int, count: int, fields: tickets.Fields, key: bytes
) -> npt.NDArray[np.bool_]:
    full = len(rows) // stride
    given = _fields(rows, stride, count, _CHECK)
    _put_checksums(rows, full, count, stride, fields.tobytes())
    values = column(key, rows, stride, CHECKSUM_BYTES)
    _put_checksums(rows, full, count, stride, given.tobytes())
    wanted = np.frombuffer(values, np.uint8).reshape(count, CHECKSUM_BYTES)
    bad: npt.NDArray[np.bool_] = (given != wanted).any(axis=1)
    return bad
