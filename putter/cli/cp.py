"""`cp`: files and trees between this machine and the store."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from common.errors import UsageError
from putter.cli import copying
from putter.cli.access import URL, Json, KeyFile, TlsCa, Token, Url
from putter.cli.copying import (
    JOBS,
    DryRun,
    Ends,
    Exclude,
    Include,
    Jobs,
    Manner,
    label_of,
    last_of,
    named_ends,
    tell_one,
)
from putter.cli.output import progress_bar
from putter.client.models import FileInfo
from putter.client.sources import Progress
from putter.client.store import Store
from putter.client.trees import disk
from putter.client.trees.errand import Event
from putter.client.trees.globs import Wanted
from putter.client.trees.places import PIPE, Place, StorePlace, parse_place
from putter.client.trees.routes import route


def cp(
    source: Annotated[
        str,
        typer.Argument(help="putter:bucket/key, a local path, or - for standard input."),
    ],
    target: Annotated[
        str,
        typer.Argument(help="putter:bucket/key, a local path, or - for standard output."),
    ],
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="All files below SOURCE.")
    ] = False,
    include: Include = None,
    exclude: Exclude = None,
    jobs: Jobs = JOBS,
    dry_run: DryRun = False,
    url: Url = URL,
    token: Token = None,
    key_file: KeyFile = None,
    tls_ca: TlsCa = None,
    as_json: Json = False,
) -> None:
    """Copy files into the store, from it, or within it: whole and verified.

    Examples:
        putter cp cat.jpg putter:photos/
        putter cp putter:photos/cat.jpg - | wc -c
        putter cp -r photos/ putter:photos/2026 --exclude '*.tmp'
        putter cp -r putter:photos/2026 putter:archive/photos
    """
    ends = (
        None if source == PIPE else parse_place(source),
        None if target == PIPE else parse_place(target),
    )
    stores = copying.opener(ends, url, token, key_file, tls_ca)
    if recursive:
        first, second = ends
        if first is None or second is None:
            raise UsageError("--recursive needs two places, and - is none")
        manner = Manner(jobs, dry_run, as_json, Wanted(include or (), exclude or ()))
        copying.run_errand(route(first, second), stores, manner, None, delete=False)
        return
    if include or exclude:
        raise UsageError("--include and --exclude go with --recursive")
    ends = named_ends(ends, target)
    with stores() as store, progress_bar(label_of(ends[0])) as progress:
        told = _looked_at(store, ends[0]) if dry_run else _copied(store, ends, progress)
    if ends[1] is None:
        return
    size = told.size if told else 0
    event = Event("copy", last_of(ends[1]), label_of(ends[0]), label_of(ends[1]), size)
    tell_one(event, None if dry_run else told, as_json=as_json)


def _copied(store: Store, ends: Ends, progress: Progress | None) -> FileInfo:
    """Copy one file."""
    match ends:
        case None, StorePlace() as target:
            return store.put(target.name, sys.stdin.buffer, progress=progress)
        case Path() as source, StorePlace() as target:
            return store.put(target.name, source, progress=progress)
        case StorePlace() as source, StorePlace() as target:
            return store.copy(source.name, target.name)
        case StorePlace() as source, Path() as target:
            told = store.download(source.name, disk.replaceable(target), progress)
            disk.set_time(target, told.created_ms)
            return told
        case StorePlace() as source, None:
            with store.open(source.name) as reader:
                for chunk in reader:
                    sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()
                return reader.info
    raise AssertionError(ends)


def _looked_at(store: Store, source: Place | None) -> FileInfo | None:
    """What a dry run knows: a file of the store has to be there."""
    return store.head(source.name) if isinstance(source, StorePlace) else None
