"""The command that throws raw frames at a putter and checks every ack."""

from __future__ import annotations

import socket
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from common.errors import PutterError, StorageError, UsageError
from common.keys import Keyring
from common.tickets import format_id
from common.wire.status import Status
from putter.cli import raw
from putter.cli.access import Json, KeyFile, keyring
from putter.cli.output import human_size, parse_size, print_json, progress_bar
from putter.cli.shell import report
from putter.client.acked import Part, error_of, plan, total
from putter.client.raw import Advance, Data, FileData, RandomData, connected, send_raw
from putter.client.sources import Progress


class LoopbackReport(msgspec.Struct, frozen=True):
    """What `loopback` prints with --json.

    Attributes:
        putter: address of the putter.
        first: TicketID of the first frame.
        last: TicketID of the last one.
        frames: how many frames were acknowledged.
        size: data bytes in them.
        connections: how many connections carried them.
        seconds: from the first byte sent to the last ack.
        statuses: count of acks by the name of their status.
        freed: tickets that were removed again.
    """

    putter: str
    first: str
    last: str
    frames: int
    size: int
    connections: int
    seconds: float
    statuses: dict[str, int]
    freed: int


def loopback(
    size: Annotated[
        str | None,
        typer.Option("--size", help="Amount of random data, like 64MiB. [default: 16MiB]"),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="Send this file instead of random data.")
    ] = None,
    connections: Annotated[
        int, typer.Option("--connections", min=1, max=64, help="Connections at a time.")
    ] = 1,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the tickets stored.")] = False,
    putter: raw.Putter = raw.DEFAULT_PUTTER,
    key_file: KeyFile = None,
    as_json: Json = False,
) -> None:
    """Send raw frames to a putter under random tickets, check every ack, remove them again.

    Examples:
        putter loopback
        putter loopback --size 1GiB --connections 2
        putter loopback --file cat.jpg --keep --json
    """
    if size is not None and file is not None:
        raise UsageError("loopback takes either --size or --file")
    host, port = raw.parse_address(putter)
    ring = keyring(key_file)
    opened = FileData(file) if file else nullcontext(RandomData(parse_size(size or "16MiB")))
    with opened as data:
        parts = plan(data.size, connections)
        with connected(host, port, len(parts)) as sockets:
            try:
                counts, seconds = _send(sockets, parts, data, ring, putter)
            except BaseException:
                if not keep:
                    _free_after_failure(host, port, ring, parts)
                raise
    error = error_of(counts)
    if keep:
        freed = 0
    elif error is None:
        freed = _free(host, port, ring, parts)
    else:
        freed = _free_after_failure(host, port, ring, parts)
    told = LoopbackReport(
        putter=putter,
        first=format_id(parts[0].first),
        last=format_id(parts[-1].first + parts[-1].count - 1),
        frames=sum(counts.values()),
        size=data.size,
        connections=len(parts),
        seconds=round(seconds, 6),
        statuses={_status_name(status): count for status, count in sorted(counts.items())},
        freed=freed,
    )
    if as_json:
        print_json(told)
    else:
        _print(told)
    if error is not None:
        raise error
    written = counts.get(Status.WRITTEN, 0)
    if not keep and freed != written:
        raise StorageError(f"the putter freed {freed} of {written} tickets")


def _send(
    sockets: list[socket.socket], parts: list[Part], data: Data, ring: Keyring, putter: str
) -> tuple[dict[int, int], float]:
    """Send everything; the counts of acks by status, and the seconds it took."""
    with progress_bar(putter) as progress:
        advance = _summed(progress, data.size)
        started = time.perf_counter()
        tallies = send_raw(sockets, parts, data, ring.writing.checksum, advance)
        return total(tallies), time.perf_counter() - started


def _summed(progress: Progress | None, size: int) -> Advance:
    """Progress of several connections as one."""
    lock = threading.Lock()
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        with lock:
            done += count
            if progress is not None:
                progress(done, size)

    return advance


def _free(host: str, port: int, ring: Keyring, parts: list[Part]) -> int:
    from putter.client.session import free_raw

    ranges = [(part.first, part.count) for part in parts]
    return free_raw(host, port, ring, ranges, raw.session_certificates())


def _free_after_failure(host: str, port: int, ring: Keyring, parts: list[Part]) -> int:
    """Remove what was stored; the failure itself is told after this, and more important."""
    try:
        return _free(host, port, ring, parts)
    except PutterError as error:
        sys.stderr.write("while the tickets that were sent are removed:\n")
        report(error)
        return 0


def _status_name(status: int) -> str:
    return Status(status).name.lower() if status in set(Status) else f"status {status}"


def _print(told: LoopbackReport) -> None:
    rate = told.size / told.seconds if told.seconds else 0.0
    frames = told.frames / told.seconds if told.seconds else 0.0
    statuses = ", ".join(f"{count} {name}" for name, count in told.statuses.items())
    typer.echo(f"tickets {told.first}…{told.last}: {statuses}")
    typer.echo(
        f"{human_size(told.size)} in {told.seconds:.3f} s: {human_size(rate)}/s, "
        f"{frames:,.0f} frames/s over {told.connections} connection(s)"
    )
    typer.echo(f"{told.freed} tickets removed")
