"""Commands on files: put, get, cat, ls, rm, stat."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from common.errors import NotFound, PutterError, UsageError
from common.names import check_bucket, parse_name
from putter.cli import raw
from putter.cli.access import URL, Json, KeyFile, TlsCa, Token, Url, open_store
from putter.cli.output import (
    human_size,
    human_time,
    packed_as,
    plain,
    print_json,
    print_table,
    progress_bar,
)
from putter.cli.shell import report
from putter.client.models import Entry, FileInfo, TicketInfo
from putter.client.store import Store

Name = Annotated[
    str,
    typer.Argument(help="bucket/key; one segment is a key in the bucket `files`.", metavar="NAME"),
]


def put(
    file: Annotated[str, typer.Argument(help="Local file, or - for standard input.")],
    name: Name,
    content_type: Annotated[
        str | None, typer.Option("--content-type", help="Media type to keep with the file.")
    ] = None,
    new: Annotated[bool, typer.Option("--new", help="Fail if the file exists.")] = False,
    url: Url = URL,
    token: Token = None,
    key_file: KeyFile = None,
    tls_ca: TlsCa = None,
    as_json: Json = False,
) -> None:
    """Store a file. When the command ends with 0, its bytes are durable.

    Examples:
        putter put cat.jpg photos/cat.jpg
        tar c src | putter put - backups/src.tar
    """
    source = sys.stdin.buffer if file == "-" else Path(file)
    with open_store(url, token, key_file, tls_ca) as store, progress_bar(file) as progress:
        info = store.put(
            name,
            source,
            content_type=content_type,
            progress=progress,
            if_none_match="*" if new else None,
        )
    if as_json:
        print_json(info)
        return
    note = f" (degraded: {info.nodes_written} of {info.replicas_wanted} nodes)"
    typer.echo(
        f"{plain(info.name)}  {human_size(info.size)}  {info.blake3 or info.etag}"
        + (note if info.degraded else "")
    )


def get(
    name: Name,
    file: Annotated[
        str | None,
        typer.Argument(help="Local file or directory, or - for standard output."),
    ] = None,
    url: Url = URL,
    token: Token = None,
    key_file: KeyFile = None,
    tls_ca: TlsCa = None,
) -> None:
    """Copy a file from the store: whole and verified, or not at all.

    Examples:
        putter get photos/cat.jpg
        putter get photos/cat.jpg /tmp/other-name.jpg
    """
    if file == "-":
        cat(name, url=url, token=token, key_file=key_file)
        return
    target = _target(name, file)
    with open_store(url, token, key_file, tls_ca) as store, progress_bar(name) as progress:
        store.download(name, target, progress)


def cat(
    name: Name,
    span: Annotated[
        str | None,
        typer.Option(
            "--range",
            help="Bytes a-b, counted from 0 and both included; a- to the end, -n the last n.",
            metavar="A-B",
        ),
    ] = None,
    url: Url = URL,
    token: Token = None,
    key_file: KeyFile = None,
    tls_ca: TlsCa = None,
) -> None:
    """Write a file to standard output.

    The hash of a whole file is known after its last byte: look at the exit code.

    Examples:
        putter cat logs/today | grep error
        putter cat logs/today --range 0-99
    """
    start, end = parse_range(span)
    with open_store(url, token, key_file, tls_ca) as store:
        for chunk in store.iter(name, start, end):
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()


def ls(
    place: Annotated[
        str | None,
        typer.Argument(help="BUCKET or BUCKET/PREFIX; without it the buckets.", metavar="PLACE"),
    ] = None,
    long: Annotated[bool, typer.Option("--long", "-l", help="Sizes and times too.")] = False,
    url: Url = URL,
    token: Token = None,
    key_file: KeyFile = None,
    tls_ca: TlsCa = None,
    as_json: Json = False,
) -> None:
    """List the buckets, or the files of one. With --json one object a line.

    Examples:
        putter ls
        putter ls photos/2026- --long
    """
    with open_store(url, token, key_file, tls_ca) as store:
        if place is None:
            _list_buckets(store, as_json=as_json)
            return
        bucket, _, prefix = place.partition("/")
        for entry in store.list(check_bucket(bucket), prefix):
            if as_json:
                print_json(entry)
            else:
                typer.echo(_line(entry) if long else plain(entry.key))


def rm(
    names: Annotated[
        list[str] | None, typer.Argument(help="Files to delete.", metavar="[NAME]...")
    ] = None,
    ticket: Annotated[
        list[str] | None,
        typer.Option("--ticket", help="Raw ticket to free on a putter.", metavar="TICKET"),
    ] = None,
    putter: raw.Putter = raw.DEFAULT_PUTTER,
    url: Url = URL,
    token: Token = None,
    key_file: KeyFile = None,
    tls_ca: TlsCa = None,
) -> None:
    """Delete files, or free raw tickets on a putter.

    Every name is tried; the exit code is that of the first one that failed.

    Examples:
        putter rm photos/cat.jpg photos/dog.jpg
        putter rm --ticket 0K3ZZ9QA --ticket 0K3ZZ9QB
    """
    if bool(names) == bool(ticket):
        raise UsageError("rm takes either names or --ticket", hint="putter rm photos/cat.jpg")
    if ticket:
        raw.free_tickets(ticket, putter, key_file)
        return
    failures: list[PutterError] = []
    with open_store(url, token, key_file, tls_ca) as store:
        for name in names or []:
            try:
                store.delete(name)
            except PutterError as error:
                report(error)
                failures.append(error)
    if failures:
        raise typer.Exit(failures[0].exit)


def stat(
    name: Annotated[
        str | None,
        typer.Argument(help="bucket/key; one segment is a key in `files`.", metavar="NAME"),
    ] = None,
    ticket: Annotated[
        str | None, typer.Option("--ticket", help="TicketID to look up instead.", metavar="TICKET")
    ] = None,
    url: Url = URL,
    token: Token = None,
    key_file: KeyFile = None,
    tls_ca: TlsCa = None,
    as_json: Json = False,
) -> None:
    """Tell all about a file, down to its tickets, or about one ticket.

    Examples:
        putter stat photos/cat.jpg
        putter stat --ticket 3F9
    """
    if (name is None) == (ticket is None):
        raise UsageError("stat takes either a name or --ticket", hint="putter stat photos/cat.jpg")
    with open_store(url, token, key_file, tls_ca) as store:
        told = store.ticket(ticket) if ticket is not None else store.stat(name or "")
        first = None if as_json else _first_ticket(store, told)
    if as_json:
        print_json(told)
    elif isinstance(told, FileInfo):
        _print_file(told)
        if first is not None:
            _print_stored(first)
    else:
        _print_ticket(told)


def _first_ticket(store: Store, told: FileInfo | TicketInfo) -> TicketInfo | None:
    """Of a file, if there is one and a putter that has it answers."""
    if isinstance(told, FileInfo):
        for stored in told.objects:
            for extent in stored.extents[:1]:
                with suppress(NotFound):
                    return store.ticket(extent.first)
    return None


def parse_range(text: str | None) -> tuple[int | None, int | None]:
    """``a-b``, ``a-`` or ``-n`` as a slice: start, and the end that is not included.

    Raises:
        UsageError: none of these, or the end lies before the start.
    """
    if text is None:
        return None, None
    first, dash, last = text.partition("-")
    numbers = all(part.isascii() and part.isdigit() for part in (first, last) if part)
    if (
        not dash
        or not (first or last)
        or not numbers
        or (first and last and int(first) > int(last))
    ):
        raise UsageError(f"--range {text!r} is not a-b, a- or -n", hint="like --range 0-99")
    if not first:
        return -int(last), None
    return int(first), int(last) + 1 if last else None


def _target(name: str, file: str | None) -> Path:
    """Where `get` writes: the path that was given, or the key's last segment in a directory."""
    path = Path(file) if file is not None else Path()
    if not path.is_dir():
        return path
    last = parse_name(name)[1].rpartition("/")[2]
    if not last:
        raise UsageError(f"{name!r} has no last segment to name a file by", hint="name the file")
    return path / last


