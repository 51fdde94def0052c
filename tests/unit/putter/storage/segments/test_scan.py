from __future__ import annotations

import random
from dataclasses import replace

import pytest

from putter.storage.block_file import BLOCK_BYTES
from putter.storage.segments.formats import RECORD_MAGIC, Header, Kind, encode_header
from putter.storage.segments.scan import Found, Gap, scan

SECRET = bytes(range(32))
NUMBER = 5
SIZE = 12 * BLOCK_BYTES


class Segment:
    """A segment that is written by hand."""

    def __init__(self) -> None:
        self.data = bytearray(SIZE)
        self.at = BLOCK_BYTES
        self.sequence = 0

    def commit(self, *sizes: int, epoch: int = 1) -> list[int]:
        """Records with bodies of these lengths; where they begin."""
        self.at = -(-self.at // BLOCK_BYTES) * BLOCK_BYTES
        begin, offsets = self.at // BLOCK_BYTES, []
        for size in sizes:
            self.sequence += 1
            header = Header(Kind.COMMIT, NUMBER, self.sequence, epoch, begin, size)
            whole = encode_header(header, SECRET) + b"b" * size
            self.data[self.at : self.at + len(whole)] = whole
            offsets.append(self.at)
            self.at += header.length
        return offsets

    def scanned(
        self, window_bytes: int = 1 << 20, size: int = SIZE
    ) -> list[tuple[int, int | None]]:
        """``(offset, None)`` of records and ``(from, to)`` of gaps."""

        def read(offset: int, length: int) -> bytes:
            return bytes(self.data[offset : offset + length])

        return [
            (each.at, each.end if isinstance(each, Gap) else None)
            for each in scan(read, size, NUMBER, SECRET, window_bytes)
        ]


WINDOWS = (64, 700, BLOCK_BYTES, 1 << 20)


@pytest.mark.parametrize("window_bytes", WINDOWS)
def test_records_of_several_commits(window_bytes: int) -> None:
    segment = Segment()
    offsets = segment.commit(10, 5000, 0) + segment.commit(4016 - 80) + segment.commit(3)
    assert segment.scanned(window_bytes) == [(at, None) for at in offsets]
    assert Segment().scanned(window_bytes) == []


@pytest.mark.parametrize("window_bytes", WINDOWS)
def test_a_damaged_header_is_a_gap(window_bytes: int) -> None:
    segment = Segment()
    first, second, third = segment.commit(10, 700, 20)
    (fourth,) = segment.commit(5)
    segment.data[second + 30] ^= 1
    assert segment.scanned(window_bytes) == [
        (first, None), (second, third), (third, None), (fourth, None),
    ]  # fmt: skip


def test_damage_at_the_end_of_a_commit_is_a_gap() -> None:
    segment = Segment()
    first, second = segment.commit(10, 20)
    (third,) = segment.commit(5)
    segment.data[second] ^= 1
    assert segment.scanned() == [(first, None), (second, third), (third, None)]


def test_damage_behind_the_last_record_cannot_be_told_from_nothing() -> None:
    segment = Segment()
    first, second = segment.commit(10, 20)
    segment.data[second] ^= 1
    assert segment.scanned() == [(first, None)]


def test_a_record_that_reaches_beyond_the_end_is_none() -> None:
    segment = Segment()
    first, second = segment.commit(10, 5000)
    assert segment.scanned(size=second + 5000) == [(first, None)]


def test_what_was_cut_off_by_an_earlier_start_is_passed_over() -> None:
    segment = Segment()
    (stale,) = segment.commit(5000)[:1]
    segment.commit(100, epoch=1)
    segment.at = stale
    (fresh,) = segment.commit(10, epoch=2)
    segment.data[fresh + 96 : fresh + BLOCK_BYTES] = bytes(BLOCK_BYTES - 96)
    assert segment.scanned() == [(fresh, None)]


def test_a_body_does_not_look_like_a_record() -> None:
    segment = Segment()
    first, second = segment.commit(2000, 10)
    for at in range(first + 96, first + 2000, 24):
        segment.data[at : at + 4] = RECORD_MAGIC
    forged = Header(Kind.COMMIT, NUMBER, 9, 1, 1, 0)
    segment.data[first + 800 : first + 880] = encode_header(forged, bytes(32))
    segment.data[first + 1600 : first + 1680] = encode_header(
        replace(forged, segment=NUMBER + 1), SECRET
    )
    assert segment.scanned() == [(first, None), (second, None)]
    segment.data[first] ^= 1
    assert segment.scanned() == [(first, second), (second, None)]


def test_any_damage_leaves_the_other_records() -> None:
    for seed in range(200):
        generator = random.Random(seed)
        segment = Segment()
        offsets = segment.commit(10, 700, 3000) + segment.commit(600, 0) + segment.commit(2500, 8)
        ends = [*offsets[1:], segment.at]
        at = generator.randrange(BLOCK_BYTES, segment.at)
        noise = generator.randbytes(generator.choice((1, 60, 900)))
        segment.data[at : at + len(noise)] = noise
        found = {low for low, high in segment.scanned(generator.choice(WINDOWS)) if high is None}
        assert found <= set(offsets)
        for low, high in zip(offsets, ends, strict=True):
            if high <= at or at + len(noise) <= low:
                assert low in found, seed


def test_found_tells_of_a_gap_before_it() -> None:
    segment = Segment()
    segment.commit(10, 20, 30)
    segment.data[BLOCK_BYTES] ^= 1
    found = list(scan(lambda o, n: bytes(segment.data[o : o + n]), SIZE, NUMBER, SECRET))
    flags = [each.after_gap for each in found if isinstance(each, Found)]
    assert flags == [True, False]
