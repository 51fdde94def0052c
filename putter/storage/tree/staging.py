"""Files on their way into the tree, and directories whose names are not durable yet.

A new file is written under a name of its own in ``tmp/``, made durable, and then renamed to where
it belongs: nobody ever sees half of one. Start throws away whatever lies in ``tmp/``.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from common.checksum import Buffer
from common.errors import NoSpace, StorageError
from putter.storage.disk import Disk, OpenFile

TEMPORARY: Final = "tmp"
OPEN_FILES_MAX: Final = 256
"""Written files that wait for their sync with an open descriptor; then they are synced early."""


class Staging:
    """What was written and renamed since the last sync.

    A directory stays noted until its names are durable, also across a sync that failed, so that
    nothing in it is ever taken for durable too early.
    """

    def __init__(self, disk: Disk) -> None:
        """Empty ``tmp/`` (making it if need be) and begin."""
        self._disk = disk
        self._open: list[OpenFile] = []
        self._noted: set[str] = set()
        self._failure: NoSpace | StorageError | None = None
        self._last_name = 0
        self.make_directory(TEMPORARY)
        for name in disk.names(TEMPORARY):
            disk.unlink(f"{TEMPORARY}/{name}")

    @property
    def clean(self) -> bool:
        """Whether a sync would have nothing to do here."""
        return not (self._open or self._noted or self._failure)

    def write(self, *parts: Buffer) -> str:
        """Write a new file and return its temporary path."""
        if len(self._open) >= OPEN_FILES_MAX:
            self._sync_early()
        self._last_name += 1
        path = f"{TEMPORARY}/{self._last_name}"
        self._open.append(self._disk.create(path, *parts))
        return path

    def place(self, temporary: str, path: str) -> None:
        """Give a file that is durable the name where it belongs."""
        self._disk.rename(temporary, path)
        self.note(path.rpartition("/")[0])

    def discard(self, temporaries: Iterable[str]) -> None:
        """Remove files that are not wanted any more."""
        for path in temporaries:
            # What cannot be removed now costs only space, until the next start removes it.
            with suppress(StorageError, NoSpace):
                self._disk.unlink(path)

    def make_directory(self, path: str) -> bool:
        """Make a directory and the missing ones above it; False if it was there."""
        made = self._disk.make_directory(path)
        for directory in made:
            self.note(directory.rpartition("/")[0])
        return bool(made)

    def prune(self, directories: Iterable[str], root: str) -> None:
        """Remove those of the directories that are empty, and those above that become so."""
        level = set(directories)
        while level:
            above: set[str] = set()
            for directory in sorted(level - {root}):
                if self._disk.remove_directory(directory):
                    self._noted.discard(directory)
                    above.add(directory.rpartition("/")[0])
            self._noted |= above
            level = above

    def note(self, directory: str) -> None:
        """Remember that the names in a directory have changed."""
        self._noted.add(directory)

    def sync_files(self) -> None:
        """Make the bytes of all written files durable.

        Raises:
            NoSpace, StorageError: some are lost, now or since an early sync; write all anew.
        """
        files, self._open = self._open, []
        failure, self._failure = self._failure, None
        self._disk.sync_files(files)
        if failure is not None:
            raise failure

    def sync_directories(self) -> None:
        """Make the names in all noted directories durable."""
        if self._noted:
            self._disk.sync_directories(sorted(self._noted))
            self._noted.clear()

    def _sync_early(self) -> None:
        files, self._open = self._open, []
        try:
            self._disk.sync_files(files)
        except (NoSpace, StorageError) as error:
            self._failure = error
