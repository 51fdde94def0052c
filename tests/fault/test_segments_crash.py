"""The segment store when the power goes or the disk refuses, at every single change of the disk.

A recorded life of a node is lived again and again, and each time it ends at another change. What
was promised by then is known to a dictionary; the disk then forgets what was not synced, in an
order of its own, and the next start has to keep every promise. A failure prints its seed.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import pytest

from common.errors import PutterError
from common.limits import KIB, MIB
from common.meta.interface import Ceilings
from common.wire.status import Status
from putter.storage.engine import Record
from putter.storage.memory_disk import CHANGES, MemoryDisk
from putter.storage.segments.engine import SegmentsEngine
from putter.storage.segments.packing import AtRest
from putter.storage.segments.sealed_index import SealedIndex
from tests.storage_kit import PACKED, data_for, put, run_of, split, stored, verify

SOAK = "PUTTER_SOAK" in os.environ
SEEDS = range(40 if SOAK else 1)
STEP = 1 if SOAK else 4
"""How many changes lie between those that are tried, where the tests are slow."""

Key = tuple[bool, int]
Entry = tuple[int, str, bytes]
Hook = Callable[[str, str], None]


class PowerLossError(Exception):
    """The process ends here."""


def no_fault(operation: str, path: str) -> None:
    """A healthy disk."""


def stop_at(last: int) -> Hook:
    """Let so many changes happen and none after them."""
    left = last

    def hook(operation: str, path: str) -> None:
        nonlocal left
        if operation in CHANGES:
            left -= 1
            if left < 0:
                raise PowerLossError

    return hook


def refuse_from(first: int, times: int, number: int) -> Hook:
    """Refuse some changes behind each other."""
    seen = -1

    def hook(operation: str, path: str) -> None:
        nonlocal seen
        if operation in CHANGES:
            seen += 1
            if first <= seen < first + times:
                raise OSError(number, os.strerror(number))

    return hook


@contextmanager
def told(text: str) -> Iterator[None]:
    """Name what it takes to see a failure again."""
    try:
        yield
    except BaseException as error:
        error.add_note(text)
        raise


class Node:
    """An engine and the dictionary that it is held against.

    `possible` holds, for each ticket that changed, every value it had since the last sync. What was
    refused, `doubtful`, may still turn up whole after a restart.
    """

    def __init__(self, disk: MemoryDisk, segment_bytes: int, at_rest: AtRest | None = None) -> None:
        self.disk = disk
        self.at_rest = at_rest
        self.segment_bytes = segment_bytes
        self.now: dict[Key, bytes] = {}
        self.possible: dict[Key, set[bytes | None]] = {}
        self.records: dict[int, Entry] = {}
        self.possible_records: dict[int, Entry] = {}
        self.wanted: dict[int, Entry] = {}
        self.doubtful: dict[Key, bytes] = {}
        self.needs: dict[int, set[Key]] = {}
        self.highest_durable = 0
        self.ceilings = Ceilings()
        self.possible_ceilings = Ceilings()
        self.torn = False
        self.engine: SegmentsEngine

    def open(self) -> None:
        self.engine = SegmentsEngine(
            self.disk, segment_bytes=self.segment_bytes, verify=verify, at_rest=self.at_rest
        )

    # -- what a user does ------------------------------------------------------------------

    def put(
        self, first: int, size: int, frame_bytes: int, *, raw: bool = False, object_id: str = "A"
    ) -> None:
        data = data_for(first, size)
        fresh = {}
        for ticket, part in split(first, data, frame_bytes).items():
            if (raw, ticket) not in self.now:
                fresh[raw, ticket] = part
                self.possible.setdefault((raw, ticket), {None}).add(part)
        run = run_of(first, data, frame_bytes=frame_bytes, object_id=object_id)
        statuses = put(self.engine, run, raw=raw)
        if set(statuses) == {Status.WRITTEN}:
            self.now |= fresh
        else:
            assert set(statuses) <= {Status.WRITTEN, Status.IO_ERROR, Status.NO_SPACE}
            self.torn = True

    def record(self, stamp: int, object_id: str, size: int = 40) -> None:
        entry = (stamp, object_id, data_for(stamp, size))
        self.wanted[stamp] = entry
        needs = {key for key in self.possible if key in self.now}
        try:
            number = self.engine.put_record(Record(*entry))
        except PutterError:
            self.torn = True
            return
        assert number > max([self.highest_durable, *self.records])
        self.records[number] = self.possible_records[number] = entry
        self.needs[number] = needs

    def free(self, *ranges: tuple[int, int], raw: bool = False) -> None:
        gone = [
            key
            for key in self.now
            if key[0] == raw and any(low <= key[1] < low + count for low, count in ranges)
        ]
        for key in gone:
            self.possible.setdefault(key, {self.now[key]}).add(None)
            for needed in self.needs.values():
                needed.discard(key)
        try:
            assert self.engine.free(ranges, raw=raw) == len(gone)
        except PutterError:
            self.torn = True
            return
        for key in gone:
            del self.now[key]

    def drop(self, object_id: str) -> None:
        gone = {n: entry for n, entry in self.records.items() if entry[1] == object_id}
        self.possible_records |= gone
        try:
            assert self.engine.drop_records([object_id]) == len(gone)
        except PutterError:
            self.torn = True
            return
        for number in gone:
            del self.records[number]
            self.needs.pop(number, None)

    def lift(self, ceilings: Ceilings) -> None:
        self.possible_ceilings = self.possible_ceilings.highest(ceilings)
        try:
            self.ceilings = self.engine.raise_ceilings(ceilings)
        except PutterError:
            return
        assert self.ceilings == self.ceilings.highest(ceilings)

    def sync(self) -> None:
        try:
            self.engine.sync()
        except PutterError:
            self.refused()
            return
        if self.torn:
            self.refused()
        self.settle()

    def tend(self, pieces: int) -> None:
        for _ in range(pieces):
            more = self.engine.tend(64 * KIB).more
            self.sync()
            if not more:
                break

    def restart(self) -> None:
        try:
            self.engine.close()
        except PutterError:
            self.reopen()
            return
        if not self.torn:
            self.settle()
        self.reopen()

    def reopen(self) -> None:
        """A killed process is followed by another."""
        self.open()
        self.accept()
        self.torn = False
        self.settle()

    def refused(self) -> None:
        """Nothing since the last sync is promised."""
        for key, values in self.possible.items():
            for value in values:
                if value is not None:
                    self.doubtful[key] = value
        self.possible_records |= self.records
        self.accept()
        self.torn = False

    # -- what must be there ----------------------------------------------------------------

    def settle(self) -> None:
        self.possible, self.possible_records, self.needs = {}, {}, {}
        self.highest_durable = max([self.highest_durable, *self.records])

    def accept(self) -> None:
        """Take over what is there, if it may be."""
        seen = {
            (raw, ticket): data
            for raw in (False, True)
            for ticket, data in stored(self.engine, 0, 1 << 20, raw=raw).items()
        }
        for key in seen.keys() | self.now.keys() | self.possible.keys():
            values = self.possible.get(key, {self.now.get(key)})
            assert seen.get(key) in values | ({self.doubtful.get(key)} - {None}), key
        records = {
            each.number: (each.record.stamp, each.record.object_id, each.record.body)
            for each in self.engine.records(0, 10_000)
        }
        for number in records.keys() | self.records.keys():
            entry = records.get(number)
            if number in self.possible_records:
                assert entry in (None, self.possible_records[number])
            elif number in self.records:
                assert entry == self.records[number]
            else:  # its put_record did not return
                assert entry is not None
                assert entry == self.wanted[entry[0]]
                assert number > self.highest_durable
            if entry is not None:
                assert self.needs.get(number, set()) <= seen.keys()
        ceilings = self.engine.raise_ceilings(Ceilings())
        assert ceilings == ceilings.highest(self.ceilings)
        assert ceilings.highest(self.possible_ceilings) == self.possible_ceilings
        self.now, self.records, self.ceilings = seen, records, ceilings


def small_life(node: Node) -> None:
    """A little of everything in segments of 16 KiB: several are filled."""
    node.open()
    node.put(1290, 60, 8)
    node.record(10, "A")
    node.sync()
    node.put(2000, 1, 1458, object_id="")
    node.put(2001, 9_000, 1458)
    node.lift(Ceilings(5000, 100, 1000))
    node.put(30, 700, 64, raw=True, object_id="")
    node.sync()
    node.free((1290, 2), (1295, 1))
    node.put(3000, 21_000, 2000, object_id="B")
    node.record(11, "B", 900)
    node.sync()
    node.restart()
    node.drop("A")
    node.free((31, 4), raw=True)
    node.put(31, 130, 64, raw=True, object_id="")
    node.sync()
    node.put(4000, 12_000, 1458, object_id="C")
    node.record(12, "C", 3_000)
    node.record(13, "")
    node.lift(Ceilings(9000, 100, 2000))
    node.reopen()
    node.free((2000, 20), (3000, 8))
    node.record(14, "D", 5_000)
    node.sync()
    node.tend(6)
    node.put(5000, 14_000, 4000, object_id="E")
    node.drop("B")
    node.record(15, "E")
    node.free((30, 100), raw=True)
    node.sync()
    node.put(6000, 3, 3)
    node.sync()
    node.engine.close()


def large_life(node: Node) -> None:
    """Runs of megabytes in segments of 4 MiB."""
    node.open()
    node.put(100, 1, 65_536)
    node.record(1, "A")
    node.sync()
    node.put(200, 3 * MIB, 65_536)
    node.put(400, 2 * MIB + 77, 1 * MIB, object_id="B")
    node.record(2, "B")
    node.sync()
    node.put(1000, 1_500_000, 1458, raw=True, object_id="")
    node.free((200, 30))
    node.sync()
    node.restart()
    node.put(3000, 5 * MIB, 256 * KIB, object_id="C")
    node.record(3, "C", 400_000)
    node.lift(Ceilings(1, 2, 3))
    node.sync()
    node.free((3000, 9))
    node.drop("B")
    node.sync()
    node.tend(4)
    node.engine.close()


@dataclass(frozen=True)
class Life:
    """What is lived, and in segments of which length."""

    live: Callable[[Node], None]
    segment_bytes: int
    at_rest: AtRest | None = None

    def changes(self) -> int:
        """How many changes of the disk it takes."""
        count = 0

        def hook(operation: str, path: str) -> None:
            nonlocal count
            count += operation in CHANGES

        node = Node(MemoryDisk(before=hook), self.segment_bytes, self.at_rest)
        self.live(node)
        return count


SMALL = Life(small_life, 16 * KIB)
MEDIUM = Life(small_life, 64 * KIB)
LARGE = Life(large_life, 4 * MIB)
PACKED_SMALL = Life(small_life, 16 * KIB, replace(PACKED, compress=False, block_bytes=3000))
PACKED_LARGE = Life(large_life, 4 * MIB, replace(PACKED, block_bytes=64 * KIB))


def until(life: Life, hook: Hook) -> Node:
    """Live until the power goes."""
    node = Node(MemoryDisk(before=hook), life.segment_bytes, life.at_rest)
    with pytest.raises(PowerLossError):
        life.live(node)
    node.disk.before = no_fault
    return node


def goes_on(node: Node, generator: random.Random) -> None:
    """The next start keeps the promises, gives new ones, and these outlive a crash, too."""
    node.open()
    node.accept()
    node.settle()
    for _ in range(2):
        node.put(7000, 5_000, 1458, object_id="Z")
        node.record(99, "Z") if not node.engine.find_record("Z") else None
        node.free((7001, 1))
        node.sync()
        node.put(7100, 700, 64, object_id="Y")
        node.disk.crash(generator)
        node.open()
        node.accept()
        node.settle()
    assert node.engine.find_record("Z") is not None


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("life", [SMALL, MEDIUM, PACKED_SMALL], ids=["16K", "64K", "encrypted"])
def test_power_may_go_at_every_change(life: Life, seed: int) -> None:
    for last in range(life.changes()):
        with told(f"seed {seed}, change {last}"):
            generator = random.Random(seed * 100_003 + last)
            node = until(life, stop_at(last))
            node.disk.crash(generator)
            goes_on(node, generator)
            assert not node.engine.report.lost


@pytest.mark.parametrize("seed", SEEDS)
def test_power_may_go_again_during_the_next_start(seed: int) -> None:
    for last in range(SMALL.changes()):
        with told(f"seed {seed}, change {last}"):
            generator = random.Random(seed * 100_003 + last)
            node = until(SMALL, stop_at(last))
            for _ in range(3):
                node.disk.crash(generator)
                node.disk.before = stop_at(generator.randrange(8))
                try:
                    node.open()
                except PowerLossError:
                    continue
                finally:
                    node.disk.before = no_fault
            node.disk.crash(generator)
            goes_on(node, generator)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("life", [LARGE, PACKED_LARGE], ids=["plain", "packed"])
def test_large_runs_are_torn(life: Life, seed: int) -> None:
    for last in range(seed % STEP, life.changes(), STEP):
        with told(f"seed {seed}, change {last}"):
            generator = random.Random(seed * 100_003 + last)
            node = until(life, stop_at(last))
            node.disk.crash(generator)
            goes_on(node, generator)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_killed_process_may_be_followed_by_a_power_loss(seed: int) -> None:
    """What the next process finds and confirms must be durable, not only visible."""
    for last in range(SMALL.changes()):
        with told(f"seed {seed}, change {last}"):
            node = until(SMALL, stop_at(last))
            node.open()
            node.accept()
            node.settle()
            generator = random.Random(seed * 100_003 + last)
            node.disk.crash(generator)
            goes_on(node, generator)


def compacting_life(node: Node) -> None:
    """Segments of which little is left, and a compaction of them."""
    node.open()
    for step in range(6):
        node.put(1000 * (step + 1), 9_000, 1458, object_id=f"O{step}")
        node.put(1000 * (step + 1), 700, 64, raw=True, object_id="")
        node.record(step + 1, f"O{step}", 600)
        node.sync()
    node.free(*((1000 * (step + 1), 5) for step in range(5)))
    node.drop("O1")
    node.sync()
    for _ in range(12):
        node.engine.tend(1 * KIB)
        node.sync()
    node.engine.close()


COMPACTING = Life(compacting_life, 16 * KIB)


def counted_twice(engine: SegmentsEngine) -> list[object]:
    """What an index counts although a segment with a higher number holds it."""
    catalog, found = engine._catalog, list[object]()
    for segment in catalog.segments.values():
        for raw in (False, True):
            for place in segment.index.all_runs(raw=raw):
                counts = catalog.places(place.first, place.end, raw=raw, limit=place.count)
                found += [each for each in counts if each.segment != segment.number]
        for record in segment.index.after(0, 10_000):
            newest = catalog.record(record.number)
            found += [] if newest == record else [record]
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_what_an_interrupted_compaction_left_twice_counts_once(seed: int) -> None:
    interrupted = 0
    for last in range(COMPACTING.changes()):
        with told(f"seed {seed}, change {last}"):
            generator = random.Random(seed * 100_003 + last)
            node = until(COMPACTING, stop_at(last))
            node.disk.crash(generator)
            for _ in range(2):  # the next start finds the same
                node.open()
                interrupted += node.engine.report.twice_bytes > 0
                assert counted_twice(node.engine) == []
                node.accept()
                node.settle()
            dead = [
                each.number
                for each in node.engine._catalog.segments.values()
                if isinstance(each.index, SealedIndex) and 2 * each.index.live_bytes <= each.size
            ]
            for _ in range(2 * len(dead)):  # it pauses between segments
                node.tend(20)
            assert counted_twice(node.engine) == []
            assert not node.engine._catalog.segments.keys() & dead
            node.reopen()
    assert interrupted > 10


@pytest.mark.parametrize("times", [1, 2, 5, 10_000])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
def test_changes_may_be_refused(number: int, times: int) -> None:
    """Whatever is confirmed in between is there afterwards."""
    for first in range(times % STEP, SMALL.changes(), STEP + 1):
        with told(f"change {first}"):
            node = Node(MemoryDisk(), SMALL.segment_bytes)
            node.disk.before = refuse_from(first, times, number)
            with suppress(PutterError):  # a node that cannot start or stop is killed
                SMALL.live(node)
            node.disk.before = no_fault
            generator = random.Random(first)
            if first % 2:
                node.open()  # and what it sees then is confirmed by the next process
                node.accept()
                node.settle()
            node.disk.crash(generator)
            goes_on(node, generator)
