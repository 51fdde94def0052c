"""The command line as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Annotated, Any, Final

import typer

from putter.cli.imports import importing
from putter.cli.shell import Shell, help_of

_COMMANDS: Final[Mapping[str, str]] = {
    "router": "router:router_command",
    "server": "server:server_command",
    "put": "files:put",
    "get": "files:get",
    "cat": "files:cat",
    "ls": "files:ls",
    "rm": "files:rm",
    "stat": "files:stat",
    "cp": "cp:cp",
    "mv": "mv:mv",
    "sync": "sync:sync",
    "status": "cluster:status",
    "nodes": "nodes:nodes",
    "explain": "explain:explain",
    "drain": "drain:drain",
    "bucket": "bucket:bucket",
    "repair": "repair:repair",
    "loopback": "loopback:loopback",
    "scrub": "scrub:scrub",
    "rebuild": "rebuild:rebuild",
    "keys": "cluster:keys",
    "cluster": "local_cluster:cluster",
}
"""Where each command is: a process does not wait for the imports of the others."""


class _Commands(MutableMapping[str, Any]):
    """The commands by name, each loaded when it is looked at."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded[name] = _load(name, _COMMANDS[name])
        return self._loaded[name]

    def __setitem__(self, name: str, command: Any) -> None:
        raise TypeError("the commands are those of the table")

    def __delitem__(self, name: str) -> None:
        raise TypeError("the commands are those of the table")

    def __iter__(self) -> Iterator[str]:
        return iter(_COMMANDS)

    def __len__(self) -> int:
        return len(_COMMANDS)


class _App(Shell):
    """The group of all commands."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.commands = _Commands()


def _load(name: str, place: str) -> Any:
    """A command, or a group of them, as the library of the command line wants it."""
    module, _, attribute = place.partition(":")
    with importing():
        found = getattr(import_module(f"putter.cli.{module}"), attribute)
    around = typer.Typer(
        add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
    )
    around.callback()(lambda: None)  # makes it a group, whatever is in it
    if isinstance(found, typer.Typer):
        around.add_typer(found, name=name)
    else:
        around.command(name, help=help_of(found))(found)
    group: Any = typer.main.get_command(around)
    return group.commands[name]


app = typer.Typer(
    cls=_App,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

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
