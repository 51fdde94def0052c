"""A lone router: what its putter is told, and what it tells its user."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common.settings import Settings
from common.settings_load import load
from putter.cli import route


def child_settings(settings: Settings) -> Settings:
    """The settings that the putter of a lone router reads."""
    spec = route._putter(settings, SimpleNamespace(), (7,))  # type: ignore[arg-type]
    assert spec.pass_fds == (7,)
    assert spec.argv[1:] == ("-m", "putter", "server")
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
    router: Any = SimpleNamespace(web_port=web_port, ingest_port=5001, ack_port=5002)
    route._welcome(Settings(**changes), router, alone=alone)
    return capsys.readouterr().out


def test_the_banner_of_a_whole_store(capsys: pytest.CaptureFixture[str]) -> None:
    text = banner(capsys)
    assert "is ready. A whole store: router, putter and Valkey; data in data/\n" in text
    assert "nc -N 127.0.0.1 5001 < FILE" in text
    assert "curl http://127.0.0.1:5004/file/objects/<ObjectID>" in text
    assert "frames 5000" in text
    assert "PUTTER_URL" not in text
    assert "Authorization" not in text


def test_the_banner_of_a_router(capsys: pytest.CaptureFixture[str]) -> None:
    text = banner(capsys, alone=False)
    assert "whole store" not in text
    assert "frames" not in text


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
