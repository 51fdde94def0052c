"""The embedded Valkey: its configuration, its socket, its lock. No server runs here."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import DataDirectoryInUse, StorageError
from common.meta.address import parse_address
from common.settings_load import REDIS_SCHEMES
from putter.local import embedded
from putter.local.children import ChildFailed
from putter.local.embedded import (
    SOCKET_PATH_BYTES_MAX,
    EmbeddedValkey,
    config_argument,
    config_text,
)
from putter.local.rotation import LOG_BYTES_MAX, older
from putter.local.socketdir import clear_socket_directory, make_socket_directory

AWKWARD = ["a b", "it's", '"quoted"', "back\\slash", "50%", "why?@#", "größe", "n\udce4me", "a\nb"]
SUN_PATH_BYTES_MAX = 107
LOG = Path("/data/redis/valkey.log")


def settings_of(text: str) -> dict[str, str]:
    """The configuration as the server splits it: words, ``"…"`` with backslash escapes."""
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, value = shlex.split(line)
            found[name] = value
    return found


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with a short path; below it, in ``t``, temporary directories are made."""
    with tempfile.TemporaryDirectory(prefix="p", dir="/tmp") as name:
        place = Path(name) / "t"
        place.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(place))
        yield Path(name)


def long_directory(top: Path, size: int) -> Path:
    """A directory whose path has so many bytes."""
    path = top / ("d" * (size - len(os.fsencode(top)) - 1))
    assert len(os.fsencode(path)) == size
    return path


def test_what_is_written_is_synced_and_nothing_is_evicted() -> None:
    told = settings_of(config_text(Path("/data/redis"), Path("/data/redis/valkey.sock"), LOG))
    assert told["appendonly"] == "yes"
    assert told["appendfsync"] == "always"
    assert told["maxmemory-policy"] == "noeviction"
    assert told["save"] == ""
    assert told["dir"] == "/data/redis"


def test_only_the_socket_is_open_and_only_to_us() -> None:
    told = settings_of(config_text(Path("/data/redis"), Path("/run/v.sock"), None))
    assert told["port"] == "0"
    assert told["unixsocket"] == "/run/v.sock"
    assert told["unixsocketperm"] == "700"
    assert told["daemonize"] == "no"
    assert {told["enable-debug-command"], told["enable-module-command"]} == {"no"}


@pytest.mark.parametrize(("log", "told"), [(LOG, str(LOG)), (None, "")])
def test_it_logs_to_a_file_or_to_its_standard_output(log: Path | None, told: str) -> None:
    text = config_text(Path("/data/redis"), Path("/run/v.sock"), log)
    assert settings_of(text)["logfile"] == told


@pytest.mark.parametrize("name", AWKWARD)
def test_a_path_stays_on_its_line_and_comes_back_whole(name: str) -> None:
    directory = Path("/srv") / name
    text = config_text(directory, directory / "valkey.sock", directory / "valkey.log")
    told = settings_of(text)
    assert len(text.splitlines()) == len(settings_of(config_text(Path("/a"), Path("/b"), LOG))) + 1
    shown = told["dir"].replace("\\n", "\n")
    assert shown == str(directory)


@given(st.text(alphabet='ab*?[]\\"{}', min_size=1))
def test_a_path_is_never_a_pattern(name: str) -> None:
    argument = config_argument(Path("/srv") / name)
    plain, escaped = [], False
    for char in argument:
        if escaped or char != "\\" or not any(each in argument for each in "*?["):
            assert escaped or char not in "*?["
            plain.append(char)
            escaped = False
        else:
            escaped = True
    assert "".join(plain) == f"/srv/{name}"


@pytest.mark.parametrize("name", AWKWARD)
def test_the_url_leads_to_the_socket(tmp_path: Path, name: str) -> None:
    valkey = EmbeddedValkey(tmp_path / name)
    assert urlsplit(valkey.url).scheme in REDIS_SCHEMES
    assert valkey.url.isascii()
    assert valkey.url.isprintable()
    assert " " not in valkey.url
    assert parse_address(valkey.url).path == str(tmp_path / name / "valkey.sock")


