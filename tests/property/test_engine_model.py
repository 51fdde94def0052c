"""Engines on a forgetful disk against a dictionary, with restarts, kills, crashes and faults."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from contextlib import suppress

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from common.errors import StorageError
from common.limits import KIB
from common.meta.interface import Ceilings
from common.wire.status import Status
from putter.storage.engine import Engine
from putter.storage.memory_disk import CHANGES, MemoryDisk
from putter.storage.segments.engine import SegmentsEngine
from putter.storage.tree import TreeEngine
from tests.storage_kit import PACKED, put, record, run_of, split, stored, verify

FRAME_BYTES = 4
TICKETS = st.sampled_from([0, 34, 35, 36, 1330, 1331, 1332, 1333])
OBJECTS = st.none() | st.sets(st.sampled_from(["X", "Y", "Z"]))
SEEDS = st.integers(0, 2**32)
STEPS = st.sampled_from(range(40))
SYNCS = frozenset({"sync_file", "sync_directory", "rename", "write", "sync"})

Key = tuple[bool, int]


class PowerLossError(Exception):
    """The process ends here."""


def owner_of(data: bytes) -> str:
    """The object that a ticket with these bytes belongs to."""
    return data[:1].decode().upper()


def stop_at(last: int) -> Callable[[str, str], None]:
    seen = 0

    def hook(operation: str, path: str) -> None:
        nonlocal seen
        seen += operation in CHANGES
        if seen > last:
            raise PowerLossError

    return hook


def fail_at(last: int) -> Callable[[str, str], None]:
    seen = 0

    def hook(operation: str, path: str) -> None:
        nonlocal seen
        seen += operation in SYNCS
        if operation in SYNCS and seen == last + 1:
            raise OSError(errno.EIO, "Input/output error")

    return hook


def no_fault(operation: str, path: str) -> None:
    """A healthy disk."""


class EngineMachine(RuleBasedStateMachine):
    """`possible` holds, for each ticket, every value it had since the last sync."""

    def open(self) -> Engine:
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.disk = MemoryDisk()
        self.engine = self.open()
        self.now: dict[Key, bytes] = {}
        self.possible: dict[Key, set[bytes | None]] = {}
        self.records: dict[int, tuple[int, str]] = {}
        self.possible_records: dict[int, tuple[int, str]] = {}
        self.needs: dict[int, set[Key]] = {}
        self.last_durable = 0
        self.ceilings = Ceilings()

    # What a user does

    @rule(first=TICKETS, size=st.integers(1, 24), salt=st.sampled_from("xy"), raw=st.booleans())
    def put(self, first: int, size: int, salt: str, raw: bool) -> None:
        data = (salt * size).encode()
        run = run_of(first, data, frame_bytes=FRAME_BYTES, object_id=owner_of(data))
        statuses = put(self.engine, run, raw=raw)
        for status, (ticket, part) in zip(
            statuses, split(first, data, FRAME_BYTES).items(), strict=True
        ):
            key = (raw, ticket)
            held = self.now.get(key)
            assert status == (Status.WRITTEN if held in (None, part) else Status.TICKET_TAKEN)
            if held is None:
                self.change(key, part)

    @rule(first=TICKETS, count=st.integers(1, 60), raw=st.booleans(), objects=OBJECTS)
    def free(self, first: int, count: int, raw: bool, objects: set[str] | None) -> None:
        there = [
            key
            for key, data in self.now.items()
            if key[0] == raw and first <= key[1] < first + count
            if objects is None or owner_of(data) in objects
        ]
        assert self.engine.free([(first, count)], raw=raw, objects=objects) == len(there)
        for key in there:
            self.change(key, None)
            for needed in self.needs.values():
                needed.discard(key)

    @rule(stamp=st.integers(1, 8), object_id=st.sampled_from(["A", "B", ""]))
    def put_record(self, stamp: int, object_id: str) -> None:
        known = {entry[0]: number for number, entry in self.records.items()}
        number = self.engine.put_record(record(stamp, object_id))
        if stamp in known:
            assert number == known[stamp]
            return
        assert number > max(self.records, default=0)
        assert number > self.last_durable
        self.records[number] = self.possible_records[number] = (stamp, object_id)
        self.needs[number] = {key for key in self.possible if key in self.now}

    @rule(object_id=st.sampled_from(["A", "B", ""]))
    def drop(self, object_id: str) -> None:
        gone = [n for n, entry in self.records.items() if object_id and entry[1] == object_id]
        assert self.engine.drop_records([object_id]) == len(gone)
        for number in gone:
            self.possible_records[number] = self.records.pop(number)
            self.needs.pop(number, None)

    @rule(tickets=st.integers(0, 50), stamps=st.integers(0, 50))
    def raise_ceilings(self, tickets: int, stamps: int) -> None:
        self.ceilings = self.ceilings.highest(Ceilings(tickets, 0, stamps))
        assert self.engine.raise_ceilings(Ceilings(tickets, 0, stamps)) == self.ceilings

    @rule()
    def sync(self) -> None:
        self.engine.sync()
        self.settle()
        self.compare()

    @rule(budget=st.sampled_from([1, 100, 1 << 20]), steps=st.integers(1, 12))
    def tend(self, budget: int, steps: int) -> None:
        for _ in range(steps):
            more = self.engine.tend(budget).more
            self.engine.sync()
            self.settle()
            self.compare()
            if not more:
                break

    @rule(budget=st.sampled_from([1, 100, 1 << 20]))
    def tend_and_go_on(self, budget: int) -> None:
        self.engine.tend(budget)

    # What befalls the node

    @rule()
    def restart(self) -> None:
        self.engine.close()
        self.settle()
        self.engine = self.open()
        self.compare()

    @rule()
    def kill(self) -> None:
        self.engine = self.open()
        self.accept()
        self.settle()

    @rule(seed=SEEDS)
    def crash(self, seed: int) -> None:
        self.disk.crash(random.Random(seed))
        self.engine = self.open()
        self.accept()
        self.settle()

    @rule(last=STEPS, seed=SEEDS)
    def crash_during_sync(self, last: int, seed: int) -> None:
        self.sync_until(last)
        self.crash(seed)

    @rule(last=STEPS)
    def kill_during_sync(self, last: int) -> None:
        self.sync_until(last)
        self.kill()

    @rule(last=STEPS, seed=SEEDS)
    def crash_during_start(self, last: int, seed: int) -> None:
        self.disk.crash(random.Random(seed))
        self.disk.before = stop_at(last)
        with suppress(PowerLossError):
            self.open()
        self.disk.before = no_fault
        self.crash(seed + 1)

    @rule(last=STEPS)
    def sync_with_a_fault(self, last: int) -> None:
        self.disk.before = fail_at(last)
        try:
            self.engine.sync()
            self.settle()
        except StorageError:
            self.accept()
        finally:
            self.disk.before = no_fault

    def sync_until(self, last: int) -> None:
        self.disk.before = stop_at(last)
        try:
            self.engine.sync()
            self.settle()
        except PowerLossError:
            pass
        self.disk.before = no_fault

    # The model

    def change(self, key: Key, value: bytes | None) -> None:
        self.possible.setdefault(key, {self.now.get(key)}).add(value)
        if value is None:
            self.now.pop(key, None)
        else:
            self.now[key] = value

    def settle(self) -> None:
        """What is there is durable."""
        self.possible = {}
        self.possible_records = {}
        self.needs = {}
        self.last_durable = max(self.last_durable, *self.records, 0)

    def seen(self) -> dict[Key, bytes]:
        return {
            (raw, ticket): data
            for raw in (False, True)
            for ticket, data in stored(self.engine, 0, 2000, raw=raw).items()
        }

    def seen_records(self) -> dict[int, tuple[int, str]]:
        listed = self.engine.records(0, 1000)
        return {one.number: (one.record.stamp, one.record.object_id) for one in listed}

    def compare(self) -> None:
        assert self.seen() == self.now
        assert self.seen_records() == self.records

    def accept(self) -> None:
        """Take over what is there, if it may be."""
        seen, records = self.seen(), self.seen_records()
        for key in seen.keys() | self.now.keys() | self.possible.keys():
            assert seen.get(key) in self.possible.get(key, {self.now.get(key)})
        for number in records.keys() | self.records.keys():
            entry = records.get(number)
            if number in self.possible_records:
                assert entry in (None, self.possible_records[number])
            else:
                assert entry == self.records[number]
            if entry is not None:
                assert self.needs.get(number, set()) <= seen.keys()
        self.now, self.records = seen, records
        self.needs = {number: keys for number, keys in self.needs.items() if number in records}

    @invariant()
    def ceilings_are_what_was_promised(self) -> None:
        assert self.engine.raise_ceilings(Ceilings()) == self.ceilings


class TreeMachine(EngineMachine):
    def open(self) -> Engine:
        return TreeEngine(self.disk)


class SegmentsMachine(EngineMachine):
    def open(self) -> Engine:
        return SegmentsEngine(self.disk, segment_bytes=16 * KIB, verify=verify)


class PackedMachine(EngineMachine):
    def open(self) -> Engine:
        return SegmentsEngine(self.disk, segment_bytes=16 * KIB, verify=verify, at_rest=PACKED)


for machine in (TreeMachine, SegmentsMachine, PackedMachine):
    machine.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestTree = TreeMachine.TestCase
TestSegments = SegmentsMachine.TestCase
TestPacked = PackedMachine.TestCase
