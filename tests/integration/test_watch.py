"""`putter status --watch` and `putter nodes` beside a store of real processes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store_kit import Cluster, cluster, eventually
from tests.traffic_kit import at, url

pytestmark = pytest.mark.slow
WAIT_S = 60.0


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    home = tmp_path_factory.mktemp("watch")
    with cluster(home, putters=2, storage="memory", putter_flags=("--zone", "rack-7")) as running:
        yield running


class Terminal:
    """A command on a terminal, and what it wrote there."""

    def __init__(self, store: Cluster, *words: str) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
        self.process = subprocess.Popen(
            store.command(*words, "--url", url(store)),
            cwd=store.directory,
            env=store.environment() | {"TERM": "xterm"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        self.raw = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the other end was closed
            while data := os.read(self._ours, 65_536):
                self.raw += data

    @property
    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.raw.decode(errors="replace"))

    def shows(self, *words: str) -> None:
        """Wait for words that come after what was shown up to now."""
        already = len(self.text)

        def there() -> None:
            new = self.text[already:]
            assert self.process.poll() is None, self.text
            assert all(word in new for word in words), new[-3000:]

        eventually(there, WAIT_S)

    def leave(self) -> int:
        """Ctrl-C; the exit code."""
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(WAIT_S)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self._reader.join(WAIT_S)
            os.close(self._ours)


def test_a_screen_of_its_own_that_survives_its_router(store: Cluster) -> None:
    screen = Terminal(store, "status", "--watch", "--interval", "0.2")
    try:
        screen.shows("2 of 2 putters connected", "nothing under-replicated", "Ctrl-C leaves")
        store.routers[0].kill()
        screen.shows("does not answer for", "what follows is", "2 of 2 putters connected")
        store.routers[0].start()
        store.wait_ready()
        eventually(lambda: "does not answer" not in last_page(screen), WAIT_S)
        screen.shows("2 of 2 putters connected", "nothing under-replicated")
    finally:
        code = screen.leave()
    assert code == 0, screen.text
    assert b"\x1b[?1049h" in screen.raw, "a screen of its own"
    assert b"\x1b[?1049l" in screen.raw, "the screen is given back"
    assert b"\x1b[?25h" in screen.raw.rpartition(b"\x1b[?25l")[2], "and the cursor"
    assert "Traceback" not in screen.text


def last_page(screen: Terminal) -> str:
    """From the newest headline on."""
    text = screen.text
    return text[text.rfind("http://") :]


def test_in_a_pipe_it_is_text(store: Cluster, tmp_path: Path) -> None:
    store.wait_ready()
    out = tmp_path / "out"
    with out.open("wb") as file:
        process = subprocess.Popen(
            store.command("status", "--watch", "--interval", "0.2", "--url", url(store)),
            env=store.environment(),
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        eventually(lambda: out.read_text().count("== ") >= 3, WAIT_S)
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(WAIT_S)
    assert code == 0, out.read_text()
    assert "\x1b" not in out.read_text()
    assert out.read_text().count("redis:    ok") >= 2


def test_the_members(store: Cluster) -> None:
    store.wait_ready()

    def listed() -> None:
        done = at(store, "nodes", "--json")
        assert done.code == 0, done.err
        lines = done.told
        putters = [line for line in lines if line["role"] == "putter"]
        assert [line["state"] for line in putters] == ["live", "live"]
        assert {line["zone"] for line in putters} == {"rack-7"}
        assert {line["link"] for line in putters} == {"up"}
        assert all(0 < line["free_bytes"] <= line["capacity_bytes"] for line in putters)
        assert any(line["role"] == "router" and line["state"] == "live" for line in lines)

    eventually(listed, WAIT_S)
    text = at(store, "nodes").text
    assert text.count(" putter ") == 2
    assert json.dumps("rack-7").strip('"') in text
