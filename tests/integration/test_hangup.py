"""SIGHUP: a process reads its files again, unless its terminal is gone."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.metadata_kit import free_port
from tests.store_kit import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
ROOT = Path(__file__).parents[2]


@contextmanager
def putter(directory: Path, terminal: int | None) -> Iterator[subprocess.Popen[bytes]]:
    """A putter in a session of its own, with that terminal or none."""

    def take_terminal() -> None:
        if terminal is not None:
            fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

    flags = ("--putter-port", str(free_port()), "--putter-web-port", str(free_port()))
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "putter", "server", "--storage", "memory", *flags],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=take_terminal,
        )
    try:
        says(directory, "putter listens")
        yield process
    finally:
        process.kill()
        process.wait()


def says(directory: Path, words: str, count: int = 1) -> None:
    def said() -> None:
        assert (directory / "log").read_text().count(words) >= count

    eventually(said)


def test_without_a_terminal_files_are_read_again(tmp_path: Path) -> None:
    with putter(tmp_path, None) as process:
        for count in (1, 2):
            process.send_signal(signal.SIGHUP)
            says(tmp_path, "read the cluster keys again", count)
        process.terminate()
        assert process.wait(30) == 0


def test_with_a_terminal_it_stops_when_that_is_gone(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with putter(tmp_path, theirs) as process:
        os.close(theirs)
        process.send_signal(signal.SIGHUP)
        says(tmp_path, "read the cluster keys again")
        os.close(ours)  # the kernel sends SIGHUP
        assert process.wait(30) == 0
        says(tmp_path, "putter stopped")
