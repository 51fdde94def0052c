"""The embedded Valkey as a process: what it keeps, and which servers are nobody's business."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.errors import DataDirectoryInUse
from putter.local import lock, rotation
from putter.local.children import Child, Supervisor
from putter.local.embedded import EmbeddedValkey
from tests.metadata_kit import ValkeyServer
from tests.metadata_kit import running as servers

WITHIN_S = 20


@contextlib.asynccontextmanager
async def running(directory: Path) -> AsyncIterator[tuple[EmbeddedValkey, Child]]:
    """A server that answers; afterwards it has ended and the directory is given back."""
    valkey, supervisor = EmbeddedValkey(directory), Supervisor()
    try:
        child = await supervisor.start(await valkey.prepare())
        yield valkey, child
    finally:
        await supervisor.stop()
        valkey.close()


async def ask(valkey: EmbeddedValkey, *words: str) -> str:
    """The first line of the reply; waits for a server that is just being started again."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_unix_connection(str(valkey.socket))
                writer.write(" ".join(words).encode() + b"\r\n")
                line = (await reader.readline()).decode().rstrip()
                writer.close()
                await writer.wait_closed()
                if line and not line.startswith("-LOADING"):
                    return line
            await asyncio.sleep(0.02)


async def test_what_was_answered_is_there_after_a_stop_and_after_a_kill(tmp_path: Path) -> None:
    async with running(tmp_path) as (valkey, _):
        assert await ask(valkey, "INCR", "n") == ":1"
    async with running(tmp_path) as (valkey, child):
        for count in range(2, 5):
            assert await ask(valkey, "INCR", "n") == f":{count}"
            pid, restarts = child.pid, child.restarts
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            async with asyncio.timeout(WITHIN_S):
                while child.restarts == restarts or child.pid == pid:
                    await asyncio.sleep(0.02)
        assert await ask(valkey, "INCR", "n") == ":5"


async def test_a_live_server_is_not_taken_for_an_orphan(tmp_path: Path) -> None:
    """Whatever its parent is called: here it is no ``putter``."""
    async with running(tmp_path) as (valkey, child):
        pid = child.pid
        second = EmbeddedValkey(tmp_path)
        with pytest.raises(DataDirectoryInUse, match="another store runs on"):
            await second.prepare()
        second.close()
        assert await ask(valkey, "PING") == "+PONG"
        assert (child.pid, child.restarts) == (pid, 0)


async def test_the_log_stays_small_while_the_server_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "LOOK_S", 0.01)
    async with running(tmp_path) as (valkey, _):
        before = valkey.log.stat().st_size
        assert before > 0
        with valkey.log.open("ab") as file:
            file.write(b"\n" * (rotation.LOG_BYTES_MAX + 1))
        async with asyncio.timeout(WITHIN_S):
            while valkey.log.exists() and valkey.log.stat().st_size > before:
                await asyncio.sleep(0.01)
        assert rotation.older(valkey.log).stat().st_size > rotation.LOG_BYTES_MAX
    # What the server said at its end is in a file of its own: it does not cling to the old one.
    assert b"bye" in valkey.log.read_bytes().lower()
    assert valkey.log.stat().st_size < rotation.LOG_BYTES_MAX


def pid_of(server: ValkeyServer) -> int:
    return int(server.ask("INFO server").partition("process_id:")[2].split()[0])


async def test_a_stranger_that_a_stale_pid_file_names_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_ORPHANS_STOP_S", 0.5)
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    elsewhere.mkdir()
    first, second = EmbeddedValkey(home), EmbeddedValkey(home)
    with servers(stranger := ValkeyServer(elsewhere)):
        spec = await first.prepare()
        (home / "valkey.pid").write_text(str(pid_of(stranger)))
        with pytest.raises(DataDirectoryInUse, match="another store runs on"):
            await second.prepare()
        # Now the store dies, and something of it lives on that is not in the pid file.
        with subprocess.Popen(["sleep", "60"], pass_fds=spec.pass_fds) as left:
            first.close()
            with pytest.raises(DataDirectoryInUse):
                await second.prepare()
            assert left.poll() is None
            left.kill()
        assert stranger.answers()
        await second.prepare()
        second.close()


async def test_an_orphan_is_stopped_whoever_adopts_it(tmp_path: Path) -> None:
    """Even if the one that adopts it looks like a store: a shell or ``tini`` above one may."""
    first, second = EmbeddedValkey(tmp_path), EmbeddedValkey(tmp_path)
    spec = await first.prepare()
    adopter = [sys.executable, "-c", ADOPTER, *spec.argv, "putter router"]
    with subprocess.Popen(adopter, pass_fds=spec.pass_fds) as above:
        try:
            async with asyncio.timeout(WITHIN_S):
                await spec.ready(0.0)
            assert await ask(first, "INCR", "n") == ":1"
            first.close()
            await second.prepare()
        finally:
            with contextlib.suppress(OSError, ValueError):  # it was stopped, as it should be
                os.kill(int((tmp_path / "valkey.pid").read_text()), signal.SIGKILL)
            above.wait(WITHIN_S)
    second.close()
    async with running(tmp_path) as (third, _):
        assert await ask(third, "INCR", "n") == ":2"


ADOPTER = "import subprocess, sys; subprocess.run(sys.argv[1:-1], close_fds=False)"


@pytest.mark.parametrize(("ending", "code"), [("exit(7)", 7), ("os.kill(os.getpid(), 9)", 137)])
def test_where_the_kernel_does_not_watch_the_leash_ends_as_the_program_did(
    ending: str, code: int
) -> None:
    leash = "import sys; from putter.local.leash import _watch; sys.exit(_watch(%d, sys.argv[1:]))"
    program = [sys.executable, "-c", f"import os; {ending}"]
    argv = [sys.executable, "-c", leash % os.getpid(), *program]
    assert subprocess.run(argv, timeout=WITHIN_S, check=False).returncode == code


def test_where_the_kernel_does_not_watch_the_program_has_the_descriptors_too(
    tmp_path: Path,
) -> None:
    """Valkey must hold the lock itself, also under a leash that stays above it."""
    read, write = os.pipe()
    leash = "import sys; from putter.local.leash import _watch; _watch(%d, sys.argv[1:])"
    try:
        told = f"import os; os.write({write}, b'yes')"
        argv = [sys.executable, "-c", leash % os.getpid(), sys.executable, "-c", told]
        subprocess.run(argv, pass_fds=(write,), timeout=WITHIN_S, check=True)
        os.set_blocking(read, False)
        assert os.read(read, 10) == b"yes"
    finally:
        os.close(read)
        os.close(write)
