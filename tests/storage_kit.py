"""Runs, engines and questions that the tests of storage share."""

from __future__ import annotations

from itertools import chain

from common.tickets import encode_field
from common.wire import frames
from common.wire.status import Status
from putter.storage.engine import Engine, Record, Run
from putter.storage.segments.packing import AtRest, key_id_of

KEY = bytes(range(32))
KEY_ID = "0a1b2c3d"
DATA_KEY = bytes(range(64, 96))
PACKED = AtRest(
    compress=True,
    writing=key_id_of(DATA_KEY),
    keys={key_id_of(DATA_KEY): DATA_KEY},
    block_bytes=40,
)
"""Everything encrypted, in blocks so small that the runs of these tests have several."""


def verify(key_id: str, first: int, frame_bytes: int, rows: bytes) -> bool | None:
    """What a node with the one key of these tests tells its engine."""
    if key_id != KEY_ID:
        return None
    return not frames.check(memoryview(bytearray(rows)), first, frame_bytes, KEY).any()


def data_for(first: int, size: int, salt: int = 0) -> bytes:
    """Bytes that tell where they belong."""
    word = b"%d.%d;" % (first, salt)
    return (word * (size // len(word) + 1))[:size]


def run_of(
    first: int, data: bytes, *, frame_bytes: int = 8, object_id: str = "OBJ", key_id: str = KEY_ID
) -> Run:
    """A verified run, as a session hands it to an engine."""
    rows = memoryview(bytearray(frames.wire_bytes(len(data), frame_bytes)))
    frames.build(rows, memoryview(data), first, frame_bytes, KEY)
    return Run(first, rows, frame_bytes, object_id, key_id)


def stored(
    engine: Engine, first: int, count: int, *, raw: bool = False, check: bool = True
) -> dict[int, bytes]:
    """The data of the tickets in a range, taken from whole frames that fit their checksums."""
    found: dict[int, bytes] = {}
    for piece in engine.read(first, count, raw=raw):
        stride = piece.frame_bytes + 16
        rows = memoryview(bytearray(piece.frames))
        assert piece.count == -(-len(rows) // stride) > 0
        assert first <= piece.first
        assert piece.first + piece.count <= first + count
        assert not found or piece.first > max(found)
        if check:
            assert not frames.check(rows, piece.first, piece.frame_bytes, KEY).any()
        for index in range(piece.count):
            row = rows[index * stride : (index + 1) * stride]
            assert row[:8] == encode_field(piece.first + index)
            found[piece.first + index] = bytes(row[16:])
    return found


def split(first: int, data: bytes, frame_bytes: int = 8) -> dict[int, bytes]:
    """What `stored` gives once a run of this data was put."""
    cuts = range(0, len(data), frame_bytes)
    return {first + at // frame_bytes: data[at : at + frame_bytes] for at in cuts}


def put(engine: Engine, run: Run, *, raw: bool = False) -> list[Status]:
    """Put a run and name the statuses."""
    return [Status(status) for status in engine.put(run, raw=raw).tolist()]


def record(stamp: int, object_id: str = "", body: bytes = b"") -> Record:
    """A commit record; its body is opaque to engines."""
    return Record(stamp, object_id, body or b"body of %d" % stamp)


def numbers(engine: Engine, after: int = 0, limit: int = 1000) -> list[int]:
    """The numbers of the records that an engine lists."""
    return [numbered.number for numbered in engine.records(after, limit)]


def sole(statuses: list[Status]) -> Status:
    """The status that all tickets of a run share."""
    assert len(set(statuses)) == 1
    return statuses[0]


def merged(*parts: dict[int, bytes]) -> dict[int, bytes]:
    """Several answers of `split` together."""
    return dict(chain.from_iterable(part.items() for part in parts))
