"""The commands of the README, run as they stand there.

A block with ```` ```sh ```` below a comment ``<!-- test: NAME -->`` is run by bash in an empty
directory, with ``putter``, ``python`` and ``nc`` on the PATH. The store is the one of `make run`;
only the ports are free ones, in the environment and in the text of the block.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from putter.client.http import DEFAULT_URL
from tests.local_kit import LocalStore, local_store
from tests.store_kit import ROOT, digest

pytestmark = pytest.mark.slow
README = (ROOT / "README.md").read_text("utf-8")
MARKED = re.compile(r"^<!-- test: ([\w-]+) -->\n```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = dict(MARKED.findall(README))
NAMES = ("quickstart", "curl", "s3", "cli", "python")
COMMAND_S = 60.0
NC = f"""#!{sys.executable}
# What the README asks of nc, for machines that have none with -N.
import shutil, socket, sys
assert sys.argv[1] == "-N", sys.argv
with socket.create_connection((sys.argv[2], int(sys.argv[3]))) as store:
    with store.makefile("wb") as out:
        shutil.copyfileobj(sys.stdin.buffer, out)
    store.shutdown(socket.SHUT_WR)
    with store.makefile("rb") as back:
        shutil.copyfileobj(back, sys.stdout.buffer)
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStore]:
    """What `make run` starts, on free ports."""
    with local_store(tmp_path_factory.mktemp("readme")) as running:
        yield running


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory for the PATH with what the blocks call and a machine may not have."""
    place = tmp_path / "bin"
    place.mkdir()
    # The interpreter of the tests, with what is installed beside it; not a link, which would
    # not know its virtual environment.
    for name, words in {"python": "", "putter": "-m putter"}.items():
        write_program(place / name, f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
    return place


def write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def has_nc() -> bool:
    """Whether the machine's nc knows -N."""
    if shutil.which("nc") is None:
        return False
    told = subprocess.run(["nc", "-h"], capture_output=True, text=True, timeout=10, check=False)
    return (
        re.search(r"^\s*-N\b|usage: nc \[-\w*N", told.stdout + told.stderr, re.MULTILINE)
        is not None
    )


def run(store: LocalStore, programs: Path, name: str) -> str:
    """What a block prints; it ends with 0, and nothing is said on standard error."""
    block = BLOCKS[name]
    numbers = {"5001": "ingest_port", "5003": "s3_port", "5004": "web_port"}
    ports = {number: store.ports[port] for number, port in numbers.items()}
    text = re.sub(r"(127\.0\.0\.1[: ])(\d+)\b", lambda m: m[1] + str(ports[m[2]]), block)
    work = programs.parent / "work"
    work.mkdir()
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=work,
        env=store.environment | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), (text, done.stdout, done.stderr)
    return done.stdout


# -- the text ------------------------------------------------------------------------------


def test_every_block_is_there_and_is_run() -> None:
    assert tuple(BLOCKS) == NAMES
    assert README.count("<!-- test:") == len(NAMES), "a mark without a block of sh below it"


@pytest.mark.parametrize("name", NAMES)
def test_a_block_talks_to_the_default_ports(name: str) -> None:
    told = set(re.findall(r"127\.0\.0\.1[: ](\d+)", BLOCKS[name]))
    assert told <= {"5001", "5003", DEFAULT_URL.rpartition(":")[2]}
    assert "localhost" not in BLOCKS[name]


def test_make_run_starts_what_is_tested_here() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    (recipe,) = re.findall(r"^run: install\n\t(.*)$", makefile, re.MULTILINE)
    assert recipe == "$(BIN)/python -m putter router"
    assert re.search(r"^make run\b", README, re.MULTILINE)


# -- the commands --------------------------------------------------------------------------


@pytest.mark.parametrize("nc", ["machine's", "stand-in"])
def test_quickstart(store: LocalStore, programs: Path, nc: str) -> None:
    if nc == "stand-in" or not has_nc():
        write_program(programs / "nc", NC)
    reply, content = run(store, programs, "quickstart").splitlines()
    (promised,) = re.findall(r"# OBJECT WRITTEN OK <ObjectID> (\d+ \w+)…", BLOCKS["quickstart"])
    assert re.fullmatch(rf"OBJECT WRITTEN OK [0-9A-Z]+ {promised}[0-9a-f]+", reply)
    assert reply.endswith(digest(b"hello, store\n"))
    assert content == "hello, store"


def test_curl(store: LocalStore, programs: Path) -> None:
    out = run(store, programs, "curl")
    assert "line one\nline two\n" in out
    assert re.search(r"^one$", out, re.MULTILINE), "the range 5-7"
    assert '"key":"notes.txt"' in out
    assert "notes.txt" not in store.command("ls").decode()


def test_s3(store: LocalStore, programs: Path) -> None:
    write_program(programs / "aws", f'#!/bin/sh\nexec "{Path(sys.executable).parent}/aws" "$@"\n')
    out = run(store, programs, "s3")
    assert "make_bucket: photos" in out
    assert re.search(r" 5 2026/cat\.txt$", out, re.MULTILINE)
    assert out.endswith("meow\n")


def test_cli(store: LocalStore, programs: Path) -> None:
    out = run(store, programs, "cli")
    assert "\none\ntwo\n" in out
    assert out.count("numbers.txt") >= 3
    work = programs.parent / "work"
    assert (work / "copy.txt").read_bytes() == (work / "numbers.txt").read_bytes()


def test_python(store: LocalStore, programs: Path) -> None:
    first, second, third = run(store, programs, "python").splitlines()
    data = b"bytes, a path or an open file"
    assert first == f"demo/from-python {len(data)} {digest(data)}"
    assert second == repr(data[:5])
    assert "from-python" in third
