"""The two processes that the command line starts."""

from __future__ import annotations

from common.settings import Settings
from putter.cli.imports import importing


def run_router(settings: Settings) -> None:
    """Run a router in this process; returns when it has stopped.

    Raises:
        PutterError: it cannot start.
    """
    with importing():
        from putter.cli.process import run
        from putter.cli.route import route

    run(route(settings))


def run_server(settings: Settings) -> None:
    """Run a putter in this process; returns when it has stopped.

    Raises:
        PutterError: it cannot start.
    """
    with importing():
        from putter.cli.process import run
        from putter.cli.serve import serve

    run(serve(settings))
