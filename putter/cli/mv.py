"""`mv`: files and trees of the store get other names."""

from __future__ import annotations

from typing import Annotated

import typer

from common.errors import UsageError
from putter.cli import copying
from putter.cli.access import URL, Json, KeyFile, TlsCa, Token, Url
from putter.cli.copying import (
    JOBS,
    DryRun,
    Exclude,
    Include,
    Jobs,
    Manner,
    label_of,
    last_of,
    named_ends,
    tell_one,
)
from putter.client.trees.errand import Event
from putter.client.trees.globs import Wanted
from putter.client.trees.places import StorePlace, store_place
from putter.client.trees.routes import moving


def mv(
    source: Annotated[str, typer.Argument(help="putter:bucket/key.")],
    target: Annotated[str, typer.Argument(help="putter:bucket/key, its new name.")],
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
    """Rename files of the store, one or all below a place.

    Examples:
        putter mv putter:photos/cat.jpg putter:photos/tom.jpg
        putter mv putter:photos/cat.jpg putter:archive/
        putter mv -r putter:photos/2026 putter:archive/photos --include '*.jpg'
    """
    ends = store_place(source), store_place(target)
    stores = copying.opener(ends, url, token, key_file, tls_ca)
    if recursive:
        manner = Manner(jobs, dry_run, as_json, Wanted(include or (), exclude or ()))
        copying.run_errand(moving(*ends), stores, manner, None, delete=False)
        return
    if include or exclude:
        raise UsageError("--include and --exclude go with --recursive")
    old, new = ends[0], named_ends(ends, target)[1]
    assert isinstance(new, StorePlace)
    with stores() as store:
        told = store.head(old.name) if dry_run else store.move(old.name, new.name)
    event = Event("move", last_of(new), label_of(old), label_of(new), told.size)
    tell_one(event, None if dry_run else told, as_json=as_json)
