"""Trees of files on the disk, for what sends and fetches them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def plant(top: Path, files: Mapping[str, bytes]) -> Path:
    """Write files below a directory; the directory."""
    for name, data in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return top


def files_below(top: Path) -> dict[str, bytes]:
    """The files below a directory by name."""
    return {
        path.relative_to(top).as_posix(): path.read_bytes()
        for path in top.rglob("*")
        if path.is_file()
    }
