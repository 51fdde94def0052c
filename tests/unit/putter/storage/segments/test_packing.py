"""Packed bodies: what goes in comes out, and what was changed is found."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import StorageError
from common.limits import KIB, MIB
from putter.storage.segments import packing
from putter.storage.segments.formats import Header, Kind, run_header
from putter.storage.segments.packing import (
    BLOCK_PLAIN_BYTES_MAX,
    AtRest,
    DamagedBlockError,
    Layout,
    Packer,
    Unpacker,
    key_id_of,
)
from tests.storage_kit import DATA_KEY, run_of

SECRET = bytes(range(100, 132))
KEY_ID = key_id_of(DATA_KEY)
KEYS = {KEY_ID: DATA_KEY}
COMPRESSED = AtRest(compress=True)
ENCRYPTED = AtRest(writing=KEY_ID, keys=KEYS)
BOTH = AtRest(compress=True, writing=KEY_ID, keys=KEYS)
WAYS = pytest.mark.parametrize("way", [COMPRESSED, ENCRYPTED, BOTH])
TEXT = b"the quick brown fox jumps over the lazy dog; " * 20_000
NOISE = random.Random(7).randbytes(MIB)


def run_header_of(
    data: bytes, frame_bytes: int = 1000, object_id: str = "2K"
) -> tuple[Header, memoryview]:
    run = run_of(500, data, frame_bytes=frame_bytes, object_id=object_id)
    return run_header(run, -(-len(data) // frame_bytes), raw=False), run.frames


def pack(
    way: AtRest, data: bytes, frame_bytes: int = 1000
) -> tuple[tuple[Header, bytes] | None, memoryview]:
    header, frames = run_header_of(data, frame_bytes)
    made, body = Packer(way, SECRET).run(header, frames)
    if not made.packed:
        assert (made, body) == (header, (frames,))
        return None, frames
    return (made, b"".join(body)), frames


def packed(way: AtRest, data: bytes, frame_bytes: int = 1000) -> tuple[Header, bytes, bytes]:
    done, frames = pack(way, data, frame_bytes)
    assert done is not None
    return *done, bytes(frames)


def blocks(
    header: Header, body: bytes, keys: dict[bytes, bytes] = KEYS
) -> list[bytes | DamagedBlockError]:
    unpacker = Unpacker(keys, SECRET)
    layout = unpacker.layout(header, body)
    return list(
        unpacker.blocks(header, layout, range(len(layout.blocks)), body[layout.blocks[0].at :])
    )


def plain(header: Header, body: bytes) -> bytes:
    parts = blocks(header, body)
    assert not any(isinstance(part, DamagedBlockError) for part in parts)
    return b"".join(part for part in parts if isinstance(part, bytes))


def layout_of(header: Header, body: bytes) -> Layout:
    return Unpacker(KEYS, SECRET).layout(header, body)


@WAYS
def test_text_comes_back_and_is_smaller_where_it_is_compressed(way: AtRest) -> None:
    header, body, frames = packed(way, TEXT)
    assert plain(header, body) == frames
    assert header.packed
    assert (header.number, header.body_bytes) == (len(frames), len(body))
    assert (len(body) < len(frames) / 5) == way.compress
    assert (b"quick brown" in body) is False or not way.writing
    assert Unpacker({}, SECRET).is_whole(header, body)


@WAYS
@settings(deadline=None)
@given(
    size=st.integers(1, 5000),
    frame_bytes=st.integers(1, 900),
    block_bytes=st.integers(1, 3000),
    noise=st.booleans(),
)
def test_whatever_is_packed_comes_back(
    way: AtRest, size: int, frame_bytes: int, block_bytes: int, noise: bool
) -> None:
    data = (NOISE if noise else TEXT)[:size]
    done, frames = pack(replace(way, block_bytes=block_bytes), data, frame_bytes)
    if done is None:
        assert way.writing is None
        return
    header, body = done
    whole = [part for part in blocks(header, body) if isinstance(part, bytes)]
    assert b"".join(whole) == frames
    stride = frame_bytes + 16
    assert all(len(each) % stride == 0 and len(each) >= block_bytes for each in whole[:-1])
    assert way.writing is not None or len(body) < len(frames)
    assert len(body) <= len(frames) + Packer(
        replace(way, block_bytes=block_bytes), SECRET
    ).overhead(len(frames), frame_bytes)


def test_a_block_has_at_least_64_kib_of_whole_frames() -> None:
    header, body, frames = packed(BOTH, TEXT, 1458)
    layout = layout_of(header, body)
    assert layout.block_bytes == 45 * 1474 >= 64 * KIB
    assert sum(block.plain for block in layout.blocks) == len(frames)


def test_noise_is_left_as_it_is() -> None:
    assert pack(COMPRESSED, NOISE)[0] is None
    header, body, frames = packed(BOTH, NOISE)
    assert not layout_of(header, body).compressed
    assert plain(header, body) == frames


def test_noise_costs_only_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0
    real = zstandard.ZstdCompressor(level=1)

    class Counting:
        def compress(self, data: bytes) -> bytes:
            nonlocal looked
            looked += len(data)
            return real.compress(data)

    packer = Packer(COMPRESSED, SECRET)
    monkeypatch.setattr(packer._squeezer, "_compressor", Counting())
    assert not packer.run(*run_header_of(NOISE))[0].packed
    assert 0 < looked <= 8 * KIB


def test_of_short_noise_fewer_and_fewer_runs_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = 0
    packer = Packer(COMPRESSED, SECRET)
    real = packer._squeezer.squeeze

    def squeeze(piece: bytes) -> bytes | None:
        nonlocal tried
        tried += 1
        return real(piece)

    monkeypatch.setattr(packer._squeezer, "squeeze", squeeze)
    for at in range(1000):
        assert not packer.run(*run_header_of(NOISE[at : at + 2000]))[0].packed
    assert 20 < tried < 50
    packs = [packer.run(*run_header_of(TEXT[:2000]))[0].packed for _ in range(40)]
    first = packs.index(True)
    assert first < 32
    assert all(packs[first:])


def test_of_a_mix_only_what_shrinks_is_compressed() -> None:
    mix = TEXT[: 256 * KIB] + NOISE[: 256 * KIB] + TEXT[: 256 * KIB]
    header, body, frames = packed(COMPRESSED, mix, 64 * KIB)
    kinds = [block.compressed for block in layout_of(header, body).blocks]
    assert kinds == [True] * 4 + [False] * 4 + [True] * 4
    assert plain(header, body) == frames


@pytest.mark.parametrize("size", [1, 100, 990])
def test_what_is_very_short_is_not_compressed(size: int) -> None:
    assert pack(COMPRESSED, TEXT[:size])[0] is None
    header, body, frames = packed(BOTH, TEXT[:size])
    assert plain(header, body) == frames
    assert len(layout_of(header, body).blocks) == 1


def test_the_same_run_twice_shares_no_bytes_but_what_says_what_it_is() -> None:
    (_, one, _), (_, two, _) = packed(ENCRYPTED, TEXT), packed(ENCRYPTED, TEXT)
    first = packing.HEAD_BYTES + packing.ENTRY_BYTES
    assert one[8:24] != two[8:24]
    assert all(a != b for a, b in zip(_words(one[first:]), _words(two[first:]), strict=True))


def _words(data: bytes) -> list[bytes]:
    return [data[at : at + 16] for at in range(0, len(data) - 16, 16)]


@WAYS
@settings(deadline=None)
@given(at=st.integers(0, 1 << 20), bit=st.integers(0, 7))
def test_a_flipped_bit_is_found_and_costs_one_block(way: AtRest, at: int, bit: int) -> None:
    header, body, _ = packed(replace(way, block_bytes=4000), TEXT[:20_000])
    at %= len(body)
    changed = body[:at] + bytes([body[at] ^ 1 << bit]) + body[at + 1 :]
    assert not Unpacker({}, SECRET).is_whole(header, changed)
    first = layout_of(header, body).blocks[0].at
    if at < first:
        with pytest.raises(DamagedBlockError):
            layout_of(header, changed)
        return
    parts = blocks(header, changed)
    bad = [number for number, part in enumerate(parts) if isinstance(part, DamagedBlockError)]
    assert len(bad) == 1
    block = layout_of(header, body).blocks[bad[0]]
    assert block.at <= at < block.at + block.length
    good = blocks(header, body)
    assert [part for part in parts if isinstance(part, bytes)] == good[: bad[0]] + good[
        bad[0] + 1 :
    ]


@settings(deadline=None)
@given(data=st.binary(max_size=400), header_of=st.sampled_from([TEXT[:100], TEXT[:5000]]))
def test_garbage_is_damaged_and_nothing_else(data: bytes, header_of: bytes) -> None:
    header, _, _ = packed(BOTH, header_of)
    unpacker = Unpacker(KEYS, SECRET)
    sealed = replace(header, body_bytes=len(data), body_sum=packing.seal_of(SECRET, data))
    for each in (header, sealed):
        assert not unpacker.is_whole(each, data)
        with pytest.raises(DamagedBlockError):
            unpacker.layout(each, data)


@pytest.mark.parametrize(
    "change",
    [
        {"first": 501},
        {"object_id": "2L"},
        {"key_id": "00000000"},
        {"raw": True},
        {"frame_bytes": 1001},
    ],
)
def test_an_encrypted_block_belongs_to_its_run(change: dict[str, object]) -> None:
    header, body, _ = packed(replace(ENCRYPTED, block_bytes=2000), TEXT[:1900])
    other = replace(header, **change)  # type: ignore[arg-type]
    assert all(isinstance(part, DamagedBlockError) for part in blocks(other, body))


def test_encrypted_blocks_cannot_change_places() -> None:
    header, body, _ = packed(replace(ENCRYPTED, block_bytes=1000), TEXT[:2000])
    layout = layout_of(header, body)
    one, two = layout.blocks
    entries = body[packing.HEAD_BYTES : one.at]
    swapped = layout.head + entries[16:] + entries[:16]
    moved = swapped + body[two.at :] + body[one.at : two.at]
    resealed = replace(header, body_sum=packing.seal_of(SECRET, swapped))
    assert Unpacker({}, SECRET).is_whole(resealed, moved)
    assert all(isinstance(part, DamagedBlockError) for part in blocks(resealed, moved))


def test_without_its_key_every_block_says_so() -> None:
    header, body, _ = packed(replace(ENCRYPTED, block_bytes=1000), TEXT[:2000])
    parts = blocks(header, body, {})
    assert len(parts) == 2
    assert all(KEY_ID.hex() in str(part) for part in parts)


def test_the_key_is_in_no_representation() -> None:
    assert DATA_KEY.hex() not in repr(BOTH)
    assert repr(DATA_KEY) not in repr(BOTH)


def bomb(plain_bytes: int, claimed: bytes) -> tuple[Header, bytes]:
    """A run of one compressed block, sums and all."""
    header, _, _ = packed(COMPRESSED, TEXT[:5000])
    head = packing._HEAD.pack(1, 0, 1, bytes(16), bytes(8))
    entry = packing._ENTRY.pack(len(claimed), 1, packing.seal_of(SECRET, claimed))
    made = replace(
        header,
        count=1,
        frame_bytes=plain_bytes - 16,
        number=plain_bytes,
        body_bytes=48 + len(claimed),
        body_sum=packing.seal_of(SECRET, head, entry),
    )
    return made, head + entry + claimed


@pytest.mark.parametrize("named", [True, False])
def test_a_block_that_would_expand_to_more_than_its_frames_is_damaged(named: bool) -> None:
    squeezed = zstandard.ZstdCompressor(level=19, write_content_size=named).compress(
        bytes(64 * MIB)
    )
    assert len(squeezed) < 8 * KIB
    (part,) = blocks(*bomb(5000, squeezed))
    assert isinstance(part, DamagedBlockError)


def test_no_block_is_larger_than_the_limit() -> None:
    header, body = bomb(BLOCK_PLAIN_BYTES_MAX + 1, zstandard.compress(bytes(100)))
    with pytest.raises(DamagedBlockError, match="blocks of 1 frames"):
        layout_of(header, body)
    data = bytes(BLOCK_PLAIN_BYTES_MAX)
    with pytest.raises(StorageError, match="too long to be packed"):
        pack(ENCRYPTED, data, len(data))


@pytest.mark.parametrize("count", [0, 1 << 31])
def test_a_table_that_cannot_be_is_damaged(count: int) -> None:
    header, body, _ = packed(ENCRYPTED, TEXT[:100])
    with pytest.raises(DamagedBlockError, match="does not fit the record"):
        layout_of(replace(header, count=count), body)


@pytest.mark.parametrize("front", [b"\2\0", b"\1\2"])
def test_an_unknown_version_or_cipher_is_damaged(front: bytes) -> None:
    header, body, _ = packed(ENCRYPTED, TEXT[:100])
    with pytest.raises(DamagedBlockError, match="unknown packing"):
        layout_of(header, front + body[2:])


def record_header(body: bytes) -> Header:
    sealed = packing.seal_of(SECRET, body)
    return Header(
        Kind.COMMIT, 3, 4, 5, 6, len(body), first=17, number=2, object_id="2K", body_sum=sealed
    )


@pytest.mark.parametrize("way", [AtRest(), COMPRESSED])
def test_a_commit_record_is_never_compressed(way: AtRest) -> None:
    header = record_header(TEXT[:5000])
    assert Packer(way, SECRET).record(header, TEXT[:5000]) == (header, TEXT[:5000])
    assert Unpacker({}, SECRET).body(header, TEXT[:5000]) == TEXT[:5000]


@pytest.mark.parametrize("body", [b"photos/cat.jpg", b"x", TEXT])
def test_a_commit_record_is_encrypted(body: bytes) -> None:
    header, stored = Packer(BOTH, SECRET).record(record_header(body), body)
    assert (header.body_bytes, header.body_sum) == (len(stored), packing.seal_of(SECRET, stored))
    assert len(stored) == len(body) + 64
    assert body not in stored or len(body) == 1
    unpacker = Unpacker(KEYS, SECRET)
    assert unpacker.body(header, stored) == body
    for other in (replace(header, number=3), replace(header, first=18)):
        with pytest.raises(DamagedBlockError, match="not authentic"):
            unpacker.body(other, stored)
    with pytest.raises(DamagedBlockError, match="is not here"):
        Unpacker({}, SECRET).body(header, stored)


def test_what_is_current_depends_on_encryption_and_key() -> None:
    other = AtRest(writing=key_id_of(SECRET), keys={key_id_of(SECRET): SECRET})
    bare, sealed = packed(COMPRESSED, TEXT), packed(BOTH, TEXT)
    for way, told in ((COMPRESSED, [True, True, False]), (ENCRYPTED, [False, False, True])):
        packer = Packer(way, SECRET)
        layouts = [None, layout_of(*bare[:2]), layout_of(*sealed[:2])]
        assert [packer.is_current(layout) for layout in layouts] == told
    assert not Packer(other, SECRET).is_current(layout_of(*sealed[:2]))
