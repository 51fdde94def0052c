"""How bytes lie on the disk: what `stat`, `status` and the metrics tell of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

COMPRESSION: Final = "zstd"
ENCRYPTION: Final = "aes-256-gcm"


@dataclass(frozen=True)
class Stored:
    """Of one run, or of all that were written since the engine was opened.

    Attributes:
        compression: ``zstd`` where something is compressed, else "".
        encryption: ``aes-256-gcm``, or "".
        plain_bytes: of the frames.
        stored_bytes: what they take on the disk.
    """

    compression: str = ""
    encryption: str = ""
    plain_bytes: int = 0
    stored_bytes: int = 0


@runtime_checkable
class Packs(Protocol):
    """An engine that can compress and encrypt. Any thread may ask at any moment."""

    def stored(self) -> Stored:
        """How new runs are to be stored, and what was written since the engine was opened."""
        ...
