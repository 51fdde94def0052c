"""A lone router: what its putter is told, and what it tells its user."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
from structlog.testing import capture_logs

from common.errors import MetadataUnavailable, PutterError
from common.meta.interface import Member, Seen
from common.pairs import Pair
from common.settings import Settings
from common.settings_load import load
from putter.cli import beside
from putter.cli.beside import Beside
from putter.cli.first_key import first_key
from putter.cli.welcome import Doors, welcome
from putter.local.children import ChildFailed
from putter.local.environment import environment_of
from tests.node_kit import play
from tests.simulation.loop import World


def child_settings(settings: Settings) -> Settings:
    """The settings that the putter of a lone router reads."""
    spec = Beside(settings)._putter_spec()
    assert spec.argv[1:] == ("-m", "putter", "server")
    assert spec.env == environment_of(settings)
    assert spec.env["PUTTER_CONFIG"] == os.devnull
    return load({}, spec.env, Path(spec.env["PUTTER_CONFIG"]))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"putter_port": 5001, "ingest_port": 6001},
        {"putter_port": 0, "putter_web_port": 0},
        {"replicas": 1, "write_quorum": 1},
        {"replicas": 3, "write_quorum": 3},
        {"token": "s3cret", "zone": "rack-7", "advertise_host": "here", "host": "::1"},
        {"storage": "memory", "reserve_bytes": 0, "log_format": "json", "log_level": "debug"},
    ],
    ids=str,
)
def test_the_putter_has_the_settings_of_its_router(changes: dict[str, Any], tmp_path: Path) -> None:
    data = tmp_path / 'it\'s "here" n\udce4w'
    settings = Settings(data_dir=data, redis="unix:///run/valkey%20socket", **changes)
    got = child_settings(settings)
    assert got == Settings(
        data_dir=data, redis=settings.redis, key_file=data / "cluster.key", **changes
    )


def test_relative_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    got = child_settings(Settings(data_dir=Path("d"), key_file=Path("k"), redis="unix:///s"))
    assert (got.data_dir, got.key_file) == (tmp_path / "d", tmp_path / "k")


def banner(
    capsys: pytest.CaptureFixture[str], web_port: int = 5004, alone: bool = True, **changes: Any
) -> str:
    acks = 5002 if Settings(**changes).workers == 1 else None
    welcome(Settings(**changes), Doors(5001, web_port, 5003, acks), alone=alone)
    return capsys.readouterr().out


def test_the_banner_of_a_whole_store(capsys: pytest.CaptureFixture[str]) -> None:
    text = banner(capsys)
    assert "is ready. A whole store: router, putter and Valkey; data in data/\n" in text
    assert "nc -N 127.0.0.1 5001 < FILE" in text
    assert "curl http://127.0.0.1:5004/file/objects/<ObjectID>" in text
    assert "frames 5000" in text
    assert "PUTTER_URL" not in text
    assert "Authorization" not in text


def test_the_banner_of_a_new_store_shows_its_first_key(capsys: pytest.CaptureFixture[str]) -> None:
    pair = Pair("PKONE", "very-secret")
    welcome(Settings(), Doors(5001, 5004, 5003, 5002), alone=True, first=pair)
    text = capsys.readouterr().out
    assert "  access key     PKONE\n  secret key     very-secret\n" in text
    assert "secret" not in banner(capsys)
    assert "very-secret" not in repr(pair)


def test_the_first_key_is_asked_for_until_there_is_an_answer() -> None:
    answers: list[bytes | Exception] = [
        MetadataUnavailable("not yet"),
        TimeoutError(),
        b'{"access_key_id":"PKONE","secret_key":"very-secret"}',
    ]

    async def ask() -> bytes:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def main(_: World) -> None:
        assert await first_key(ask) == Pair("PKONE", "very-secret")
        answers.append(b"")
        assert await first_key(ask) is None

    play(main)


def test_a_store_that_cannot_make_its_first_key_starts_without() -> None:
    async def ask() -> bytes:
        raise MetadataUnavailable("away")

    async def main(_: World) -> None:
        with capture_logs() as logs:
            assert await first_key(ask) is None
        assert [(each["log_level"], each["reason"]) for each in logs] == [("warning", "away")]

    play(main)


def test_the_banner_of_a_router(capsys: pytest.CaptureFixture[str]) -> None:
    text = banner(capsys, alone=False)
    assert "whole store" not in text
    assert "frames" not in text


def test_the_banner_of_workers(capsys: pytest.CaptureFixture[str]) -> None:
    text = banner(capsys, workers=3)
    assert "is ready. A whole store: router (3 workers), putter and Valkey; data in" in text
    assert "raw streams 5001, acks one port per worker, S3 5003, REST 5004, frames 5000\n" in text
    assert " is ready. A router of 3 workers.\n" in banner(capsys, alone=False, workers=3)


def test_on_another_port_the_banner_says_what_its_commands_need(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "export PUTTER_URL=http://127.0.0.1:6004\n" in banner(capsys, web_port=6004)


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("0.0.0.0", "http://127.0.0.1:5004/"),
        ("::", "http://[::1]:5004/"),
        ("::1", "http://[::1]:5004/"),
        ("10.1.2.3", "http://10.1.2.3:5004/"),
    ],
)
def test_the_banner_of_other_addresses(
    capsys: pytest.CaptureFixture[str], host: str, told: str
) -> None:
    text = banner(capsys, host=host)
    assert told in text
    assert ("Bearer $(putter keys token)" in text) == (host != "::1")


def test_a_directory_that_no_terminal_can_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert "data in n\\udce4w/\n" in banner(capsys, data_dir=Path("n\udce4w"))


# -- when its putter is ready ------------------------------------------------------------------


class Register:
    """Members by hand.

    Attributes:
        answers: what is said, one after the other; the last one for ever.
    """

    def __init__(self, *answers: list[Seen] | PutterError) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def seen(self) -> list[Seen]:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, PutterError):
            raise answer
        return answer


def seen(age_ms: int, role: Literal["putter", "router"] = "putter") -> list[Seen]:
    return [Seen(Member(node="n", role=role, instance="i", host="h", port=1), age_ms)]


async def registered(register: Register, launched_ago_s: float, tmp_path: Path) -> None:
    one = Beside(Settings(data_dir=tmp_path))
    one._members = register  # type: ignore[assignment]
    await one._registered(asyncio.get_running_loop().time() - launched_ago_s)


async def test_a_putter_is_ready_with_a_sign_of_life_that_is_younger_than_it(
    tmp_path: Path,
) -> None:
    register = Register([], seen(5_000), seen(1, "router"), seen(900), [])
    await registered(register, 1.0, tmp_path)
    assert register.asked == 4


async def test_nothing_is_held_against_a_putter_while_redis_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "_REGISTER_S", 0.03)
    away = MetadataUnavailable("it is away")
    register = Register(*[away] * 6, seen(0))
    await registered(register, 1.0, tmp_path)
    assert register.asked == 7


async def test_a_putter_that_does_not_register_is_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "_REGISTER_S", 0.03)
    with pytest.raises(ChildFailed, match="the putter did not register within"):
        await registered(Register(seen(5_000)), 1.0, tmp_path)


# -- what is imported when ---------------------------------------------------------------------

HEAVY = ("aiohttp", "numpy", "redis", "router", "putter.node", "rich.progress")


@pytest.mark.parametrize(
    "module", ["putter.cli.app", "putter.cli.router", "putter.cli.server", "putter.cli.route"]
)
def test_what_stands_before_the_start_of_the_children_is_light(module: str) -> None:
    script = f"import sys, {module}; print(*(n for n in {HEAVY!r} if n in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout.decode().split() == []
