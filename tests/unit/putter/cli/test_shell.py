"""How commands end: one line, one exit code, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from common import errors
from putter.cli.app import app
from putter.cli.shell import Shell, help_of

RUNNER = CliRunner()


def app_that(raises: BaseException) -> typer.Typer:
    shell = typer.Typer(cls=Shell)

    @shell.callback()
    def root() -> None:
        """Root."""

    @shell.command()
    def run() -> None:
        raise raises

    return shell


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.NotFound("no file a/b", hint="look with ls"), 3),
        (errors.UsageError("no"), 2),
        (errors.Unavailable("no"), 4),
        (errors.NotAuthorised("no"), 5),
        (errors.IntegrityError("no"), 6),
        (errors.StorageError("no"), 1),
    ],
)
def test_an_error_is_one_line_a_hint_and_its_exit_code(
    error: errors.PutterError, code: int
) -> None:
    result = RUNNER.invoke(app_that(error), ["run"])
    assert result.exit_code == code
    assert result.stdout == ""
    hint = f"hint: {error.hint}\n" if error.hint else ""
    assert result.stderr == f"error: {error.message}\n{hint}"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (errors.StorageError("no"), True),
        (errors.Unavailable("no"), True),
        (errors.NotFound("no"), False),
    ],
)
def test_where_the_store_failed_its_log_can_be_searched(
    error: errors.PutterError, told: bool
) -> None:
    error.request_id = "1f-2"
    result = RUNNER.invoke(app_that(error), ["run"])
    assert ("request: 1f-2 (as the log of the router names it)\n" in result.stderr) == told


def test_an_interrupt_is_quiet() -> None:
    result = RUNNER.invoke(app_that(KeyboardInterrupt()), ["run"])
    assert (result.exit_code, result.output) == (130, "")


def test_a_fault_of_ours_is_not_hidden() -> None:
    result = RUNNER.invoke(app_that(ZeroDivisionError("ours")), ["run"])
    assert isinstance(result.exception, ZeroDivisionError)


def test_a_reader_that_goes_away_is_quiet() -> None:
    source = (
        "import sys, typer\n"
        "from putter.cli.shell import Shell\n"
        "app = typer.Typer(cls=Shell)\n"
        "@app.callback()\n"
        "def root(): pass\n"
        "@app.command()\n"
        "def run():\n"
        "    for _ in range(100_000): typer.echo('x' * 100)\n"
        "app(['run'])\n"
    )
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-c", source],
            stdout=writing,
            stderr=subprocess.PIPE,
            cwd=Path(__file__).parents[4],
            check=False,
            timeout=60,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_version() -> None:
    result = RUNNER.invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"putter {version('data-putter')}\n")


COMMANDS = [
    ["router"],
    ["server"],
    ["put"],
    ["get"],
    ["cat"],
    ["ls"],
    ["rm"],
    ["stat"],
    ["status"],
    ["loopback"],
    ["keys", "token"],
    ["keys", "show"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_with_examples(command: list[str]) -> None:
    result = RUNNER.invoke(app, [*command, "--help"], terminal_width=100)
    assert result.exit_code == 0
    assert "  Examples:\n      " in result.stdout


def test_no_command_shows_the_help_and_is_wrong_usage() -> None:
    result = RUNNER.invoke(app, [])
    assert result.exit_code == 2
    for command in COMMANDS:
        assert command[0] in result.output


@pytest.mark.parametrize("arguments", [["nonsense"], ["put"], ["ls", "--nonsense"]])
def test_wrong_usage(arguments: list[str]) -> None:
    result = RUNNER.invoke(app, arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_lines_of_examples_are_not_joined() -> None:
    def command() -> None:
        """Do it.

        Examples:
            putter a
            putter b
        """

    assert help_of(command) == "Do it.\n\n\b\nExamples:\n    putter a\n    putter b"
