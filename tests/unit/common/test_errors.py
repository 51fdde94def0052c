"""The drawn tree of errors is the tree of classes, and every code stands where it says."""

from __future__ import annotations

import re

import pytest

from common import errors
from common.errors import PutterError, error_for_status
from common.wire.status import Status

ROW = re.compile(r"^(?P<branch>[│├└─ ]*)(?P<name>[A-Z]\w+)(?P<codes>.*)$")


def drawn() -> list[tuple[str, str | None, tuple[str, int, int, int] | None]]:
    """Name, name of the parent and codes of each line of the tree in the docstring."""
    assert errors.__doc__ is not None
    tree = errors.__doc__.split("```")[1]
    rows: list[tuple[str, str | None, tuple[str, int, int, int] | None]] = []
    above: dict[int, str] = {}
    for line in tree.strip().splitlines():
        match = ROW.match(line)
        assert match is not None, line
        depth = len(match["branch"]) // 4
        above[depth] = match["name"]
        codes = match["codes"].split()
        numbers = tuple(int(code) for code in codes[1:]) if depth else ()
        told = (codes[0], *numbers) if depth else None
        rows.append((match["name"], above[depth - 1] if depth else None, told))  # type: ignore[arg-type]
    return rows


def kinds(base: type[PutterError]) -> list[type[PutterError]]:
    return [base, *(kind for child in base.__subclasses__() for kind in kinds(child))]


OURS = {kind.__name__: kind for kind in kinds(PutterError) if kind.__module__ == errors.__name__}


def test_every_class_is_drawn_once() -> None:
    names = [name for name, _, _ in drawn()]
    assert sorted(names) == sorted(OURS)


@pytest.mark.parametrize(("name", "parent", "codes"), drawn(), ids=lambda value: str(value))
def test_class_is_where_it_is_drawn(
    name: str, parent: str | None, codes: tuple[str, int, int, int] | None
) -> None:
    kind = OURS[name]
    if parent is not None:
        assert kind.__bases__ == (OURS[parent],)
    if codes is not None:
        assert (kind.code, int(kind.status), kind.http, kind.exit) == codes


def test_codes_are_unique_and_fit_a_reply_line() -> None:
    codes = [kind.code for kind in OURS.values()]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z][a-z-]*", code) for code in codes)


def test_exit_codes_are_those_of_the_command_line() -> None:
    assert {kind.exit for kind in OURS.values()} == {1, 2, 3, 4, 5, 6}


def test_an_error_keeps_its_message_and_hint() -> None:
    error = errors.NotFound("no file a/b", hint="look with ls")
    assert (str(error), error.message, error.hint) == ("no file a/b", "no file a/b", "look with ls")
    assert errors.NotFound("x").hint == ""


@pytest.mark.parametrize("status", [status for status in Status if status != Status.WRITTEN])
def test_every_bad_status_has_an_error_that_carries_it(status: Status) -> None:
    error = error_for_status(status, "frame 7")
    assert error.status == status
    assert error.message == "frame 7"


@pytest.mark.parametrize("status", [Status.WRITTEN, 8, 255])
def test_a_status_that_is_no_failure_is_a_protocol_error(status: int) -> None:
    error = error_for_status(status, "frame 7")
    assert type(error) is errors.ProtocolError
    assert str(int(status)) in error.message
