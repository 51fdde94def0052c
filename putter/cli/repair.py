"""``repair``: find and give putters what they lack, now."""

from __future__ import annotations

import time
from typing import Annotated, Final

import typer

from putter.cli.access import URL, Json, KeyFile, Token, Url, open_store
from putter.cli.output import human_size, print_json, progress_bar
from putter.client.status import AuditFound, Repairs
from putter.client.store import Store

_POLL_S: Final = 1.0
_QUIET: Final = 5
"""Polls after which nothing comes any more: routers look every two seconds what is owed."""
_FAILED: Final = 1
_WORDS: Final = (
    ("objects", "parts of objects that putters lack"),
    ("records", "commit records of objects that putters lacked, given to them"),
    ("bare", "deletions, files without a byte and the like that too few putters have"),
    ("strays", "objects that lie on putters which need not hold them"),
    ("lost", "parts of objects that no putter has whole: see `putter status`"),
    ("unsure", "parts of objects of which that cannot be told while putters are away"),
)


def repair(
    node: Annotated[
        str, typer.Argument(help="Compare only this putter: its identity, as in `putter status`.")
    ] = "",
    url: Url = URL,
    token: Token = None,
    key_file: KeyFile = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until all that can be given is given.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Compare what putters hold with what they should, and give them what they lack.

    A router does that by itself once a day, and when a putter comes back with less than it had.
    What it finds it repairs at a bounded rate. It goes on when this command is ended. The exit code
    is 1 if some bytes are on no putter.

    Examples:
        putter repair
        putter repair 3f9a0c52d17e
        putter repair --no-wait --json
    """
    with open_store(url, token, key_file) as store:
        told = store.repair("begin", [node] if node else [])
        if wait:
            told = _until_done(store)
    if as_json:
        print_json(told)
    else:
        _print(told)
    if told.audit.last is not None and told.audit.last.found.lost:
        raise typer.Exit(_FAILED)


def _until_done(store: Store) -> Repairs:
    """Ask until nothing is compared any more, nor can be given."""
    most = quiet = 0
    with progress_bar("repair") as advance:
        while True:
            told = store.repair("status")
            owed = sum(each.bytes for each in told.to_be_paid)
            busy = told.audit.running or told.elsewhere or told.to_be_paid
            quiet = 0 if busy else quiet + 1
            if quiet > (_QUIET if _noted(told) else 0):
                return told
            most = max(most, owed)
            if advance is not None:
                advance(most - owed, most or None)
            time.sleep(_POLL_S)


def _noted(told: Repairs) -> bool:
    """Whether something was noted that routers may not have looked at yet."""
    last = told.audit.last
    return last is None or bool(last.found.objects + last.found.bare)


def _print(told: Repairs) -> None:
    audit = told.audit
    if audit.running:
        names = audit.found.names if audit.found else 0
        typer.echo(f"comparing: {names} names so far; `putter repair` waits for the end")
    elif told.elsewhere:
        typer.echo("comparing: another router does, see its log")
    elif audit.last is not None:
        _print_found(audit.last.found)
        for silent in audit.last.silent:
            typer.echo(f"silent:   putter {silent} was not compared")
    for each in told.owed:
        there = "any putter" if each.node == "*" else f"putter {each.node}"
        done = f", done in {each.eta_s} s" if each.eta_s is not None else ""
        away = "" if each.up or each.node == "*" else " (away)"
        typer.echo(
            f"owed:     {each.objects} objects and {each.records} records, "
            f"{human_size(each.bytes)}, to {there}{away}{done}"
        )


def _print_found(found: AuditFound) -> None:
    typer.echo(f"compared: {found.names} names")
    for attribute, words in _WORDS:
        count = getattr(found, attribute)
        if count:
            typer.echo(f"found:    {count} {words}")
