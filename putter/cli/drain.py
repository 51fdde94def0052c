"""``drain``: empty a node while it serves."""

from __future__ import annotations

import time
from typing import Annotated, Final

import typer

from common.errors import UsageError
from putter.cli.access import URL, Json, KeyFile, TlsCa, Token, Url, open_store
from putter.cli.output import human_size, print_json, progress_bar
from putter.client.status import Drain
from putter.client.store import Store

_POLL_S: Final = 1.0


def drain(
    node: str = typer.Argument(help="Identity of the putter, as `putter status` shows it."),
    url: Url = URL,
    token: Token = None,
    key_file: KeyFile = None,
    tls_ca: TlsCa = None,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Take it back: what was not moved yet stays.")
    ] = False,
    gone: Annotated[
        bool,
        typer.Option("--gone", help="It is lost and does not come back: replace what it held."),
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until the node is empty.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Empty a node while it serves, and say when it may be switched off.

    Others get what it holds at a bounded rate; it gets nothing new. It goes on when this command
    is ended, and when routers are restarted; only --cancel takes it back.

    Examples:
        putter drain 3f9a0c52d17e
        putter drain 3f9a0c52d17e --no-wait
        putter drain 3f9a0c52d17e --cancel
        putter drain 3f9a0c52d17e --gone
    """
    if cancel and gone:
        raise UsageError("--cancel and --gone exclude each other")
    with open_store(url, token, key_file, tls_ca) as store:
        told = store.drain(node, "cancel" if cancel else "gone" if gone else "begin")
        if wait and not cancel:
            told = _until_empty(store, node)
    if as_json:
        print_json(told)
    elif cancel:
        typer.echo(f"putter {node} stays, and gets new bytes again")
    else:
        _print(node, told)


def _print(node: str, told: Drain | None) -> None:
    if told is not None and told.done:
        typer.echo(f"putter {node} holds nothing that is needed: it may be switched off")
    elif told is None or told.names_left is None:
        typer.echo(f"putter {node} is going to be emptied; `putter drain {node}` waits for the end")
    else:
        typer.echo(
            f"putter {node}: {told.names_left} names left, {human_size(told.moving_bytes)} to move"
        )


def _until_empty(store: Store, node: str) -> Drain | None:
    """Ask until nothing is left on it."""
    most = 0
    with progress_bar("drain") as advance:
        while True:
            told = store.drain(node, "status")
            if told is None or told.done:
                return told
            most = max(most, told.moving_bytes)
            if advance is not None:
                advance(most - told.moving_bytes, most or None)
            time.sleep(_POLL_S)
