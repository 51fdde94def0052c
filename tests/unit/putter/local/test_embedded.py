"""The embedded Valkey: its configuration, its socket, its lock. No server runs here."""

from __future__ import annotations

import os
import re
import shlex
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
from putter.local.embedded import (
    SOCKET_PATH_BYTES_MAX,
    EmbeddedValkey,
    config_argument,
    config_text,
)

AWKWARD = ["a b", "it's", '"quoted"', "back\\slash", "50%", "why?@#", "größe", "n\udce4me", "a\nb"]
SUN_PATH_BYTES_MAX = 107


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
    told = settings_of(config_text(Path("/data/redis"), Path("/data/redis/valkey.sock")))
    assert told["appendonly"] == "yes"
    assert told["appendfsync"] == "always"
    assert told["maxmemory-policy"] == "noeviction"
    assert told["save"] == ""
    assert told["dir"] == "/data/redis"


def test_only_the_socket_is_open_and_only_to_us() -> None:
    told = settings_of(config_text(Path("/data/redis"), Path("/run/v.sock")))
    assert told["port"] == "0"
    assert told["unixsocket"] == "/run/v.sock"
    assert told["unixsocketperm"] == "700"
    assert told["daemonize"] == "no"
    assert {told["enable-debug-command"], told["enable-module-command"]} == {"no"}


@pytest.mark.parametrize("name", AWKWARD)
def test_a_path_stays_on_its_line_and_comes_back_whole(name: str) -> None:
    directory = Path("/srv") / name
    text = config_text(directory, directory / "valkey.sock")
    told = settings_of(text)
    assert len(text.splitlines()) == len(settings_of(config_text(Path("/a"), Path("/b")))) + 1
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
