"""The command line as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Annotated, Final

import typer

from putter.cli import cluster, files
from putter.cli.loopback import loopback
from putter.cli.router import router_command
from putter.cli.server import server_command
from putter.cli.shell import Shell, help_of

app = typer.Typer(
    cls=Shell,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"putter {version('data-putter')}")
        raise typer.Exit


def putter(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Throw bytes at a port and never lose one.

    Examples:
        putter router
        putter put cat.jpg photos/cat.jpg
        putter get photos/cat.jpg

    Every command explains itself with --help.
    """


app.callback(help=help_of(putter))(putter)
_COMMANDS: Final[Mapping[str, Callable[..., None]]] = {
    "router": router_command,
    "server": server_command,
    "put": files.put,
    "get": files.get,
    "cat": files.cat,
    "ls": files.ls,
    "rm": files.rm,
    "stat": files.stat,
    "status": cluster.status,
    "loopback": loopback,
}
for _name, _command in _COMMANDS.items():
    app.command(_name, help=help_of(_command))(_command)
app.add_typer(cluster.keys, name="keys")