def test_a_relative_directory_is_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert EmbeddedValkey(Path("data/redis")).socket == tmp_path / "data/redis/valkey.sock"


async def test_prepare_makes_what_the_server_needs(tmp_path: Path) -> None:
    directory = tmp_path / "data" / "redis"
    valkey = EmbeddedValkey(directory)
    spec = await valkey.prepare()
    try:
        program, argument, *rest = spec.argv
        assert Path(program).name == "valkey-server"
        assert argument == config_argument(directory / "valkey.conf")
        assert rest == ["--port", "0"]
        told = settings_of((directory / "valkey.conf").read_text())
        assert told["dir"] == str(directory)
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert stat.S_IMODE((directory / "lock").stat().st_mode) == 0o600
        (lock,) = spec.pass_fds
        assert not os.get_inheritable(lock), "every other child would have it, too"
        assert str(directory / "valkey.log") in spec.told
    finally:
        valkey.close()


@pytest.mark.parametrize("over", [-12, -1, 0, 1, 2, 8, 30])
async def test_a_socket_path_that_is_too_long_goes_elsewhere(short: Path, over: int) -> None:
    size = SOCKET_PATH_BYTES_MAX - len("/valkey.sock") + over
    directory = long_directory(short, size)
    valkey = EmbeddedValkey(directory)
    await valkey.prepare()
    try:
        told = settings_of((directory / "valkey.conf").read_text())
        assert told["unixsocket"] == str(valkey.socket)
        assert told["dir"] == str(directory)
        if over <= 0:
            assert valkey.socket.parent == directory
            assert len(os.fsencode(valkey.socket)) <= SUN_PATH_BYTES_MAX
        else:
            assert valkey.socket.parent.parent == short / "t"
            assert stat.S_IMODE(valkey.socket.parent.stat().st_mode) == 0o700
    finally:
        valkey.close()
    assert [*(short / "t").iterdir()] == []
    assert directory.exists()


async def test_a_stale_socket_is_removed(tmp_path: Path) -> None:
    valkey = EmbeddedValkey(tmp_path)
    valkey.socket.touch()
    await valkey.prepare()
    assert not valkey.socket.exists()
    valkey.close()


async def test_a_directory_has_one_store_at_a_time(tmp_path: Path) -> None:
    first, second = EmbeddedValkey(tmp_path), EmbeddedValkey(tmp_path)
    await first.prepare()
    with pytest.raises(DataDirectoryInUse, match=re.escape(str(tmp_path))):
        await second.prepare()
    second.close()
    first.close()
    await second.prepare()
    second.close()
    second.close()


async def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    valkey = EmbeddedValkey(tmp_path / "file" / "redis")
    with pytest.raises(StorageError, match=r"cannot use .*redis: Not a directory"):
        await valkey.prepare()
    valkey.close()


# -- the socket that lies elsewhere ------------------------------------------------------------


async def killed_store(short: Path) -> tuple[Path, Path]:
    """A data directory whose store was killed, and where its socket was."""
    directory = long_directory(short, SOCKET_PATH_BYTES_MAX)
    valkey = EmbeddedValkey(directory)
    await valkey.prepare()
    valkey.socket.touch()
    valkey.lock.close()
    return directory, valkey.socket.parent


async def test_what_a_killed_store_left_elsewhere_is_removed_by_the_next_start(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, left = await killed_store(short)
    assert left.exists()
    # Temporary files may lie elsewhere by now.
    other = short / "u"
    other.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(other))
    valkey = EmbeddedValkey(directory)
    await valkey.prepare()
    assert not left.exists()
    assert valkey.socket.parent.parent == other
    valkey.close()
    assert [*other.iterdir()] == []
    assert [*(short / "t").iterdir()] == []
    assert not (directory / "socket-directory").exists()


