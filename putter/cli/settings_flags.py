"""Flags of the commands that run a process, made from the settings struct.

A command that takes settings has one flag for each field it names. Flags stay text until
`common.settings_load.load` reads them, so that a bad value is refused in the same words wherever
it came from.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, get_type_hints

import typer

from common.settings import FIELDS, allowed, description, flag_of, variable_of
from common.settings_load import CONFIG_FILE, load, unknown_variables
from putter.cli.shell import warn

_METAVARS: Final = {
    "a path": "PATH",
    "a URL": "URL",
    "a list of host:port": "HOST:PORT,…",
    "a host name or address": "HOST",
    "text without spaces": "TEXT",
    "0 or more": "COUNT",
}
_CONFIG: Final = inspect.Parameter(
    "config",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[
        Path | None,
        typer.Option(
            "--config",
            envvar="PUTTER_CONFIG",
            help=f"File of settings; else {CONFIG_FILE} in the working directory, if there.",
            metavar="PATH",
        ),
    ],
)


def command_with_settings(
    run: Callable[..., None], names: Sequence[str], *, unread: Collection[str] = ()
) -> Callable[..., None]:
    """A command function with one flag per setting, and ``--config``.

    Args:
        run: what the command does with its settings, its only argument by position; its docstring
            is the command's help. Arguments by keyword become flags of their own.
        names: the fields that have flags.
        unread: fields whose variables do not count for this command.
    """
    own = _own_parameters(run)

    def command(*, config: Path | None = None, **given: Any) -> None:
        for warning in unknown_variables(os.environ):
            warn(warning)
        mine = {name: given.pop(name) for name in own}
        skipped = {variable_of(name) for name in unread}
        environ = {name: text for name, text in os.environ.items() if name not in skipped}
        run(load(given, environ, config_file(config)), **mine)

    parameters = [*own.values(), *(_parameter(name) for name in names), _CONFIG]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    command.__doc__ = run.__doc__
    command.__name__ = run.__name__
    return command


def config_file(config: Path | None) -> Path | None:
    """The file of settings that counts: the one that was named, or the default if it is there."""
    if config is not None:
        return config
    default = Path(CONFIG_FILE)
    return default if default.exists() else None


def _own_parameters(run: Callable[..., None]) -> dict[str, inspect.Parameter]:
    """The arguments that are no settings, their annotations resolved."""
    hints = get_type_hints(run, include_extras=True)
    return {
        name: each.replace(annotation=hints[name])
        for name, each in inspect.signature(run).parameters.items()
        if each.kind is inspect.Parameter.KEYWORD_ONLY
    }


def _parameter(name: str) -> inspect.Parameter:
    default: Any = FIELDS[name].default
    shown = f" [default: {default}]" if default not in (None, ()) else ""
    sentence = description(name)
    accepted = allowed(name)
    option = typer.Option(
        flag_of(name),
        help=sentence[0].upper() + sentence[1:] + "." + shown,
        metavar=_METAVARS.get(accepted) or accepted.replace(" or ", "|").replace(", ", "|"),
        show_default=False,
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[str | None, option],
    )
