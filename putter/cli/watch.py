"""``status --watch``: the cluster again and again, until Ctrl-C."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final

import typer
from rich.console import Console
from rich.live import Live

from common.errors import Unavailable
from putter.cli.board import History, headline, page
from putter.cli.output import print_json
from putter.client.status import StoreStatus
from putter.client.store import Store

ANSWER_S: Final = 5.0
"""Patience with a router that does not answer: then that is what is shown."""


def watch(
    store: Store,
    url: str,
    interval_s: float,
    show: Callable[[StoreStatus], None],
    *,
    as_json: bool,
) -> None:
    """Show the cluster until Ctrl-C: on a terminal a screen of its own, else one after the other.

    A router that goes away is waited for. With JSON each answer is one line, and so is each
    question that had none: ``{"url", "unavailable"}``.

    Args:
        store: the client.
        url: of the router.
        interval_s: from one question to the next.
        show: prints an answer where there is no terminal.
        as_json: print JSON.

    Raises:
        PutterError: what waiting does not mend, such as a wrong token.
    """
    console = Console()
    history = History()
    try:
        if console.is_terminal and not as_json:
            with Live(console=console, screen=True, auto_refresh=False) as live:
                while True:
                    _ask(store, history)
                    live.update(page(url, history, time.monotonic(), _now_ms()), refresh=True)
                    time.sleep(interval_s)
        while True:
            told = _ask(store, history)
            if as_json:
                print_json(told or {"url": url, "unavailable": history.trouble})
            else:
                typer.echo(f"== {headline(url, history, time.monotonic(), _now_ms())}")
                if told is not None:
                    show(told)
            sys.stdout.flush()
            time.sleep(interval_s)
    except KeyboardInterrupt:
        return


def _ask(store: Store, history: History) -> StoreStatus | None:
    """One question; None if there was no answer."""
    try:
        told = store.status()
    except Unavailable as error:
        history.failed(error.message, time.monotonic())
        return None
    history.answered(told, time.monotonic())
    return told


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
