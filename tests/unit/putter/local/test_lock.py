"""The lock of a data directory: one store at a time, and nothing that a killed one left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import DataDirectoryInUse
from putter.local import lock
from putter.local.lock import StoreLock

HOLD = """
import fcntl, os, signal, sys, time
handle = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(handle, fcntl.LOCK_EX)
if sys.argv[2] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("held", flush=True)
time.sleep(600)
"""


@contextlib.contextmanager
def holder(directory: Path, how: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds the lock of a directory."""
    argv = [sys.executable, "-c", HOLD, str(directory / "lock"), how]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            yield process
        finally:
            process.kill()


def dead_pid() -> int:
    """The pid of a process that is no more."""
    with subprocess.Popen(["true"]) as process:
        pass
    return process.pid


async def test_it_names_its_owner(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("123456789012345678")
    one = StoreLock(tmp_path, [])
    assert one.descriptors == ()
    await one.take()
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    assert len(one.descriptors) == 1
    one.close()
    assert one.descriptors == ()
    one.close()


async def test_a_store_that_runs_is_left_alone(tmp_path: Path) -> None:
    with holder(tmp_path) as other:
        (tmp_path / "lock").write_text(f"{other.pid}\n")
        (tmp_path / "pid").write_text(f"{other.pid}\n")
        before = len([*Path("/proc/self/fd").iterdir()])
        with pytest.raises(DataDirectoryInUse) as caught:
            await StoreLock(tmp_path, [tmp_path / "pid"]).take()
        assert other.poll() is None
        assert len([*Path("/proc/self/fd").iterdir()]) == before
    assert caught.value.message == f"another store runs on {tmp_path} (process {other.pid})"
    assert "--data-dir" in caught.value.hint
    assert caught.value.exit == 1


@pytest.mark.parametrize("suspended", [False, True])
async def test_what_a_killed_store_left_behind_is_stopped(tmp_path: Path, suspended: bool) -> None:
    one = StoreLock(tmp_path, [tmp_path / "none", tmp_path / "pid"])
    with holder(tmp_path) as orphan:
        (tmp_path / "lock").write_text(f"{dead_pid()}\n")
        (tmp_path / "pid").write_text(f"{orphan.pid}\n")
        if suspended:
            os.kill(orphan.pid, signal.SIGSTOP)
        await one.take()
        assert orphan.wait(10) == -signal.SIGTERM
    one.close()


async def test_an_owner_that_nobody_has_buried_is_dead(tmp_path: Path) -> None:
    owner = subprocess.Popen(["true"])
    os.waitid(os.P_PID, owner.pid, os.WEXITED | os.WNOWAIT)
    one = StoreLock(tmp_path, [tmp_path / "pid"])
    with holder(tmp_path) as orphan:
        (tmp_path / "lock").write_text(f"{owner.pid}\n")
        (tmp_path / "pid").write_text(f"{orphan.pid}\n")
        await one.take()
    one.close()
    owner.wait()


async def test_an_orphan_that_does_not_end_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_ORPHANS_STOP_S", 0.1)
    with holder(tmp_path, "stubborn") as orphan:
        (tmp_path / "lock").write_text(f"{dead_pid()}\n")
        (tmp_path / "pid").write_text(f"{orphan.pid}\n")
        with pytest.raises(DataDirectoryInUse) as caught:
            await StoreLock(tmp_path, [tmp_path / "pid"]).take()
        assert orphan.poll() is None
    assert f"{tmp_path} does not end: process {orphan.pid}" in caught.value.message
    assert f"kill -9 {orphan.pid}" in caught.value.hint


async def test_a_pid_file_that_names_somebody_else_ends_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_ORPHANS_STOP_S", 0.1)
    with holder(tmp_path) as other, subprocess.Popen(["sleep", "600"]) as bystander:
        (tmp_path / "lock").write_text("")
        (tmp_path / "pid").write_text(f"{bystander.pid}\n")
        with pytest.raises(DataDirectoryInUse, match="not to be seen from here"):
            await StoreLock(tmp_path, [tmp_path / "pid"]).take()
        assert other.poll() is None
        assert bystander.poll() is None
        bystander.kill()


@pytest.mark.parametrize("text", ["", "no number", "-1", "0", "9" * 20, "\0" * 8])
async def test_a_lock_file_that_holds_nonsense(tmp_path: Path, text: str) -> None:
    (tmp_path / "lock").write_text(text)
    one, two = StoreLock(tmp_path, []), StoreLock(tmp_path, [])
    await one.take()
    (tmp_path / "lock").write_text(text)
    asyncio.get_running_loop().call_later(0.05, one.close)
    await two.take()
    two.close()
