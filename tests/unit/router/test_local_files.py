"""Files of putters, open for reading."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from common.limits import KIB, MIB
from common.wire.locations import SegmentFile
from router.local_files import MARGIN_BYTES, LocalFiles, OpenSegment


def told(path: Path) -> SegmentFile:
    found = path.stat()
    return SegmentFile(str(path), found.st_dev, found.st_ino)


@pytest.fixture
def content() -> bytes:
    return random.Random(7).randbytes(3 * MIB + 500)


@pytest.fixture
def file(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "0000000000000001.seg"
    path.write_bytes(content)
    return path


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def room(length: int) -> memoryview:
    return memoryview(bytearray(length + MARGIN_BYTES))


class TestReading:
    @pytest.mark.parametrize("offset", [0, 8, 4096, 4104, 100_001, MIB - 8, MIB + 64 * KIB])
    @pytest.mark.parametrize("length", [1, 1474, 32 * KIB, 65_552, MIB, MIB + 256, 2 * MIB])
    def test_any_bytes_past_the_cache_and_through_it(
        self, file: Path, content: bytes, offset: int, length: int
    ) -> None:
        segment = OpenSegment(told(file))
        for _ in range(3):
            found = segment.read(room(length), offset, length)
            expected = content[offset : offset + length]
            assert found == (expected if len(expected) == length else None)
        segment.close()

    def test_what_goes_over_the_end_is_not_there(self, file: Path, content: bytes) -> None:
        segment = OpenSegment(told(file))
        at = len(content) - 40 * KIB
        assert segment.read(room(40 * KIB), at, 40 * KIB) == content[at:]
        assert segment.read(room(40 * KIB), at + 1, 40 * KIB) is None
        assert segment.read(room(10), len(content) - 9, 10) is None
        segment.close()

    def test_at_once_only_what_was_read_before(self, file: Path, content: bytes) -> None:
        segment = OpenSegment(told(file))
        length = 64 * KIB
        assert segment.read_at_once(room(length), 0, length) is None
        for _ in range(2):  # the first look goes past the cache
            segment.read(room(length), 0, length)
        assert segment.read_at_once(room(length), 0, length) in (content[:length], None)
        assert segment.read_at_once(room(length), MIB, length) is None
        segment.close()


class TestOpening:
    def test_another_file_of_that_name_is_refused(self, file: Path) -> None:
        before = told(file)
        other = file.with_suffix(".new")
        other.write_bytes(b"something else")
        other.rename(file)
        with pytest.raises(FileNotFoundError, match="another file"):
            OpenSegment(before)

    def test_a_link_is_refused(self, file: Path, tmp_path: Path) -> None:
        link = tmp_path / "link.seg"
        link.symlink_to(file)
        known = told(file)
        with pytest.raises(OSError, match="symbolic links"):
            OpenSegment(SegmentFile(str(link), known.device, known.inode))

    def test_a_pipe_is_refused_and_nobody_waits(self, tmp_path: Path) -> None:
        path = tmp_path / "pipe.seg"
        os.mkfifo(path)
        with pytest.raises(OSError, match="another file"):
            OpenSegment(told(path))

    def test_a_file_that_is_gone(self, file: Path) -> None:
        before = told(file)
        file.unlink()
        with pytest.raises(FileNotFoundError):
            OpenSegment(before)

    def test_where_the_cache_cannot_be_passed_by_it_is_not(
        self, file: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delattr(os, "O_DIRECT", raising=False)
        segment = OpenSegment(told(file))
        assert segment.read(room(MIB), 5, MIB) == content[5 : 5 + MIB]
        segment.close()


class TestManyFiles:
    def test_a_file_stays_open_for_the_next_reader(self, file: Path) -> None:
        files = LocalFiles(Clock())
        with files.using(told(file)) as one:
            pass
        with files.using(told(file)) as two:
            assert two is one
        assert len(files) == 1
        files.close()
        assert len(files) == 0

    def test_what_was_removed_is_closed_so_that_its_space_comes_back(self, file: Path) -> None:
        files = LocalFiles(Clock())
        known = told(file)
        with files.using(known):
            file.unlink()
            files.tidy()
            assert len(files) == 1, "somebody reads it"
        files.tidy()
        assert len(files) == 0
        with pytest.raises(FileNotFoundError), files.using(known):
            pass

    def test_what_nobody_reads_any_more_is_closed(self, file: Path) -> None:
        clock = Clock()
        files = LocalFiles(clock)
        with files.using(told(file)):
            pass
        clock.now_s += 9
        files.tidy()
        assert len(files) == 1
        clock.now_s += 2
        files.tidy()
        assert len(files) == 0

    def test_few_are_open_at_a_time(self, tmp_path: Path) -> None:
        files = LocalFiles(Clock())
        paths = [tmp_path / f"{number}.seg" for number in range(70)]
        for path in paths:
            path.write_bytes(b"x" * 100)
        with files.using(told(paths[0])) as held:
            for path in paths[1:]:
                with files.using(told(path)):
                    pass
            assert len(files) == 64
            assert held.read(room(10), 0, 10) == b"x" * 10
        files.close()

    def test_at_once_needs_no_file_to_be_opened(self, file: Path, content: bytes) -> None:
        files = LocalFiles(Clock())
        known = told(file)
        assert files.read_at_once(known, room(100), 0, 100) is None
        with files.using(known) as segment:
            segment.read(room(100), 0, 100)
        assert files.read_at_once(known, room(100), 0, 100) in (content[:100], None)
        files.close()

    def test_at_once_waits_for_nobody(self, file: Path) -> None:
        files = LocalFiles(Clock())
        known = told(file)
        with files.using(known) as segment:
            segment.read(room(100), 0, 100)
        with files._lock:
            assert files.read_at_once(known, room(100), 0, 100) is None
        files.close()
