"""Screen and log files: a screen that stands still stops nobody, a file does not grow for ever."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvloop
from structlog.testing import capture_logs

from putter.local.rotation import older
from putter.local_cluster.lines import Prefix
from putter.local_cluster.output import LogFile, Outlet, Outputs, Own, Screen, log_path


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Both ends; closed afterwards unless the test did."""
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


# -- the screen --------------------------------------------------------------------------------


def test_lines_arrive_in_their_order(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out:
        screen = Screen(out.fileno())
        for number in range(1_000):
            screen.show(f"line {number}")
        screen.close()
    wanted = "".join(f"line {number}\n" for number in range(1_000))
    assert (tmp_path / "out").read_text() == wanted


def test_a_screen_that_stands_still_stops_nobody_and_says_what_it_left_out(
    pipe: tuple[int, int],
) -> None:
    reading, writing = pipe
    screen = Screen(writing, lines_max=10)
    long = "x" * 4096
    for _ in range(1_000):
        screen.show(long)  # far more than a pipe takes: none of them waits
    got: list[bytes] = []
    reader = threading.Thread(
        target=lambda: got.extend(iter(lambda: os.read(reading, 65_536), b""))
    )
    reader.start()
    screen.close()
    os.close(writing)
    reader.join()
    text = b"".join(got).decode()
    shown = text.count(long)
    lost = re.findall(r"^\((\d+) lines found no room here; .* log files\)$", text, re.MULTILINE)
    assert shown < 1_000
    assert sum(map(int, lost)) == 1_000 - shown


def test_a_screen_that_was_closed_stops_nobody(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.close(reading)
    screen = Screen(writing)
    screen.show("nobody")
    screen.show("reads this")
    screen.close()
    assert not screen._thread.is_alive()


# -- the log files -----------------------------------------------------------------------------


def test_a_log_file_is_put_aside_before_it_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    file = LogFile(path, bytes_max=100)
    for number in range(50):
        file.write(f"line {number:04}")  # ten bytes with its end
        assert path.stat().st_size <= 100
    file.close()
    assert older(path).stat().st_size <= 100
    assert path.read_text().splitlines()[-1] == "line 0049"
    kept = older(path).read_text() + path.read_text()
    assert kept.splitlines() == [f"line {n:04}" for n in range(50 - len(kept) // 10, 50)]


def test_a_log_file_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    for number in range(3):
        file = LogFile(path, bytes_max=100)
        file.write(str(number))
        file.close()
    assert path.read_text() == "0\n1\n2\n"


def test_what_the_disk_refuses_is_told_once(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "missing" / "a.log")
    with capture_logs() as lines:
        for _ in range(5):
            file.write("lost")
        (tmp_path / "missing").mkdir()
        file.write("kept")
    file.close()
    assert [line["event"] for line in lines] == ["a log cannot be written"]
    assert (tmp_path / "missing" / "a.log").read_text() == "kept\n"


def test_a_line_goes_to_the_screen_with_its_name_and_to_its_own_file(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out:
        screen = Screen(out.fileno())
        names = ("cluster", "putter0")
        outputs = Outputs(screen, Prefix(names, colours=True), tmp_path)
        outputs.line("putter0", "hello")
        Own(outputs).write("a log line\nand another\n")
        outputs.close()
        screen.close()
    assert log_path(tmp_path, "putter0").read_text() == "hello\n", "without colours"
    assert log_path(tmp_path, "cluster").read_text() == "a log line\nand another\n"
    shown = (tmp_path / "out").read_text().splitlines()
    assert [line.partition(" | ")[2] for line in shown] == [
        "\x1b[0mhello",
        "\x1b[0ma log line",
        "\x1b[0mand another",
    ]


# -- what a process writes ---------------------------------------------------------------------


async def test_the_lives_of_a_process_write_into_one_pipe() -> None:
    lines: list[str] = []
    outlet = Outlet(lines.append)
    await outlet.open()
    for number in range(3):
        life = os.dup(outlet.descriptor)
        os.write(life, f"life {number}\nand the ".encode())
        os.write(life, b"end\n")
        os.close(life)
    os.write(outlet.descriptor, b"no end")
    await outlet.close()
    expected = [line for n in range(3) for line in (f"life {n}", "and the end")]
    assert lines == [*expected, "no end"]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="the system does not tell")
async def test_a_pipe_that_was_never_read_is_closed() -> None:
    def open_files() -> int:
        return len([*Path("/proc/self/fd").iterdir()])

    before = open_files()
    await Outlet(lambda _: None).close()
    assert open_files() == before


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("steps", range(5))
def test_an_outlet_that_was_given_up_while_it_opened_closes_nothing_of_others(
    steps: int, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def scene() -> None:
        outlet = Outlet(lambda _: None)
        opening = asyncio.get_running_loop().create_task(outlet.open())
        for _ in range(steps):
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        gc.collect()
        taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(8)]  # numbers that became free
        try:
            await outlet.close()
            for descriptor in taken:
                os.fstat(descriptor)
        finally:
            for descriptor in taken:
                os.close(descriptor)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(scene())
