"""A log file is followed while it grows and after it was put aside."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from putter.local.rotation import older
from putter.local_cluster.follow import Follower
from putter.local_cluster.output import LogFile


def test_it_begins_with_the_last_lines_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("".join(f"{n}\n" for n in range(10)))
    follower = Follower(path, 3)
    assert follower.poll() == ["7", "8", "9"]
    assert follower.poll() == []
    with path.open("a") as file:
        file.write("10\n1")
    assert follower.poll() == ["10"]
    with path.open("a") as file:
        file.write("1\n")
    assert follower.poll() == ["11"]
    follower.close()


def test_earlier_lines_may_be_in_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    older(path).write_text("a\nb\n")
    path.write_text("c\n")
    for wanted, earlier in ((["b", "c"], 2), ([], 0), (["a", "b", "c"], 9)):
        follower = Follower(path, earlier)
        assert follower.poll() == wanted
        follower.close()


def test_a_file_that_is_not_there_yet(tmp_path: Path) -> None:
    follower = Follower(tmp_path / "a.log", 5)
    assert follower.poll() == []
    (tmp_path / "a.log").write_text("now\n")
    assert follower.poll() == ["now"]
    follower.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.just(None), st.integers(0, 60)), max_size=40))
def test_no_line_is_missed_or_told_twice(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int | None]
) -> None:
    """None looks; a number writes a line of that length. Files hold a line or a few."""
    path = tmp_path_factory.mktemp("follow") / "a.log"
    file, follower = LogFile(path, bytes_max=150), Follower(path, 0)
    written, told, unread = [], [], 0
    follower.poll()
    for at, step in enumerate(steps):
        # Two files hold two hundred bytes at least: look before a line could be overwritten.
        if step is None or unread + step + 5 > 100:
            told += follower.poll()
            unread = 0
        if step is not None:
            line = f"{at:03}" + "x" * step
            file.write(line)
            written.append(line)
            unread += len(line) + 1
    told += follower.poll()
    assert told == written
    file.close()
    follower.close()
