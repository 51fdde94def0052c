"""The command that restores Redis from the commit records of the putters."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer

from common import logs
from common.errors import SettingInvalid
from common.settings import Settings
from common.settings_load import load
from putter.cli.access import Json
from putter.cli.imports import importing
from putter.cli.output import print_json, print_table
from putter.cli.settings_flags import config_file
from putter.cli.shell import report

if TYPE_CHECKING:
    from putter.cli.rebuilding import Outcome
    from router.replay import Tally

_SAY_EVERY_S: Final = 2.0
_INCOMPLETE: Final = 1


class NodeReport(msgspec.Struct, frozen=True):
    """What was read from one putter: how many records, and the number of the last one."""

    node: str
    records: int
    last: int


class RebuildReport(msgspec.Struct, frozen=True):
    """What `rebuild` prints with --json.

    Attributes:
        complete: whether Redis serves now.
        objects: versions that are visible.
        versions: records of versions that were read; each replica has one.
        known: of these, those that were applied before.
        superseded: versions that a newer change hides; their bytes are queued to be freed.
        tombstones: deletions.
        aborts: versions that were given up.
        settings: changes of the settings of buckets.
        keys: changes of access keys.
        not_whole: versions that nobody was told of and whose bytes are on no putter.
        conflicts: records that contradict others; see the log.
        unknown: records of kinds that this release does not know; they stay where they are.
        damaged: records that cannot be read.
        seconds: how long it took.
        nodes: what was read from each putter.
        silent: putters that belong to the cluster and did not answer.
    """

    complete: bool
    objects: int
    versions: int
    known: int
    superseded: int
    tombstones: int
    aborts: int
    settings: int
    keys: int
    not_whole: int
    conflicts: int
    unknown: int
    damaged: int
    seconds: float
    nodes: tuple[NodeReport, ...]
    silent: tuple[str, ...]


def rebuild(
    redis: Annotated[
        str | None,
        typer.Option(
            "--redis", help="URL of the Redis to restore; else that of the settings.", metavar="URL"
        ),
    ] = None,
    nodes: Annotated[
        str | None,
        typer.Option(
            "--nodes", help="Putters that do not register in this Redis.", metavar="HOST:PORT,…"
        ),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option("--without", help="A putter that is gone for good.", metavar="NODE"),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Read all records, also those that are applied.")
    ] = False,
    wait_s: Annotated[
        float, typer.Option("--wait", min=0, help="Seconds to wait for putters.", metavar="SECONDS")
    ] = 10.0,
    key_file: Annotated[
        Path | None,
        typer.Option("--key-file", help="Cluster key; else that of the settings.", metavar="PATH"),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir", help="Where a store that runs alone keeps everything.", metavar="PATH"
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", envvar="PUTTER_CONFIG", help="File of settings.", metavar="PATH"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Restore Redis from the putters: every file, version and deletion.

    It ends with 1 if a putter of the cluster did not answer: what the others hold is restored by
    then, but nothing is served before all have answered, or were named with --without. Run it
    again as often as you like; it goes on where it stopped.

    Examples:
        putter rebuild --redis redis://10.0.0.5:6379
        putter rebuild --without 3f9a0c52d17e
    """
    flags = {
        "redis": redis,
        "nodes": nodes,
        "key_file": str(key_file) if key_file else None,
        "data_dir": str(data_dir) if data_dir else None,
    }
    settings = load(flags, os.environ, config_file(config))
    if settings.redis is None:
        settings = msgspec.structs.replace(settings, redis=_embedded(settings))
    logs.configure(form=settings.log_format, level="warning")
    with importing():
        from putter.cli.rebuilding import run

    started = time.monotonic()
    with _progress() as on_progress:
        outcome = run(
            settings,
            without=frozenset(without or ()),
            again=everything,
            wait_s=wait_s,
            on_progress=on_progress,
        )
    told = _report(outcome, time.monotonic() - started)
    if as_json:
        print_json(told)
    else:
        _print(told)
    if outcome.trouble is not None:
        report(outcome.trouble)
        raise typer.Exit(_INCOMPLETE)


