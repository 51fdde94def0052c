"""`cp`: files and trees between this machine and the store."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from common.errors import NotFound, UsageError
from putter.cli import copying
from putter.cli.access import URL, Json, KeyFile, TlsCa, Token, Url
from putter.cli.copying import JOBS, DryRun, Ends, Exclude, Include, Jobs, Manner
from putter.cli.output import human_size, plain, print_json, progress_bar
from putter.client.models import FileInfo
from putter.client.sources import Progress
from putter.client.store import Store
from putter.client.trees import disk
from putter.client.trees.errand import Event, text_of
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
    ends = _named(ends, target)
    with stores() as store, progress_bar(_label(ends[0])) as progress:
        told = _looked_at(store, ends[0]) if dry_run else _copied(store, ends, progress)
    if ends[1] is None:
        return
    size = told.size if told else 0
    if as_json:
        print_json(Event("copy", _last(ends[1]), _label(ends[0]), _label(ends[1]), size))
    elif dry_run or told is None:
        typer.echo(f"copy    {plain(_label(ends[1]))}")
    else:
        digest = told.blake3 or told.etag
        typer.echo(f"{plain(_label(ends[1]))}  {human_size(size)}  {digest}")


def _named(ends: Ends, target_text: str) -> Ends:
    """Both ends of the copy of a single file: a directory gets the file's own name.

    Raises:
        UsageError: one of them cannot be a file, or neither is in the store.
        NotFound: the local file is not there.
    """
    source, target = ends
    if not any(isinstance(end, StorePlace) for end in ends):
        raise UsageError(
            "neither of the two is in the store", hint="a file of the store is putter:bucket/key"
        )
    if isinstance(source, StorePlace) and source.holds_many:
        raise UsageError(f"{source} is not one file", hint="--recursive copies all below it")
    if isinstance(source, Path):
        if source.is_dir():
            raise UsageError(f"{source} is a directory", hint="--recursive copies all below it")
        if not source.exists():
            raise NotFound(f"there is no file {source}")
    last = "" if source is None else _last(source)
    if isinstance(target, StorePlace) and target.holds_many:
        if not last:
            raise UsageError(f"{target} is not one file", hint="name it: putter:bucket/key")
        target = target.below(last)
    elif isinstance(target, Path) and (target.is_dir() or target_text.endswith("/")):
        disk.check_below(last)
        target = target / last
    if source == target:
        raise UsageError(f"{source} would be copied onto itself")
    return source, target


def _last(place: Place) -> str:
    return place.name if isinstance(place, Path) else place.key.rpartition("/")[2]


def _label(end: Place | None) -> str:
    return PIPE if end is None else text_of(str(end))


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