def _list_buckets(store: Store, *, as_json: bool) -> None:
    buckets = store.buckets()
    if as_json:
        print_json(buckets)
        return
    for bucket in buckets:
        typer.echo(plain(bucket))


def _line(entry: Entry) -> str:
    return f"{human_time(entry.created_ms):19}  {entry.size:>15}  {plain(entry.key)}"


def _print_file(info: FileInfo) -> None:
    rows = {
        "name": plain(info.name),
        "size": f"{info.size} ({human_size(info.size)})",
        "type": plain(info.content_type),
        "created": human_time(info.created_ms) + " UTC",
        "etag": info.etag,
        "blake3": info.blake3 or "-",
        "version": info.version,
        "replicas": f"{info.nodes_written} of {info.replicas_wanted}"
        + (" (degraded)" if info.degraded else ""),
    }
    for field, value in rows.items():
        typer.echo(f"{field + ':':10}{value}")
    for stored in info.objects:
        typer.echo(
            f"object:   {stored.object}  {human_size(stored.size)}, "
            f"{stored.tickets} tickets of {human_size(stored.frame_bytes)}"
        )
        if stored.extents:
            print_table(
                ("  first", "last", "nodes", "tickets", "bytes"),
                [
                    (
                        f"  {extent.first}",
                        extent.last,
                        " ".join(extent.nodes),
                        str(extent.count),
                        str(extent.size),
                    )
                    for extent in stored.extents
                ],
                left=3,
            )


def _print_ticket(info: TicketInfo) -> None:
    name = f"{info.bucket}/{info.key}" if info.bucket and info.key else "-"
    rows = {
        "ticket": info.ticket,
        "state": info.state,
        "size": f"{info.size} ({human_size(info.size)})",
        "checksum": info.checksum or "-",
        "object": info.object,
        "offset": str(info.offset),
        "file": plain(name),
        "version": info.version or "-",
        "nodes": " ".join(info.nodes) or "-",
    }
    if info.damaged:
        rows["damaged"] = " ".join(info.damaged)
    for field, value in rows.items():
        typer.echo(f"{field + ':':10}{value}")
    _print_stored(info)


def _print_stored(info: TicketInfo) -> None:
    """How the run of a ticket lies on each disk."""
    for node, stored in info.stored.items():
        if stored.plain_bytes:
            sizes = f"{human_size(stored.stored_bytes)} for {human_size(stored.plain_bytes)}"
            typer.echo(
                f"stored:   {packed_as(stored)}, {sizes} (the run of {info.ticket} on {node})"
            )
