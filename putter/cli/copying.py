"""What `cp`, `mv` and `sync` have in common: their flags, their ends, and what they print."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer

from common.errors import NotFound, PutterError, UsageError
from putter.cli import access
from putter.cli.output import human_size, plain, print_json, progress_bar
from putter.cli.shell import report, warn
from putter.client.models import FileInfo
from putter.client.store import Store
from putter.client.trees import disk
from putter.client.trees.errand import Errand, Event, Totals, text_of
from putter.client.trees.globs import Wanted
from putter.client.trees.places import PIPE, Place, StorePlace
from putter.client.trees.plan import Judge, planned
from putter.client.trees.routes import Route

JOBS_MAX: Final = 64
WITHIN_TIMEOUT_S: Final = 3600.0
"""The store says nothing while it copies a large file within itself."""

Include = Annotated[
    list[str] | None,
    typer.Option("--include", help="Only files whose name this glob matches.", metavar="GLOB"),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", help="No file whose name this glob matches.", metavar="GLOB"),
]
Jobs = Annotated[
    int, typer.Option("--jobs", "-j", min=1, max=JOBS_MAX, help="So many files at a time.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", "-n", help="Tell what would be done, and change nothing.")
]
JOBS = 8
Ends = tuple[Place | None, Place | None]
"""Source and target; None for standard input or output."""


@dataclass(frozen=True)
class Manner:
    """How a tree is copied.

    Attributes:
        jobs: files at a time.
        dry_run: nothing is changed.
        as_json: one object a line, the summary last.
        wanted: which files.
    """

    jobs: int
    dry_run: bool
    as_json: bool
    wanted: Wanted


def opener(
    ends: Ends, url: str, token: str | None, key_file: Path | None, tls_ca: Path | None
) -> Callable[[], Store]:
    """What makes a client for each thread, as patient as a copy between these ends takes."""
    within = all(isinstance(end, StorePlace) for end in ends)
    timeout_s = WITHIN_TIMEOUT_S if within else access.TIMEOUT_S
    return partial(access.open_store, url, token, key_file, tls_ca, timeout_s=timeout_s)


def run_errand(
    route: Route,
    open_stores: Callable[[], Store],
    manner: Manner,
    judge: Judge | None,
    *,
    delete: bool,
) -> None:
    """Copy a tree, tell what became of it, and end with its exit code.

    Args:
        route: from where to where.
        open_stores: makes a client for each thread.
        manner: how.
        judge: compares what is on both sides; None: the target is not looked at.
        delete: whether what is only in the target goes away.

    Raises:
        typer.Exit: something failed.
    """
    with open_stores() as store:
        source = route.source(store, manner.wanted)
        if judge is None:
            plan = planned(source.items, {}, route.judge)
        else:
            target = route.target(store, manner.wanted)
            plan = planned(source.items, target.items, judge, delete=delete, on_disk=route.on_disk)
            source.failed += target.failed
    with progress_bar(f"{len(plan.steps)} files") as progress:
        errand = Errand(
            route,
            open_stores,
            lambda event, error: _tell(event, error, manner),
            jobs=manner.jobs,
            dry_run=manner.dry_run,
            progress=progress,
        )
        errand.run(source, plan)
    if manner.as_json:
        print_json({"summary": errand.totals})
    else:
        typer.echo(summary(errand.totals, route.does))
    if errand.exit:
        raise typer.Exit(errand.exit)


def named_ends(ends: Ends, target_text: str) -> Ends:
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
    last = "" if source is None else last_of(source)
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


def last_of(place: Place) -> str:
    """The last part of a name."""
    return place.name if isinstance(place, Path) else place.key.rpartition("/")[2]


def label_of(end: Place | None) -> str:
    """An end for people."""
    return PIPE if end is None else text_of(str(end))


def tell_one(event: Event, told: FileInfo | None, *, as_json: bool) -> None:
    """Print what became of a single file.

    Args:
        event: what was done, or would be.
        told: of the file that is there now; None: nothing is known of it.
        as_json: print JSON.
    """
    if as_json:
        print_json(event)
    elif told is None:
        typer.echo(f"{event.action:8}{plain(event.target)}")
    else:
        digest = told.blake3 or told.etag
        typer.echo(f"{plain(event.target)}  {human_size(event.size)}  {digest}")


def summary(totals: Totals, does: str = "copy") -> str:
    """One line for people; what did not happen is left out."""
    would = "would be " if totals.dry_run else ""
    parts = [f"{totals.copied} {would}copied ({human_size(totals.copied_bytes)})"]
    if does == "move":
        parts = [f"{totals.moved} {would}moved ({human_size(totals.moved_bytes)})"]
    for count, text in (
        (totals.deleted, f"{would}deleted"),
        (totals.unchanged, "unchanged"),
        (totals.skipped, "skipped"),
        (totals.failed, "failed"),
        (totals.not_tried, "not tried"),
        (totals.not_deleted, "not deleted because of that"),
    ):
        if count:
            parts.append(f"{count} {text}")
    return f"{', '.join(parts)}; {totals.seconds:.1f} s"


def _tell(event: Event, error: PutterError | None, manner: Manner) -> None:
    if error is not None:
        report(error)
    elif event.action == "skip":
        warn(f"{plain(event.source)} is {event.reason}, and skipped")
    if manner.as_json:
        print_json(event)
    elif manner.dry_run and event.action in ("copy", "move", "delete"):
        size = f"  {human_size(event.size)}" if event.action != "delete" else ""
        typer.echo(f"{event.action:8}{plain(event.target)}{size}")