async def test_the_socket_of_the_original_of_a_copied_directory_stays(short: Path) -> None:
    directory, left = await killed_store(short)
    copy = short / ("c" * len(directory.name))
    shutil.copytree(directory, copy)
    valkey = EmbeddedValkey(copy)
    await valkey.prepare()
    assert (left / "valkey.sock").exists()
    valkey.close()
    assert (left / "valkey.sock").exists()


@pytest.mark.parametrize("how", ["opened", "link", "file", "full", "gone", "somebody"])
async def test_what_may_be_somebody_elses_is_left_alone(
    short: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    directory, left = await killed_store(short)
    if how == "opened":
        left.chmod(0o770)
    elif how == "full":
        (left / "valkey.sock").unlink()
        (left / "precious").touch()
    elif how == "somebody":
        monkeypatch.setattr(os, "geteuid", lambda: 4_242_424)
    else:
        shutil.rmtree(left)
        if how == "link":
            (short / "precious").mkdir(mode=0o700)
            (short / "precious" / "valkey.sock").touch()
            left.symlink_to(short / "precious")
        elif how == "file":
            left.touch(0o700)
    before = sorted(short.rglob("*"))
    clear_socket_directory(directory)
    after = sorted(short.rglob("*"))
    assert set(before) - set(after) == {directory / "socket-directory"}


@pytest.mark.parametrize("note", [b"", b"relative/putter-", b"/", b"\0", b"\xff" * 5000])
def test_a_note_that_is_nonsense(tmp_path: Path, note: bytes) -> None:
    (tmp_path / "socket-directory").write_bytes(note)
    clear_socket_directory(tmp_path)
    assert [*tmp_path.iterdir()] == []
    clear_socket_directory(tmp_path)


def test_the_note_is_written_before_the_directory_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that there is no moment at which a kill leaves what nobody would find."""

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "mkdir", killed)
    with pytest.raises(KeyboardInterrupt):
        make_socket_directory(tmp_path)
    assert (tmp_path / "socket-directory").exists()


# -- its log -----------------------------------------------------------------------------------


async def test_a_large_log_is_put_aside_at_the_start(tmp_path: Path) -> None:
    valkey = EmbeddedValkey(tmp_path)
    with valkey.log.open("wb") as file:
        file.truncate(LOG_BYTES_MAX + 1)
    await valkey.prepare()
    assert not valkey.log.exists()
    assert older(valkey.log).stat().st_size == LOG_BYTES_MAX + 1
    valkey.close()


async def test_the_log_is_looked_at_only_while_the_directory_is_ours(tmp_path: Path) -> None:
    valkey = EmbeddedValkey(tmp_path)
    await valkey.prepare()
    tending = valkey._tending
    assert tending is not None
    assert not tending.done()
    valkey.close()
    await asyncio.gather(tending, return_exceptions=True)
    assert tending.cancelled()


# -- when it is ready --------------------------------------------------------------------------


async def test_a_server_that_says_nothing_at_all_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_SILENCE_S", 0.05)
    with pytest.raises(ChildFailed, match="valkey gave no answer") as caught:
        await EmbeddedValkey(tmp_path)._answers(0.0)
    assert "valkey.log" in caught.value.hint


async def test_a_server_that_does_not_answer_what_it_accepts_is_silent_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_SILENCE_S", 0.05)
    monkeypatch.setattr(embedded, "_ANSWER_S", 0.05)
    valkey = EmbeddedValkey(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(valkey.socket))
        listener.listen()
        with pytest.raises(ChildFailed, match="valkey gave no answer"):
            await valkey._answers(0.0)


async def test_a_server_that_loads_its_data_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_SILENCE_S", 0.05)
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"PING\r\n"
        loads = loop.time() - began < 0.3
        writer.write(b"-LOADING Valkey is loading\r\n" if loads else b"+PONG\r\n")
        writer.close()

    valkey = EmbeddedValkey(tmp_path)
    async with await asyncio.start_unix_server(answer, valkey.socket):
        await valkey._answers(0.0)
    assert loop.time() - began >= 0.3
