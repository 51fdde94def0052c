"""Where the lines of the processes go: to the screen, and to a log file each.

The screen may stand still (a paused terminal, a reader that does not read); a process must not
stand still with it, so that lines which find no room are counted and left to the log files.
"""

from __future__ import annotations

import asyncio
import io
import os
import queue
import select
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from common.limits import MIB
from common.logs import get_logger
from putter.local.rotation import rotate
from putter.local_cluster.lines import LineCutter, Prefix
from putter.local_cluster.plan import SUPERVISOR

_log = get_logger(__name__)
LOG_BYTES_MAX: Final = 4 * MIB
"""Of a log file; one older file of this size is kept beside it."""
_WAITING_LINES_MAX: Final = 5_000
_LAST_WORDS_S: Final = 2.0


class Screen:
    """Lines for a descriptor, written by a thread of their own.

    Args:
        descriptor: where they go.
        lines_max: how many may wait.
    """

    def __init__(self, descriptor: int, lines_max: int = _WAITING_LINES_MAX) -> None:
        self._descriptor = descriptor
        self._waiting: queue.Queue[str | None] = queue.Queue(lines_max)
        self._lost = 0
        self._lost_lock = threading.Lock()
        self._gone = False
        self._thread = threading.Thread(target=self._run, name="screen", daemon=True)
        self._thread.start()

    def show(self, line: str) -> None:
        """Show a line as soon as there is room; never waits."""
        try:
            self._waiting.put_nowait(line)
        except queue.Full:
            with self._lost_lock:
                self._lost += 1

    def close(self) -> None:
        """Show what waits, as far as that takes no longer than a moment."""
        try:
            self._waiting.put(None, timeout=_LAST_WORDS_S)
        except queue.Full:
            return  # the thread is a daemon, and holds no lock that anybody needs
        self._thread.join(_LAST_WORDS_S)

    def _run(self) -> None:
        while (line := self._waiting.get()) is not None:
            self._write(line)
            with self._lost_lock:
                lost, self._lost = self._lost, 0
            if lost:
                self._write(f"({lost} lines found no room here; they are in the log files)")

    def _write(self, line: str) -> None:
        data = memoryview(line.encode(errors="replace") + b"\n")
        while data and not self._gone:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                select.select([], [self._descriptor], [])
            except OSError:
                self._gone = True  # the terminal was closed; the log files go on


class LogFile:
    """A file of lines that does not grow without end.

    Args:
        path: the file; older lines are moved to ``<path>.1``.
        bytes_max: of either file.
    """

    def __init__(self, path: Path, bytes_max: int = LOG_BYTES_MAX) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._size = 0
        self._file: io.FileIO | None = None
        self._told = False

    def write(self, line: str) -> None:
        """Add a line; what a disk refuses is told once and then left out."""
        data = line.encode(errors="replace") + b"\n"
        try:
            if self._file is None or self._size + len(data) > self._bytes_max:
                self._open(len(data))
            assert self._file is not None
            self._file.write(data)
        except OSError as error:
            if not self._told:
                self._told = True
                _log.warning("a log cannot be written", file=str(self._path), reason=str(error))
        else:
            self._size += len(data)
            self._told = False

    def close(self) -> None:
        """Close the file; a further line opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self, more_bytes: int) -> None:
        self.close()
        rotate(self._path, max(0, self._bytes_max - more_bytes))
        self._file = io.FileIO(self._path, "a")
        self._size = os.fstat(self._file.fileno()).st_size


class Outputs:
    """Screen and log files of all processes.

    Args:
        screen: shared by all.
        prefix: names before the lines.
        directory: of the log files; must be there.
    """

    def __init__(self, screen: Screen, prefix: Prefix, directory: Path) -> None:
        self._screen = screen
        self._prefix = prefix
        self._directory = directory
        self._files: dict[str, LogFile] = {}

    def line(self, name: str, text: str) -> None:
        """Show and keep a line of a process."""
        self._screen.show(self._prefix.line(name, text))
        if name not in self._files:
            self._files[name] = LogFile(log_path(self._directory, name))
        self._files[name].write(text)

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()


class Own(io.TextIOBase):
    """A text stream for the log of the supervisor itself."""

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs

    def write(self, text: str) -> int:
        """One or more whole lines."""
        for line in text.splitlines():
            self._outputs.line(SUPERVISOR, line)
        return len(text)


class Outlet:
    """A pipe into which the lives of a process write, one after the other.

    Attributes:
        descriptor: the end for the process.
    """

    def __init__(self, line: Callable[[str], None]) -> None:
        self._protocol = _Lines(line)
        self._opening: asyncio.Future[tuple[asyncio.ReadTransport, _Lines]] | None = None
        reading, self.descriptor = os.pipe()
        self._pipe = os.fdopen(reading, "rb", buffering=0)

    async def open(self) -> None:
        """Begin to read; somebody who gives up waiting for this leaves the pipe in good order."""
        # Once the loop has begun with the pipe, its number belongs to the loop, which closes it
        # behind the back of our file object when it is cut short. So it never is.
        loop = asyncio.get_running_loop()
        self._opening = asyncio.ensure_future(
            loop.connect_read_pipe(lambda: self._protocol, self._pipe)
        )
        await asyncio.shield(self._opening)

    async def close(self) -> None:
        """Read to the end, which comes at once when the process has ended."""
        os.close(self.descriptor)
        if self._opening is None:
            self._pipe.close()
            return
        transport, _ = await self._opening
        await asyncio.wait((self._protocol.ended,), timeout=_LAST_WORDS_S)
        transport.close()


class _Lines(asyncio.Protocol):
    """What comes out of a pipe, line by line."""

    def __init__(self, line: Callable[[str], None]) -> None:
        self._line = line
        self._cutter = LineCutter()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        for line in self._cutter.feed(data):
            self._line(line)

    def connection_lost(self, _error: Exception | None) -> None:
        for line in self._cutter.end():
            self._line(line)
        if not self.ended.done():
            self.ended.set_result(None)


def log_path(directory: Path, name: str) -> Path:
    """The log file of a process in the directory of log files."""
    return directory / f"{name}.log"
