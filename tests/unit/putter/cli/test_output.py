"""What is printed for people and for machines."""

from __future__ import annotations

import pytest

from putter.cli.output import human_age, human_size, human_time, plain, print_table, progress_bar


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1458, "1.4 KiB"),
        (150 * 1024, "150 KiB"),
        (1024**2, "1.0 MiB"),
        (5 * 1024**4, "5.0 TiB"),
        (1024**5, "1.0 PiB"),
        (5000 * 1024**5, "5000 PiB"),
    ],
)
def test_human_size(count: int, text: str) -> None:
    assert human_size(count) == text


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (None, "-"),
        (0, "0 ms"),
        (999, "999 ms"),
        (1_000, "1 s"),
        (119_999, "119 s"),
        (120_000, "2 min"),
        (7_200_000, "2 h"),
    ],
)
def test_human_age(ms: int | None, text: str) -> None:
    assert human_age(ms) == text


def test_human_time_is_utc() -> None:
    assert human_time(1_700_000_000_999) == "2023-11-14 22:13:20"
    assert human_time(0) == "-"


def test_names_cannot_command_the_terminal() -> None:
    assert plain("a\x1b[31mb\x07") == r"a\x1b[31mb\x07"
    assert plain("猫 ä") == "猫 ä"
    assert plain("\u202egpj.exe") == r"\u202egpj.exe"


def test_a_table_has_columns(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "size"), [("a", "1"), ("long name", "22")])
    assert capsys.readouterr().out == "name       size\na             1\nlong name    22\n"


def test_no_bar_where_no_terminal_is(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("x") as progress:
        assert progress is None
    assert capsys.readouterr().err == ""


def test_a_bar_on_a_terminal_goes_to_standard_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress_bar("photos/\x1bcat") as progress:
        assert progress is not None
        progress(50, 100)
        progress(100, 100)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "100%" in captured.err
    assert "\x1bcat" not in captured.err
