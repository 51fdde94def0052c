"""A directory with a short path: private, and gone with its maker, however that ended."""

from __future__ import annotations

import fcntl
import stat
import tempfile
from pathlib import Path

import pytest

from common.errors import UsageError
from putter.local.reservation import check_shareable
from putter.local.shortdir import short_directory


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_it_is_private_and_goes_with_its_maker(here: Path) -> None:
    with short_directory() as path:
        assert path.parent == here
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        (path / "0.sock").touch()
    assert list(here.iterdir()) == []


def test_the_next_one_removes_what_a_killed_maker_left_and_nothing_else(here: Path) -> None:
    left = here / "putter-sockets-left"
    left.mkdir()
    (left / "lock").touch()
    (left / "0.sock").touch()
    young = here / "putter-sockets-young"
    young.mkdir()  # its maker has not locked it yet
    other = here / "putter-other"
    other.mkdir()
    link = here / "putter-sockets-link"
    link.symlink_to(other)
    used = here / "putter-sockets-used"
    used.mkdir()
    with (used / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with short_directory() as path, short_directory() as second:
            assert path.exists()
            assert second.exists()
            assert not left.exists()
            assert used.exists()
    assert sorted(each.name for each in here.iterdir()) == [
        "putter-other",
        "putter-sockets-link",
        "putter-sockets-used",
        "putter-sockets-young",
    ]


def test_workers_are_refused_where_the_kernel_does_not_spread_connections() -> None:
    check_shareable("linux")
    with pytest.raises(UsageError, match="on Linux only") as told:
        check_shareable("darwin")
    assert "--workers" in (told.value.hint or "")
