"""The lock of a data directory: one store at a time, and nothing that a killed one left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from common.errors import DataDirectoryInUse
from putter.local import lock
from putter.local.lock import Holder, StoreLock, holder_of

HOLD = """
import fcntl, os, signal, sys, time
handle = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(handle, fcntl.LOCK_EX)
if sys.argv[2] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("held", flush=True)
time.sleep(600)
"""
BLIND = "not to be seen from here"


@contextlib.contextmanager
def holder(path: Path, how: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds a lock."""
    argv = [sys.executable, "-c", HOLD, str(path), how]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def orphan_of(directory: Path, how: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """A child of a store that was killed, named by the pid file ``pid``."""
    with holder(directory / "children.lock", how) as process:
        (directory / "pid").write_text(f"{process.pid}\n")
        yield process


def dead_pid() -> int:
    """The pid of a process that is no more."""
    with subprocess.Popen(["true"]) as process:
        pass
    return process.pid


def open_files() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


# -- a store that runs -------------------------------------------------------------------------


async def test_it_names_its_owner(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("123456789012345678")
    one = StoreLock(tmp_path, [])
    assert one.descriptors == ()
    await one.take()
    assert (tmp_path / "lock").read_text() == f"{os.getpid()} {socket.gethostname()}\n"
    (inherited,) = one.descriptors
    assert os.path.samestat(os.fstat(inherited), (tmp_path / "children.lock").stat())
    assert not os.get_inheritable(inherited)
    one.close()
    assert one.descriptors == ()
    one.close()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{pid} {host}\n", "process {pid}"),
        ("{pid} elsewhere\n", "process {pid} on elsewhere"),
        ("{dead} {host}\n", BLIND),
        ("", "just starting"),
        ("no number", "just starting"),
        ("no number at all", "just starting"),
        ("\0" * 8, "just starting"),
        ("9" * 40 + " {host}", BLIND),
    ],
)
async def test_a_store_that_runs_is_left_alone(tmp_path: Path, text: str, told: str) -> None:
    with holder(tmp_path / "lock") as other:
        names = {"pid": other.pid, "dead": dead_pid(), "host": socket.gethostname()}
        (tmp_path / "lock").write_text(text.format(**names))
        (tmp_path / "pid").write_text(f"{other.pid}\n")
        before = open_files()
        began = time.monotonic()
        with pytest.raises(DataDirectoryInUse) as caught:
            await StoreLock(tmp_path, [tmp_path / "pid"]).take()
        assert time.monotonic() - began < 0.5, "there is nothing to wait for"
        assert other.poll() is None
        assert open_files() == before
    assert caught.value.message == f"another store runs on {tmp_path} ({told.format(**names)})"
    assert "--data-dir" in caught.value.hint
    assert caught.value.exit == 1


@pytest.mark.parametrize("text", ["", "no number", "-1", "0", "9" * 20, "\0" * 8, "1 here\n"])
async def test_what_a_free_lock_file_holds_does_not_matter(tmp_path: Path, text: str) -> None:
    """Also the pid of a process that has nothing to do with a store, as after a restart."""
    (tmp_path / "lock").write_text(text)
    one = StoreLock(tmp_path, [])
    await one.take()
    one.close()


async def test_a_child_does_not_keep_the_lock_of_its_store(tmp_path: Path) -> None:
    one, two = StoreLock(tmp_path, []), StoreLock(tmp_path, [])
    await one.take()
    with subprocess.Popen(["sleep", "600"], pass_fds=one.descriptors) as child:
        one.close()
        asyncio.get_running_loop().call_later(0.05, child.kill)
        await two.take()
    two.close()


# -- what a killed store left behind -----------------------------------------------------------


@pytest.mark.parametrize("suspended", [False, True])
async def test_what_a_killed_store_left_behind_is_stopped(tmp_path: Path, suspended: bool) -> None:
    one = StoreLock(tmp_path, [tmp_path / "none", tmp_path / "pid"])
    with orphan_of(tmp_path) as orphan:
        if suspended:
            os.kill(orphan.pid, signal.SIGSTOP)
        await one.take()
        assert orphan.wait(10) == -signal.SIGTERM
    one.close()


