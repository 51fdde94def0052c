"""What is made of a putter's answer: good tickets, bad ones, and answers that are none."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import NodesUnavailable, NotAuthorised, StorageError
from common.wire import frames
from common.wire.session import Data, Done
from common.wire.status import Status
from router.copies import Copy, stretches
from router.ranges import Slice
from tests.node_kit import KEY, RING, play
from tests.router_kit import FRAME, Store, payload
from tests.simulation.loop import World

FIRST, COUNT = 700, 4
DATA = payload(3 * FRAME + 10)
PART = Slice(FIRST, COUNT, len(DATA), 0, len(DATA), ("p0",))


def wire(data: bytes = DATA, first: int = FIRST) -> memoryview:
    out = memoryview(bytearray(frames.wire_bytes(len(data), FRAME)))
    frames.build(out, memoryview(data), first, FRAME, KEY.checksum)
    return out


def told(first: int = FIRST, count: int = COUNT, **other: Any) -> Data:
    fields = {"frame_bytes": FRAME, "key_id": KEY.key_id, "more": True} | other
    return Data(1, first, count, **fields)


def copy_of(*answers: tuple[Any, memoryview]) -> Copy:
    copy = Copy(PART, FRAME)
    for answer in answers:
        copy.take(answer, RING)
    return copy


@given(st.lists(st.booleans(), max_size=60))
def test_stretches_are_what_is_set(bits: list[bool]) -> None:
    found = list(stretches(np.array(bits, np.bool_)))
    assert [at + n for at, count in found for n in range(count)] == [
        at for at, bit in enumerate(bits) if bit
    ]
    assert all(a + n < b for (a, n), (b, _) in pairwise(found))


class TestACopy:
    def test_all_of_it(self) -> None:
        copy = copy_of((told(), wire()), (told(0, 0, more=False), memoryview(b"")))
        assert copy.good.all()
        assert not copy.bad.any()
        assert copy.data == DATA

    def test_in_pieces_with_a_gap(self) -> None:
        tail = wire(DATA[3 * FRAME :], FIRST + 3)
        copy = copy_of((told(FIRST, 1), wire(DATA[:FRAME])), (told(FIRST + 3, 1), tail))
        assert copy.good.tolist() == [True, False, False, True]
        assert not copy.bad.any()
        assert copy.data[:FRAME] == DATA[:FRAME]
        assert copy.data[3 * FRAME :] == DATA[3 * FRAME :]

    def test_a_damaged_frame(self) -> None:
        rows = wire()
        rows[FRAME + 100] ^= 1
        copy = copy_of((told(), rows))
        assert copy.good.tolist() == [True, False, True, True]
        assert copy.bad.tolist() == [False, True, False, False]

    @pytest.mark.parametrize("size", [3 * FRAME + 9, 3 * FRAME + 11])
    def test_a_last_ticket_of_another_length(self, size: int) -> None:
        copy = copy_of((told(), wire(payload(size))))
        assert copy.bad.tolist() == [False, False, False, True]
        assert copy.good.tolist() == [True, True, True, False]
        assert len(copy.data) == len(DATA)

    def test_frames_of_another_size(self) -> None:
        copy = copy_of((told(frame_bytes=2 * FRAME), wire()))
        assert copy.bad.all()

    @pytest.mark.parametrize(("first", "count"), [(699, 4), (701, 4), (700, 5), (700, 0)])
    def test_other_tickets_than_were_asked_for(self, first: int, count: int) -> None:
        with pytest.raises(NodesUnavailable):
            copy_of((told(first, count), wire()))

    def test_a_wrong_count(self) -> None:
        with pytest.raises(NodesUnavailable, match="miscounted"):
            copy_of((told(FIRST, 3), wire()))

    def test_another_message(self) -> None:
        with pytest.raises(NodesUnavailable):
            copy_of((Done(1, 0), memoryview(b"")))

    def test_a_disk_that_does_not_read(self) -> None:
        with pytest.raises(StorageError, match="sector"):
            copy_of((told(status=Status.IO_ERROR, reason="sector"), memoryview(b"")))

    def test_a_key_that_nobody_has(self) -> None:
        with pytest.raises(NotAuthorised):
            copy_of((told(key_id="other"), wire()))


def test_two_that_complete_the_same_object_do_so_in_turn() -> None:
    """As a replay does that finds its record on two putters at once."""

    async def main(world: World) -> None:
        store = await Store(world, 2).start()
        written = await store.write(payload(50_000))
        one, other = store.putters
        held = other.tickets
        other.engine.free([(ticket, 1) for ticket in held])
        other.engine.sync()
        replicas = store.router.janitor._replicas
        began = asyncio.get_running_loop().time()
        found = await asyncio.gather(*(replicas.complete(written.version) for _ in range(3)))
        assert asyncio.get_running_loop().time() - began < 5, "nobody waited in vain"
        assert found == [written.version.objects] * 3
        assert other.tickets == one.tickets == held
        assert not replicas._at_work
        await store.stop()

    play(main)
