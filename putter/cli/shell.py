"""What every command has in common: how errors, interrupts and closed pipes end it.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | failed |
| 2 | the command, a name or a setting makes no sense |
| 3 | no such file, ticket or bucket |
| 4 | cannot connect |
| 5 | not authorised |
| 6 | bytes are not those that were written |
| 130 | interrupted |
| 141 | the reader of the output went away |
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from typing import Any, Final

import typer
from typer.core import TyperGroup

from common.errors import PutterError

INTERRUPTED: Final = 130
PIPE_CLOSED: Final = 141


class Shell(TyperGroup):
    """A group of commands whose errors end in one clear line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            result = super().invoke(ctx)
            # What is still buffered meets a closed pipe here, where that is handled.
            sys.stdout.flush()
        except PutterError as error:
            report(error)
            raise typer.Exit(error.exit) from error
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            _silence(sys.stdout.fileno())
            raise typer.Exit(PIPE_CLOSED) from None
        return result


def help_of(command: Callable[..., None]) -> str:
    """The docstring of a command as its help; the lines of examples stay as they are."""
    text = inspect.getdoc(command) or ""
    return text.replace("Examples:\n", "\b\nExamples:\n")


def report(error: PutterError) -> None:
    """Tell an error on standard error: what happened, and what can be done.

    A message may hold names that somebody else chose; they cannot command the terminal.
    """
    from putter.cli.output import plain

    typer.echo(f"error: {plain(error.message)}", err=True)
    if error.hint:
        typer.echo(f"hint: {error.hint}", err=True)
    if error.request_id and error.http >= PutterError.http:
        typer.echo(f"request: {error.request_id} (as the log of the router names it)", err=True)


def warn(text: str) -> None:
    """Tell something on standard error that does not stop the command."""
    typer.echo(f"warning: {text}", err=True)


def _silence(descriptor: int) -> None:
    """Let what Python still flushes at its end go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
