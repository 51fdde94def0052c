"""Lines: cut anywhere, they are the same; nothing in them moves a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from putter.local_cluster.lines import LINE_BYTES_MAX, LineCutter, Prefix, wants_colours

parts = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.sampled_from([b"\n", b"\n\n", b"a" * LINE_BYTES_MAX, b"b" * (LINE_BYTES_MAX - 1)]),
    ),
    max_size=12,
)


def cut(pieces: list[bytes]) -> list[str]:
    cutter = LineCutter()
    lines = [line for piece in pieces for line in cutter.feed(piece)]
    return lines + cutter.end()


@given(parts)
def test_it_does_not_matter_where_the_stream_is_split(pieces: list[bytes]) -> None:
    assert cut(pieces) == cut([b"".join(pieces)])


@given(st.lists(st.text(alphabet=st.characters(categories=("L", "N", "Zs")), max_size=30)))
def test_lines_come_back_as_they_were(lines: list[str]) -> None:
    printable = [line for line in lines if line.isprintable()]
    assert cut(["".join(f"{line}\n" for line in printable).encode()]) == printable


def test_a_line_without_an_end_is_bounded_and_nothing_is_lost() -> None:
    cutter = LineCutter()
    told = [line for _ in range(100) for line in cutter.feed(b"x" * 1_000)]
    assert [len(line) for line in told] == [LINE_BYTES_MAX] * (100_000 // LINE_BYTES_MAX)
    assert cutter.end() == ["x" * (100_000 % LINE_BYTES_MAX)]
    assert cutter.end() == []


@given(st.binary(max_size=200))
def test_nothing_reaches_the_terminal_that_it_would_obey(data: bytes) -> None:
    for line in cut([data]):
        assert line.replace("\t", "").isprintable()


def test_what_cannot_be_shown_is_escaped() -> None:
    assert cut([b"\x1b[2Jgone\tok \xff\r\n"]) == ["\\x1b[2Jgone\tok \ufffd\\r"]


def test_names_stand_in_a_column() -> None:
    prefix = Prefix(("cluster", "v", "putter12"), colours=False)
    assert prefix.line("v", "hello") == "v        | hello"
    assert prefix.line("putter12", "") == "putter12 | "


def test_each_name_has_its_colour_and_the_line_has_none() -> None:
    names = ("cluster", "valkey", "putter0", "putter1")
    prefix = Prefix(names, colours=True)
    lines = [prefix.line(name, "text") for name in names]
    codes = {line.partition("m")[0] for line in lines}
    assert len(codes) == len(names)
    assert all(line.startswith("\x1b[") and line.endswith("\x1b[0mtext") for line in lines)


def test_there_are_names_for_more_processes_than_colours() -> None:
    names = tuple(f"n{n}" for n in range(50))
    prefix = Prefix(names, colours=True)
    assert all(f"{name}" in prefix.line(name, "") for name in names)


@pytest.mark.parametrize(
    ("environ", "terminal", "wanted"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"TERM": "dumb"}, True, False),
    ],
)
def test_when_to_colour(environ: dict[str, str], *, terminal: bool, wanted: bool) -> None:
    assert wants_colours(environ, terminal=terminal) is wanted
