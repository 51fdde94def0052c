"""Runs, engines and questions that the tests of storage share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import chain

from common.checksum import Buffer
from common.tickets import encode_field
from common.wire import frames
from common.wire.frames import Statuses
from common.wire.status import Status
from putter.storage.engine import Engine, Record, Run
from putter.storage.scrub import Finding, Part
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


class KitCheck:
    """What a node with the one key of these tests has its disk verified with."""

    def frames(self, key_id: str, first: int, frame_bytes: int, rows: Buffer) -> Statuses | None:
        if key_id != KEY_ID:
            return None
        return frames.check(memoryview(bytearray(rows)), first, frame_bytes, KEY)

    def record(self, body: bytes) -> bool:
        return body != NONSENSE


CHECK = KitCheck()
NONSENSE = b"nonsense"
"""The body of a commit record that `CHECK` does not understand."""


def scrubbed(
    engine: Engine, budget_bytes: int = 1 << 20, *, cursor: str = ""
) -> tuple[list[Finding], int]:
    """Go on with a pass to its end: what was found, and in how many pieces."""
    found: list[Finding] = []
    for pieces in range(1, 10_000):
        piece = engine.scrub(cursor, budget_bytes, CHECK)
        found += piece.findings
        cursor = piece.cursor
        if not cursor:
            return found, pieces
    raise AssertionError("a pass without an end")


def bad_tickets(findings: Iterable[Finding], *, raw: bool = False) -> set[int]:
    """The tickets that do not fit their checksums."""
    return {
        ticket
        for each in findings
        if each.part is Part.TICKETS and each.raw == raw
        for ticket in range(each.first, each.end)
    }


def spoilt(run: Run, *indexes: int) -> Run:
    """The same run with one bit of some of its tickets changed; engines do not look."""
    rows = bytearray(run.frames)
    for index in indexes:
        rows[index * (run.frame_bytes + 16) + 16] ^= 4
    return replace(run, frames=memoryview(rows))


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