def _embedded(settings: Settings) -> str:
    """The Valkey of a store that runs alone in this data directory.

    Raises:
        SettingInvalid: there is none.
    """
    try:
        text = (settings.redis_dir / "valkey.conf").read_text(errors="surrogateescape")
    except OSError as error:
        raise SettingInvalid(
            "no Redis is configured, and no store runs alone here",
            hint="name it: putter rebuild --redis URL",
        ) from error
    found = re.search(r'^unixsocket "(.*)"$', text, re.MULTILINE)
    path = found.group(1).replace('\\"', '"').replace("\\\\", "\\") if found else ""
    if not Path(path).is_socket():
        raise SettingInvalid(
            f"the store in {settings.data_dir} does not run",
            hint="start it: `putter router` rebuilds its Redis by itself",
        )
    return f"unix://{path}"


@contextmanager
def _progress() -> Iterator[Callable[[Tally], None]]:
    """A bar on a terminal, a line every few seconds elsewhere; both on standard error."""
    import sys

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(file=sys.stderr)
    if not console.is_terminal:
        said = time.monotonic()

        def say(tally: Tally) -> None:
            nonlocal said
            if time.monotonic() - said >= _SAY_EVERY_S:
                said = time.monotonic()
                done, total = _sums(tally)
                typer.echo(f"{done} of {total} records", err=True)

        yield say
        return
    columns = (TextColumn("records"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)

        def advance(tally: Tally) -> None:
            done, total = _sums(tally)
            bar.update(task, completed=done, total=total)

        yield advance


def _sums(tally: Tally) -> tuple[int, int]:
    nodes = tally.nodes.values()
    return sum(node.last for node in nodes), sum(node.target for node in nodes)


def _report(outcome: Outcome, seconds: float) -> RebuildReport:
    from common.meta.recovery import Restored

    tallies = outcome.tallies

    def count(kind: str, *outcomes: Restored) -> int:
        return sum(tally.of(kind, *outcomes) for tally in tallies)

    nodes: dict[str, NodeReport] = {}
    for tally in tallies:
        for name, node in tally.nodes.items():
            before = nodes.get(name)
            read = node.records + (before.records if before else 0)
            nodes[name] = NodeReport(name, read, max(node.last, before.last if before else 0))
    superseded = count("version", Restored.SUPERSEDED)
    return RebuildReport(
        complete=outcome.trouble is None,
        objects=outcome.objects,
        versions=count("version"),
        known=count("version", Restored.KNOWN),
        superseded=superseded,
        tombstones=count("tombstone", Restored.APPLIED, Restored.SUPERSEDED),
        aborts=count("abort", Restored.APPLIED),
        settings=count("bucketsettings", Restored.APPLIED),
        keys=count("accesskey", Restored.APPLIED),
        not_whole=sum(tally.not_whole for tally in tallies),
        conflicts=sum(
            number
            for tally in tallies
            for (_, kind), number in tally.outcomes.items()
            if kind is Restored.CONFLICT
        ),
        unknown=sum(tally.unknown for tally in tallies),
        damaged=sum(tally.damaged for tally in tallies),
        seconds=round(seconds, 3),
        nodes=tuple(nodes[name] for name in sorted(nodes)),
        silent=outcome.silent,
    )


def _print(told: RebuildReport) -> None:
    rows = [
        ("objects", told.objects),
        ("versions read", told.versions),
        ("known before", told.known),
        ("superseded", told.superseded),
        ("tombstones", told.tombstones),
        ("aborts", told.aborts),
        ("settings of buckets", told.settings),
        ("access keys", told.keys),
        ("not whole", told.not_whole),
        ("conflicts", told.conflicts),
        ("unknown kinds", told.unknown),
        ("damaged", told.damaged),
    ]
    print_table(("what", "count"), [(what, str(number)) for what, number in rows])
    if told.nodes:
        typer.echo("")
        print_table(
            ("putter", "records read", "last number"),
            [(node.node, str(node.records), str(node.last)) for node in told.nodes],
        )
    for each in told.silent:
        typer.echo(f"silent: {each}")
    state = "Redis is complete" if told.complete else "Redis is not complete yet"
    typer.echo(f"\n{state}, after {told.seconds:.1f} s.")
