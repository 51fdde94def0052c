"""What commands print: sizes, times, JSON, and progress bars for long transfers."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

import msgspec
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bar

from common.errors import UsageError
from putter.client.buckets import BucketInfo
from putter.client.models import Stored
from putter.client.sources import Progress

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_STEP: Final = 1024
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?b)?", re.IGNORECASE)
_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def human_size(count: float) -> str:
    """Bytes for people: ``1458 B`` is ``1.4 KiB``; three digits at most."""
    unit = 0
    while abs(count) >= _STEP and unit < len(_UNITS) - 1:
        count /= _STEP
        unit += 1
    digits = 0 if unit == 0 or abs(count) >= 100 else 1
    return f"{count:.{digits}f} {_UNITS[unit]}"


def parse_size(text: str) -> int:
    """An amount of bytes: ``1458``, ``64KiB`` or ``64K`` (1024 each), ``64kB`` (1000 each).

    Raises:
        UsageError: none of these.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is not a size", hint="like 1458, 64KiB or 1GiB")
    number, prefix, suffix = match.groups(default="")
    base = 1000 if suffix.lower() == "b" and prefix else 1024
    return int(float(number) * base ** _POWERS[prefix.lower()])


def held_cells(info: BucketInfo) -> tuple[str, str]:
    """Files and bytes, each with what the quota allows if it does."""
    if info.used is None:
        return "", ""
    own = info.settings
    files = f"{info.used.files}" + (f" of {own.quota_files}" if own.quota_files else "")
    size = human_size(info.used.bytes)
    return files, size + (f" of {human_size(own.quota_bytes)}" if own.quota_bytes else "")


def human_time(ms: int) -> str:
    """Milliseconds since 1970 as UTC to the second; ``-`` for none."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S}" if ms else "-"


def human_age(ms: int | None) -> str:
    """A time span for people: ``340 ms``, ``12 s``, ``5 min``; ``-`` for none."""
    if ms is None:
        return "-"
    for limit, divisor, unit in (
        (1_000, 1, "ms"),
        (120_000, 1_000, "s"),
        (7_200_000, 60_000, "min"),
    ):
        if ms < limit:
            return f"{ms // divisor} {unit}"
    return f"{ms // 3_600_000} h"


def packed_as(stored: Stored) -> str:
    """How something is stored: ``zstd + aes-256-gcm``; ``plain`` if it is as it came."""
    return " + ".join(filter(None, (stored.compression, stored.encryption))) or "plain"


def plain(name: str) -> str:
    """A name that is safe on a terminal: what cannot be printed is escaped."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in name
    )


def print_json(value: object) -> None:
    """Structs, dicts and lists as JSON on one line."""
    typer.echo(msgspec.json.encode(value).decode())


def print_table(header: tuple[str, ...], rows: list[tuple[str, ...]], *, left: int = 1) -> None:
    """Columns with two spaces between; nothing is cut, so that scripts can read them.

    Args:
        header: names of the columns.
        rows: the cells, as many as names.
        left: so many columns are aligned to the left, the others to the right.
    """
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        cells = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        typer.echo("  ".join(cells).rstrip())


@contextmanager
def progress_bar(text: str) -> Iterator[Progress | None]:
    """A bar on standard error while bytes go; None if that is not a terminal."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task(plain(text), total=None)

        def advance(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total)

        yield advance
