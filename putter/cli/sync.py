"""`sync`: make one tree as another, with what differs."""

from __future__ import annotations

from typing import Annotated

import typer

from common.errors import UsageError
from putter.cli import copying
from putter.cli.access import URL, Json, KeyFile, TlsCa, Token, Url
from putter.cli.copying import JOBS, DryRun, Exclude, Include, Jobs, Manner
from putter.client.trees.globs import Wanted
from putter.client.trees.places import PIPE, parse_place
from putter.client.trees.plan import by_checksum
from putter.client.trees.routes import route


def sync(
    source: Annotated[
        str, typer.Argument(help="putter:bucket, putter:bucket/prefix or a directory.")
    ],
    target: Annotated[str, typer.Argument(help="The same; one of the two is in the store.")],
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete what is in TARGET and not in SOURCE.")
    ] = False,
    checksum: Annotated[
        bool, typer.Option("--checksum", help="Compare the bytes of all files of equal size.")
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
    """Make TARGET as SOURCE, and copy only what differs. Run it again to go on where it stopped.

    Examples:
        putter sync photos/ putter:photos
        putter sync putter:photos/2026 photos/2026 --delete --dry-run
        putter sync putter:photos putter:archive/photos --exclude '*.tmp'
    """
    if PIPE in (source, target):
        raise UsageError("- is no tree", hint="putter cp takes it")
    ends = parse_place(source), parse_place(target)
    way = route(*ends)
    stores = copying.opener(ends, url, token, key_file, tls_ca)
    manner = Manner(jobs, dry_run, as_json, Wanted(include or (), exclude or ()))
    judge = by_checksum if checksum else way.judge
    copying.run_errand(way, stores, manner, judge, delete=delete)
