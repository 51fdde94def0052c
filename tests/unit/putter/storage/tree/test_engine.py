"""What the tree looks like, and what its operations cost."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

from common.meta.interface import Ceilings
from common.tickets import parse_id
from putter.storage.disk import RealDisk
from putter.storage.memory_disk import MemoryDisk
from putter.storage.tree import TreeEngine
from putter.storage.tree.staging import OPEN_FILES_MAX
from tests.storage_kit import data_for, record, run_of, split, stored


def test_tickets_are_plain_files_anyone_can_read(tmp_path: Path) -> None:
    engine = TreeEngine(RealDisk(tmp_path))
    engine.put(run_of(parse_id("AABBCCDD"), b"hello"))
    engine.put(run_of(parse_id("ABC"), b"raw", object_id=""), raw=True)
    engine.put_record(record(5, "Q"))
    engine.raise_ceilings(Ceilings(1, 1, 1))
    engine.close()
    assert (tmp_path / "tickets/AA/BB/CC/DD/obj").read_bytes() == b"hello"
    files = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert files == [
        "ceilings",
        "clean",
        "commits/1/record",
        "raw/AB/C/obj",
        "raw/AB/C/sum",
        "tickets/AA/BB/CC/DD/obj",
        "tickets/AA/BB/CC/DD/sum",
    ]


def test_freeing_removes_the_directories_that_become_empty() -> None:
    disk = MemoryDisk()
    engine = TreeEngine(disk)
    texts = ["AB", "ABC", "ABCD", "AACD"]
    for text in texts:
        engine.put(run_of(parse_id(text), b"x"))
    engine.sync()
    engine.free([(parse_id("ABCD"), 1), (parse_id("AB"), 1), (parse_id("AACD"), 1)])
    engine.sync()
    assert disk.files() == ["tickets/AB/C/obj", "tickets/AB/C/sum"]
    assert disk.names("tickets") == ["AB"]
    engine.free([(0, parse_id("ZZZZ"))])
    engine.sync()
    assert disk.names("tickets") == []


def test_leftovers_are_removed_at_start() -> None:
    disk = MemoryDisk()
    engine = TreeEngine(disk)
    engine.put(run_of(0, bytes(80)))
    assert disk.names("tmp")
    TreeEngine(disk)
    assert disk.names("tmp") == []


def test_only_an_unclean_start_syncs_the_whole_disk() -> None:
    heard: list[str] = []
    disk = MemoryDisk(before=lambda operation, path: heard.append(operation))
    TreeEngine(disk).close()
    TreeEngine(disk)
    assert "sync_all" not in heard
    TreeEngine(disk)
    assert heard.count("sync_all") == 1


def test_a_new_ticket_costs_no_question() -> None:
    heard: Counter[str] = Counter()
    disk = MemoryDisk(before=lambda operation, path: heard.update([operation]))
    engine = TreeEngine(disk)
    heard.clear()
    engine.put(run_of(36**2 + 36, bytes(8 * 10)))
    engine.sync()
    assert heard["read"] == heard["names"] == heard["unlink"] == heard["remove_directory"] == 0
    assert heard["create"] == heard["sync_file"] == heard["rename"] == 20
    # tickets/, tickets/00 and each ticket's own once for the data, each own once for the mark
    assert heard["sync_directory"] == 2 + 10 + 10


def test_freeing_asks_each_ticket_once_for_its_owner_and_only_if_need_be() -> None:
    heard: Counter[str] = Counter()
    disk = MemoryDisk(before=lambda operation, path: heard.update([operation]))
    engine = TreeEngine(disk)
    engine.put(run_of(0, bytes(8 * 20), object_id="A"))
    engine.sync()
    heard.clear()
    assert engine.free([(0, 10)]) == 10
    assert heard == {"unlink": 10}
    heard.clear()
    assert engine.free([(10, 6)], objects=["A"]) == 6
    assert heard == {"read": 6, "unlink": 6}
    heard.clear()
    assert engine.free([(16, 4)], objects=["B"]) == 0
    assert heard == {"read": 4}


def test_a_ticket_that_tells_no_owner_goes_with_those_of_any() -> None:
    disk = MemoryDisk()
    engine = TreeEngine(disk)
    engine.put(run_of(parse_id("AB"), b"12345678", object_id="A"))
    engine.sync()
    disk.unlink("tickets/AB/sum")
    disk.create("tickets/AB/sum", b"rotten")
    assert stored(engine, 0, 10**6) == {}
    engine.free([(parse_id("AB"), 1)], objects=["B"])
    engine.sync()
    assert disk.names("tickets") == []


def test_an_idle_sync_costs_nothing() -> None:
    heard: list[str] = []
    disk = MemoryDisk(before=lambda operation, path: heard.append(operation))
    engine = TreeEngine(disk)
    engine.put(run_of(0, b"x"))
    engine.sync()
    heard.clear()
    engine.sync()
    assert heard == []


def test_open_files_are_bounded(tmp_path: Path) -> None:
    class Counting(RealDisk):
        most = now = 0

        def create(self, path: str, *parts: object) -> object:  # type: ignore[override]
            self.now += 1
            self.most = max(self.most, self.now)
            return super().create(path, *parts)  # type: ignore[arg-type]

        def sync_files(self, files: object) -> None:  # type: ignore[override]
            self.now -= len(files)  # type: ignore[arg-type]
            super().sync_files(files)  # type: ignore[arg-type]

    disk = Counting(tmp_path)
    engine = TreeEngine(disk)
    engine.put(run_of(0, bytes(8 * 400)))
    engine.sync()
    assert disk.most == OPEN_FILES_MAX
    assert len(stored(engine, 0, 400)) == 400
    engine.close()


def test_many_tickets_on_a_real_disk(tmp_path: Path) -> None:
    engine = TreeEngine(RealDisk(tmp_path))
    data = data_for(1200, 8 * 300 - 3)
    engine.put(run_of(1200, data))
    engine.close()
    engine = TreeEngine(RealDisk(tmp_path))
    assert stored(engine, 0, 10**6) == split(1200, data)
    engine.close()


def test_reading_goes_on_while_another_thread_writes(tmp_path: Path) -> None:
    engine = TreeEngine(RealDisk(tmp_path))
    engine.put(run_of(0, data_for(0, 400)))
    engine.sync()
    wrong: list[object] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            found = stored(engine, 0, 5000)
            if not split(0, data_for(0, 400)).items() <= found.items():
                wrong.append(found)

    reader = threading.Thread(target=read)
    reader.start()
    for first in range(100, 300, 10):
        engine.put(run_of(first, data_for(first, 80)))
        engine.sync()
        engine.free([(first, 5)])
        engine.sync()
    done.set()
    reader.join()
    engine.close()
    assert wrong == []
