"""What a putter tells the others of how it stores what it writes."""

from __future__ import annotations

import msgspec


class Packing(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of the runs that it wrote since its start.

    Attributes:
        compression: ``zstd``, or "".
        encryption: ``aes-256-gcm``, or "".
        plain_bytes: of their frames.
        stored_bytes: what they took on its disk.
    """

    compression: str = ""
    encryption: str = ""
    plain_bytes: int = 0
    stored_bytes: int = 0
