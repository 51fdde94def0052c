"""A log file that stays small while another process writes it.

That process opens the file anew for each line, as Valkey does, so that a rename is all it takes.
One older file is kept beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Final

from common.limits import MIB
from common.logs import get_logger

_log = get_logger(__name__)
LOG_BYTES_MAX: Final = MIB
"""Of either file, and what is written to it within `LOOK_S`."""
LOOK_S: Final = 1.0


def older(path: Path) -> Path:
    """Where the lines before those of ``path`` are."""
    return path.with_name(path.name + ".1")


def rotate(path: Path, bytes_max: int = LOG_BYTES_MAX) -> bool:
    """Put a file aside that has become too large; whether it had.

    Raises:
        OSError: it cannot be renamed.
    """
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > bytes_max:
            path.replace(older(path))
            return True
    return False


async def keep_small(
    path: Path, bytes_max: int = LOG_BYTES_MAX, look_s: float | None = None
) -> None:
    """Look at a file for ever, and put it aside when it is too large.

    Args:
        path: the file; need not be there.
        bytes_max: what is too large.
        look_s: time between two looks; `LOOK_S` if None.
    """
    told = False
    while True:
        try:
            rotate(path, bytes_max)
        except OSError as error:
            if not told:
                _log.warning("a log cannot be rotated", file=str(path), reason=str(error))
            told = True
        else:
            told = False
        await asyncio.sleep(LOOK_S if look_s is None else look_s)
