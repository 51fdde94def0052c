"""Reads a log file as it grows, also past the moment when it is put aside for a new one."""

from __future__ import annotations

import io
import os
from collections import deque
from pathlib import Path
from typing import Final

from common.limits import MIB
from putter.local.rotation import older
from putter.local_cluster.lines import LineCutter

_PART_BYTES: Final = MIB


class Follower:
    """The lines of a log file, from a number of earlier ones on.

    Args:
        path: the file; need not be there yet.
        earlier: lines to begin with.
    """

    def __init__(self, path: Path, earlier: int) -> None:
        self._path = path
        self._cutter = LineCutter()
        self._file: io.FileIO | None = None
        self._first: deque[str] | None = deque(maxlen=earlier)

    def poll(self) -> list[str]:
        """The lines that came since the last call; never waits.

        Raises:
            OSError: the file cannot be read.
        """
        lines: list[str] = []
        if self._first is not None:
            first, self._first = self._first, None
            first.extend(_lines_of(older(self._path)))
            first.extend(self._more())
            lines += first
        lines += self._more()
        return lines

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _more(self) -> list[str]:
        lines = self._rest()
        if self._file is None or self._replaced():
            # What was written between the last look and the renaming was read just now.
            self.close()
            try:
                self._file = io.FileIO(self._path)
            except FileNotFoundError:
                return lines
            lines += self._rest()
        return lines

    def _rest(self) -> list[str]:
        lines = []
        while self._file is not None and (part := self._file.read(_PART_BYTES)):
            lines += self._cutter.feed(part)
        return lines

    def _replaced(self) -> bool:
        assert self._file is not None
        try:
            return not os.path.samestat(os.fstat(self._file.fileno()), self._path.stat())
        except FileNotFoundError:
            return False


def _lines_of(path: Path) -> list[str]:
    cutter = LineCutter()
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    return [*cutter.feed(data), *cutter.end()]