async def test_a_wait_is_told_with_whom_and_until_when(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_TELL_S", 0.05)
    monkeypatch.setattr(lock, "_ORPHANS_STOP_S", 0.4)
    with (
        orphan_of(tmp_path, "stubborn") as orphan,
        capture_logs() as lines,
        pytest.raises(DataDirectoryInUse),
    ):
        await StoreLock(tmp_path, [tmp_path / "pid"]).take()
    first, second = lines
    assert (first["event"], first["pid"]) == (
        "stopping what a killed store left behind",
        orphan.pid,
    )
    assert second["event"] == "waiting for what a killed store left behind"
    assert second["log_level"] == "warning"
    assert second["who"].startswith(f"{orphan.pid} (python")
    assert re.fullmatch(r"\d\d:\d\d:\d\dZ", second["until"])
    assert second["directory"] == str(tmp_path)


def test_a_wait_is_told_soon() -> None:
    assert lock._TELL_S <= 2 < lock._ORPHANS_STOP_S


async def test_an_orphan_that_does_not_end_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_ORPHANS_STOP_S", 0.1)
    before = open_files()
    with orphan_of(tmp_path, "stubborn") as orphan:
        with pytest.raises(DataDirectoryInUse) as caught:
            await StoreLock(tmp_path, [tmp_path / "pid"]).take()
        assert orphan.poll() is None
    assert f"{tmp_path} does not end: process {orphan.pid} (python" in caught.value.message
    assert f"kill -9 {orphan.pid}" in caught.value.hint
    assert open_files() == before


async def test_one_that_no_pid_file_names_is_told_and_not_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_ORPHANS_STOP_S", 0.1)
    with (
        holder(tmp_path / "children.lock") as other,
        subprocess.Popen(["sleep", "600"]) as bystander,
    ):
        (tmp_path / "pid").write_text(f"{bystander.pid}\n")
        with pytest.raises(DataDirectoryInUse, match=rf"process {other.pid} \(python"):
            await StoreLock(tmp_path, [tmp_path / "pid"]).take()
        assert other.poll() is None
        assert bystander.poll() is None
        bystander.kill()


async def test_one_that_cannot_be_seen_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in another container, or on a system without /proc."""
    monkeypatch.setattr(lock, "_ORPHANS_STOP_S", 0.2)
    monkeypatch.setattr(lock, "_TELL_S", 0.05)
    monkeypatch.setattr(lock, "_all_pids", lambda: iter(()))
    with (
        holder(tmp_path / "children.lock"),
        capture_logs() as lines,
        pytest.raises(DataDirectoryInUse, match=f"does not end, and is {BLIND}") as caught,
    ):
        await StoreLock(tmp_path, []).take()
    assert [line["who"] for line in lines] == [BLIND]
    assert "another container" in caught.value.hint
    assert "--data-dir" in caught.value.hint


# -- who it is ---------------------------------------------------------------------------------


async def test_the_holder_is_seen_while_it_holds_and_not_after(tmp_path: Path) -> None:
    assert holder_of(tmp_path) is None
    one = StoreLock(tmp_path, [])
    await one.take()
    held = holder_of(tmp_path)
    assert held == Holder(os.getpid(), f"process {os.getpid()}")
    two = StoreLock(tmp_path, [], hint="look elsewhere")
    with pytest.raises(DataDirectoryInUse) as refused:
        await two.take()
    assert refused.value.hint == "look elsewhere"
    one.close()
    assert holder_of(tmp_path) is None


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="the system does not tell")
def test_a_number_that_was_left_behind_is_nobodys_pid(tmp_path: Path) -> None:
    """The lock is held, but not by the process whose pid stands in the file."""
    (tmp_path / "lock").write_text("")
    with holder(tmp_path / "lock"), subprocess.Popen(["sleep", "600"]) as other:
        (tmp_path / "lock").write_text(f"{other.pid} {socket.gethostname()}\n")
        assert holder_of(tmp_path) == Holder(None, f"process {other.pid}")
        other.kill()


@pytest.mark.parametrize(
    ("noted", "words"),
    [("", "just starting"), ("12 elsewhere", "process 12 on elsewhere"), ("{dead} {here}", BLIND)],
)
def test_a_holder_without_a_pid_of_ours(tmp_path: Path, noted: str, words: str) -> None:
    (tmp_path / "lock").write_text("")
    with holder(tmp_path / "lock"):
        text = noted.format(dead=dead_pid(), here=socket.gethostname())
        (tmp_path / "lock").write_text(text)
        assert holder_of(tmp_path) == Holder(None, words)
