"""Small files beside an engine's own: what a node wants to know again after a restart.

```
<data directory>/NAME.json   {"blake3": 64 hex digits over the note's bytes, "note": the note}
```

A note is replaced as a whole: a crash leaves the old one or the new one. One that is damaged
counts as lost, so only what can be done without is kept in notes.
"""

from __future__ import annotations

import logging
from typing import Final, Protocol

import msgspec

from common.checksum import object_digest
from common.errors import StorageError
from putter.storage.disk import Disk

_ROOT: Final = ""
_log = logging.getLogger(__name__)


class Notes(Protocol):
    """Keeps notes by name. `load` may be called by any thread, the rest by one."""

    def load(self, name: str) -> bytes | None:
        """The JSON of a note; None if there is none, or it is damaged."""
        ...

    def save(self, name: str, note: bytes) -> None:
        """Replace a note; durable when it returns.

        Raises:
            NoSpace, StorageError: the old one is still there.
        """
        ...

    def close(self) -> None:
        """Let go of the directory."""
        ...


class MemoryNotes:
    """Notes that end with the process: of the layout ``memory``, and of tests."""

    def __init__(self) -> None:
        self._notes: dict[str, bytes] = {}

    def load(self, name: str) -> bytes | None:
        """The JSON of a note, or None."""
        return self._notes.get(name)

    def save(self, name: str, note: bytes) -> None:
        """Replace a note."""
        self._notes[name] = note

    def close(self) -> None:
        """Nothing to let go of."""


class _Sealed(msgspec.Struct):
    """The file of a note."""

    blake3: str
    note: msgspec.Raw


class DiskNotes:
    """Notes in the data directory.

    Args:
        disk: its root is the data directory; closed by `close`.
    """

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def load(self, name: str) -> bytes | None:
        """The JSON of a note, or None."""
        try:
            data = self._disk.read(f"{name}.json")
            if data is None:
                return None
            sealed = msgspec.json.decode(data, type=_Sealed)
        except (StorageError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            _log.warning("the note %s is damaged and counts as lost: %s", name, error)
            return None
        note = bytes(sealed.note)
        if object_digest(note).hex() != sealed.blake3:
            _log.warning("the note %s is damaged and counts as lost", name)
            return None
        return note

    def save(self, name: str, note: bytes) -> None:
        """Replace a note; durable when it returns."""
        sealed = _Sealed(object_digest(note).hex(), msgspec.Raw(note))
        new = f"{name}.json.new"
        self._disk.unlink(new)
        self._disk.sync_files([self._disk.create(new, msgspec.json.encode(sealed), b"\n")])
        self._disk.rename(new, f"{name}.json")
        self._disk.sync_directories([_ROOT])

    def close(self) -> None:
        """Let go of the directory."""
        self._disk.close()
