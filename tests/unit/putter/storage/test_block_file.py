from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import NoSpace, StorageError
from putter.storage.block_file import (
    BLOCK_BYTES,
    DIRECT_READ_BYTES_MIN,
    RealBlockFile,
    aligned_buffer,
)
from putter.storage.disk import refusal


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    handle = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield handle
    os.close(handle)


def filled(word: bytes, blocks: int = 1) -> memoryview:
    buffer = aligned_buffer(blocks * BLOCK_BYTES)
    buffer[:] = (word * len(buffer))[: len(buffer)]
    return buffer


def test_it_sets_its_space_aside(root: int, tmp_path: Path) -> None:
    file = RealBlockFile(root, "log", 10 * BLOCK_BYTES, refusal)
    state = (tmp_path / "log").stat()
    assert file.size == state.st_size == 10 * BLOCK_BYTES
    assert state.st_blocks * 512 >= 10 * BLOCK_BYTES
    file.close()


def test_a_file_system_that_cannot_set_aside_gets_a_long_file(
    root: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    file = RealBlockFile(root, "log", 10 * BLOCK_BYTES, refusal)
    assert file.size == (tmp_path / "log").stat().st_size == 10 * BLOCK_BYTES
    file.close()


def test_a_full_disk_leaves_no_file_behind(
    root: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(NoSpace, match="set space aside for log"):
        RealBlockFile(root, "log", BLOCK_BYTES, refusal)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("direct", [True, False])
def test_what_is_written_is_read(
    root: int, monkeypatch: pytest.MonkeyPatch, *, direct: bool
) -> None:
    if not direct:
        monkeypatch.delattr(os, "O_DIRECT", raising=False)
    file = RealBlockFile(root, "log", 4 * BLOCK_BYTES, refusal)
    file.write(BLOCK_BYTES, filled(b"abc", 2))
    file.sync()
    assert file.read(BLOCK_BYTES - 2, 5) == b"\0\0abc"
    assert file.read(4 * BLOCK_BYTES - 3, 100) == bytes(3)
    assert file.read(5 * BLOCK_BYTES, 100) == b""
    file.close()
    again = RealBlockFile(root, "log", None, refusal)
    assert again.read(BLOCK_BYTES, 2 * BLOCK_BYTES) == bytes(filled(b"abc", 2))
    again.close()
    again.close()


def test_a_file_system_without_direct_writes_gets_ordinary_ones(
    root: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuse(path: str, flags: int, *rest: int, **more: int) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    file = RealBlockFile(root, "log", 2 * BLOCK_BYTES, refusal)
    file.write(0, filled(b"x"))
    file.write(BLOCK_BYTES, filled(b"y"))
    assert file.read(BLOCK_BYTES - 1, 2) == b"xy"
    file.close()


class TestLargeReads:
    """The first look at a place goes past the page cache, the second through it."""

    BLOCKS = 96

    @pytest.fixture
    def through(self, root: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """The lengths of reads that went through the page cache."""
        try:
            os.close(os.open("probe", os.O_RDWR | os.O_CREAT | os.O_DIRECT, dir_fd=root))
        except OSError:
            pytest.skip("the file system of the tests has no way past its cache")
        real, seen = os.pread, list[int]()

        def note(handle: int, length: int, offset: int) -> bytes:
            seen.append(length)
            return real(handle, length, offset)

        monkeypatch.setattr(os, "pread", note)
        return seen

    @pytest.fixture
    def file(self, root: int) -> Iterator[RealBlockFile]:
        file = RealBlockFile(root, "log", self.BLOCKS * BLOCK_BYTES, refusal)
        file.write(0, self.content())
        file.sync()
        yield file
        file.close()

    def content(self) -> memoryview:
        return filled(b"0123456789abc", self.BLOCKS)

    @pytest.mark.parametrize("offset", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, 7 * BLOCK_BYTES + 123])
    @pytest.mark.parametrize("more", [0, 1, BLOCK_BYTES, BLOCK_BYTES + 1])
    def test_what_is_wanted_at_any_boundary(
        self, file: RealBlockFile, offset: int, more: int
    ) -> None:
        size = DIRECT_READ_BYTES_MIN + more
        wanted = bytes(self.content()[offset : offset + size])
        assert file.read(offset, size) == wanted
        assert file.read(offset, size) == wanted

    def test_only_the_second_look_fills_the_cache(
        self, file: RealBlockFile, through: list[int]
    ) -> None:
        file.read(0, 2 * DIRECT_READ_BYTES_MIN)
        assert through == []
        file.read(10, DIRECT_READ_BYTES_MIN)
        assert through == [DIRECT_READ_BYTES_MIN]
        file.read(50 * BLOCK_BYTES, DIRECT_READ_BYTES_MIN)
        assert len(through) == 1

    def test_small_reads_go_through_it(self, file: RealBlockFile, through: list[int]) -> None:
        file.read(0, DIRECT_READ_BYTES_MIN - 1)
        assert through == [DIRECT_READ_BYTES_MIN - 1]

    def test_what_is_to_be_forgotten_counts_as_never_read(
        self, file: RealBlockFile, through: list[int]
    ) -> None:
        file.read(0, DIRECT_READ_BYTES_MIN)
        file.forget_cached()
        file.read(0, DIRECT_READ_BYTES_MIN)
        assert through == []

    def test_the_end_of_the_file(self, file: RealBlockFile) -> None:
        start = self.BLOCKS * BLOCK_BYTES - 10
        assert file.read(start, DIRECT_READ_BYTES_MIN) == bytes(self.content()[-10:])
        assert file.read(start + 10, DIRECT_READ_BYTES_MIN) == b""

    def test_a_file_that_is_only_read_and_has_another_length(
        self, root: int, tmp_path: Path, through: list[int]
    ) -> None:
        (tmp_path / "odd").write_bytes(bytes(self.content())[:-5])
        file = RealBlockFile(root, "odd", None, refusal)
        size = file.size - 3 * BLOCK_BYTES
        assert file.read(3 * BLOCK_BYTES, size) == bytes(self.content()[3 * BLOCK_BYTES : -5])
        assert through == []
        file.close()

    def test_larger_ones_than_the_memory_for_them(self, root: int, through: list[int]) -> None:
        file = RealBlockFile(root, "long", 600 * BLOCK_BYTES, refusal)
        file.write(0, filled(b"xyz", 600))
        assert file.read(5, 500 * BLOCK_BYTES) == bytes(filled(b"xyz", 600)[5:][: 500 * 4096])
        assert through == [500 * BLOCK_BYTES]
        file.close()

    def test_where_the_system_only_knows_the_cache(
        self, root: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delattr(os, "O_DIRECT", raising=False)
        file = RealBlockFile(root, "log", self.BLOCKS * BLOCK_BYTES, refusal)
        file.write(0, self.content())
        assert file.read(1, DIRECT_READ_BYTES_MIN) == bytes(
            self.content()[1 : 1 + DIRECT_READ_BYTES_MIN]
        )
        file.close()

    def test_a_name_that_changed_meanwhile(
        self, root: int, tmp_path: Path, file: RealBlockFile, through: list[int]
    ) -> None:
        (tmp_path / "log").rename(tmp_path / "other")
        assert file.read(0, DIRECT_READ_BYTES_MIN) == bytes(self.content()[:DIRECT_READ_BYTES_MIN])
        assert through == []


def test_short_writes_are_carried_on(root: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    lengths = iter([100, BLOCK_BYTES])

    def short(handle: int, data: memoryview, offset: int) -> int:
        return real(handle, bytes(data[: next(lengths, len(data))]), offset)

    monkeypatch.delattr(os, "O_DIRECT", raising=False)
    monkeypatch.setattr(os, "pwrite", short)
    file = RealBlockFile(root, "log", 4 * BLOCK_BYTES, refusal)
    file.write(0, filled(b"abc", 3))
    assert file.read(0, 3 * BLOCK_BYTES) == bytes(filled(b"abc", 3))
    file.close()


def test_what_the_system_refuses_is_ours(root: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageError, match="open nothing"):
        RealBlockFile(root, "nothing", None, refusal)
    file = RealBlockFile(root, "log", BLOCK_BYTES, refusal)
    with pytest.raises(StorageError, match="create log"):
        RealBlockFile(root, "log", BLOCK_BYTES, refusal)
    for name in ("pread", "pwrite", "fdatasync"):

        def refuse(*_: object) -> int:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, name, refuse)
    for act in (lambda: file.read(0, 1), file.sync, lambda: file.write(0, filled(b"x"))):
        with pytest.raises(StorageError, match="log: Input/output error"):
            act()
    file.close()
