"""The page of the command line says what the commands say of themselves.

After a change: ``python -m tests.architecture.test_cli_document`` writes the generated parts anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from common.settings import FIELDS, flag_of
from putter.cli.app import app

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
PART = re.compile(r"(<!-- cli: ([a-z ]+) -->\n)(.*?)(<!-- end -->\n)", re.DOTALL)


def commands() -> dict[str, Any]:
    """All commands that do something, by name."""

    def walk(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from walk(command, f"{prefix}{name} ")
            else:
                yield f"{prefix}{name}", command

    return dict(walk(typer.main.get_command(app), ""))


def described(name: str, command: Any) -> str:
    """The generated part of one command: usage, what it does, arguments and flags."""
    text, _, examples = command.help.replace("\b\n", "").partition("Examples:\n")
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option"]
    flags_of_settings = {flag_of(field) for field in FIELDS}
    settings = [each for each in options if each.opts[0] in flags_of_settings]
    if len(settings) > 8:
        options = [each for each in options if each not in settings]
    else:
        settings = []
    usage = " ".join(["putter", name, "[flags]", *map(_argument, arguments)])
    lines = [f"`{usage}`", "", " ".join(text.split()), ""]
    if examples:
        lines += ["```sh", *(line.strip() for line in examples.strip().splitlines()), "```", ""]
    if arguments or options:
        lines += ["| argument or flag | what it is |", "|---|---|"]
        lines += [f"| `{_argument(each)}` | {each.help} |" for each in arguments]
        lines += [f"| {_flag(each)} | {_told(each)} |" for each in options]
        lines += [""]
    if settings:
        flags = ", ".join(f"`{each.opts[0]}`" for each in settings)
        lines += [f"And these [settings](settings.md): {flags}.", ""]
    return "\n".join(lines)


def _argument(argument: Any) -> str:
    name = str(argument.metavar or argument.name.upper()).strip("[].")
    word = f"{name}…" if argument.nargs == -1 else name
    return word if argument.required else f"[{word}]"


def _flag(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    if option.is_flag:
        return names
    value = option.metavar or option.opts[0].lstrip("-").upper()
    return f"{names} {value}"


def _told(option: Any) -> str:
    text = str(option.help)
    if option.multiple:
        text += " May be given several times."
    if option.default and "[default" not in text and not option.is_flag:
        text += f" Default: `{option.default}`."
    if option.envvar:
        text += f" Variable: `{option.envvar}`."
    return text


def test_the_page_describes_each_command_as_it_is() -> None:
    parts = {name: body for _, name, body, _ in PART.findall(PAGE.read_text("utf-8"))}
    expected = {name: described(name, command) for name, command in commands().items()}
    assert parts == expected, "run: python -m tests.architecture.test_cli_document"


def test_every_exit_code_of_the_shell_is_on_the_page() -> None:
    from putter.cli import shell

    codes = re.findall(r"^\| (\d+) \|", shell.__doc__ or "", re.MULTILINE)
    page = PAGE.read_text("utf-8")
    assert codes
    assert [code for code in codes if f"\n| {code} |" not in page] == []


if __name__ == "__main__":
    known = commands()
    page = PAGE.read_text("utf-8")
    PAGE.write_text(
        PART.sub(lambda part: part[1] + described(part[2], known[part[2]]) + part[4], page),
        "utf-8",
    )
