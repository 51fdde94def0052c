"""The cluster keys of a process that runs, read again: two guards against reading too soon.

A key that begins to write has to be known everywhere before, and one that is taken away must not be
needed any more. So a file whose first key is new to this process is refused, and by a putter one
that lacks a key which something on its disk names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Final

from common.errors import PutterError, SettingInvalid
from common.keys import Keyring, load_keyring
from common.logs import get_logger
from common.records import cluster_key_in

if TYPE_CHECKING:  # a router needs it not, and starts faster without it
    from putter.storage.engine import Engine

_log = get_logger(__name__)
_PAGE: Final = 2_000
_RECORDS: Final = 200
"""That are read at once: nothing else is done to the disk meanwhile."""

InUse = Callable[[frozenset[str]], Awaitable[frozenset[str]]]
"""Which of some key ids are named by something on the disk."""


class KeyReader:
    """Reads the key file of a process again, when it is told to.

    Args:
        path: the file.
        keyring: gets the keys.
        in_use: of a putter; None: nothing is looked at.
    """

    def __init__(self, path: Path, keyring: Keyring, in_use: InUse | None = None) -> None:
        self._path = path
        self._keyring = keyring
        self._in_use = in_use
        self._task: asyncio.Task[None] | None = None
        self._again = False

    def read(self) -> None:
        """Begin; a second time only after the first has ended."""
        if self._task is not None and not self._task.done():
            self._again = True
            return
        self._task = asyncio.get_running_loop().create_task(self._read())

    async def stop(self) -> None:
        """Give up what is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _read(self) -> None:
        while True:
            self._again = False
            try:
                await self._replace()
            except PutterError as error:
                _log.error("the cluster keys were not replaced", reason=str(error), hint=error.hint)
            else:
                ids = self._keyring.ids
                _log.info("read the cluster keys again", writing=ids[0], others=ids[1:])
            if not self._again:
                return

    async def _replace(self) -> None:
        fresh = load_keyring(self._path, create=False)
        before = self._keyring.ids
        if fresh.writing.key_id not in before:
            raise SettingInvalid(
                f"the first key of {self._path}, {fresh.writing.key_id}, is new to this process",
                hint="put it below the others in every key file, send SIGHUP to all processes, "
                "and only then move it up",
            )
        gone = frozenset(before) - frozenset(fresh.ids)
        if gone and self._in_use is not None:
            needed = await self._in_use(gone)
            if needed:
                raise SettingInvalid(
                    f"{self._path} lacks {', '.join(sorted(needed))}, which checksums on this "
                    "disk were made with, or files are encrypted with",
                    hint="put it back below the others; see docs/howto/key-rotation.md",
                )
        if gone:
            _log.info("cluster keys are gone", key_ids=sorted(gone))
        self._keyring.replace(fresh)


def in_use_on(engine: Engine, readers: Executor, disk_thread: Executor) -> InUse:
    """What looks through all tickets of an engine but raw ones, and through its commit records.

    Args:
        engine: of a putter.
        readers: where tickets are looked at.
        disk_thread: the only thread that records are read on.
    """

    async def in_use(wanted: frozenset[str]) -> frozenset[str]:
        loop = asyncio.get_running_loop()
        found: frozenset[str] = frozenset()
        cursor, walked = "", False
        while (cursor or not walked) and found != wanted:
            page = await loop.run_in_executor(readers, engine.holdings, cursor, _PAGE)
            found |= page.keys & wanted
            cursor, walked = page.cursor, True
        after, more = 0, True
        while more and found != wanted:
            listed = await loop.run_in_executor(disk_thread, engine.records, after, _RECORDS)
            found |= wanted & {cluster_key_in(each.record.body) for each in listed}
            after, more = (listed[-1].number, True) if listed else (after, False)
        return found

    return in_use
