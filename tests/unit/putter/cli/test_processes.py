"""router and server: flags, variables and file become settings, and nothing is run otherwise."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from common import logs
from common.settings import FIELDS, Settings, flag_of
from putter.cli.router import ROUTER_FIELDS
from putter.cli.server import SERVER_FIELDS


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Settings]]:
    """What would have been run, in place of running it."""
    seen: list[tuple[str, Settings]] = []
    module = ModuleType("putter.cli.run")
    module.run_router = lambda settings: seen.append(("router", settings))  # type: ignore[attr-defined]
    module.run_server = lambda settings: seen.append(("server", settings))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "putter.cli.run", module)
    monkeypatch.setattr(logs, "configure", lambda **_: None)
    for name in FIELDS:
        monkeypatch.delenv(f"PUTTER_{name.upper()}", raising=False)
    for name in ("REDIS_HOSTPORT", "PUTTER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    return seen


@pytest.mark.parametrize("command", ["router", "server"])
def test_without_flags_the_defaults_run(
    shop: Any, ran: list[tuple[str, Settings]], command: str
) -> None:
    result = shop.run(command)
    assert (result.exit_code, result.output) == (0, "")
    assert ran == [(command, Settings())]


def test_flags_variables_and_file_meet(
    shop: Any, ran: list[tuple[str, Settings]], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("putter.toml").write_text('zone = "file"\nstorage = "memory"\n')
    monkeypatch.setenv("PUTTER_ZONE", "variable")
    monkeypatch.setenv("REDIS_HOSTPORT", "h:1")
    shop.run("router", "--ingest-port", "0", "--nodes", "a:1,b:2", "--replicas", "1")
    ((_, settings),) = ran
    assert (settings.zone, settings.storage, settings.redis) == (
        "variable",
        "memory",
        "redis://h:1",
    )
    assert (settings.ingest_port, settings.nodes) == (0, ("a:1", "b:2"))
    assert (settings.replicas, settings.write_quorum) == (1, 1)


def test_the_file_may_be_named(shop: Any, ran: list[tuple[str, Settings]]) -> None:
    Path("putter.toml").write_text("nonsense = 1")
    Path("other.toml").write_text('zone = "other"')
    shop.run("server", "--config", "other.toml")
    assert ran[0][1].zone == "other"
    assert shop.run("server", "--config", "none.toml").exit_code == 2


def test_a_bad_setting_stops_with_its_origin(shop: Any, ran: list[tuple[str, Settings]]) -> None:
    result = shop.run("router", "--ingest-port", "99999")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: flag --ingest-port: '99999' is not allowed; ingest_port takes 0…65535\n"
    )
    assert ran == []


def test_a_misspelt_variable_is_a_warning(
    shop: Any, ran: list[tuple[str, Settings]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUTTER_INGST_PORT", "1")
    result = shop.run("router")
    assert result.exit_code == 0
    assert "warning: environment variable PUTTER_INGST_PORT is not a setting" in result.stderr
    assert len(ran) == 1


def test_every_setting_has_a_flag_at_the_router(shop: Any) -> None:
    text = shop.run("router", "--help").stdout
    assert set(ROUTER_FIELDS) == set(FIELDS)
    assert [name for name in ROUTER_FIELDS if f"{flag_of(name)} " not in text] == []


def test_a_putter_has_the_flags_that_matter_to_it(shop: Any) -> None:
    text = shop.run("server", "--help").stdout
    for name in FIELDS:
        assert (f"{flag_of(name)} " in text) == (name in SERVER_FIELDS)


def test_logging_is_set_up_first(
    shop: Any, ran: list[tuple[str, Settings]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, object]] = []
    monkeypatch.setattr(logs, "configure", lambda **options: seen.append(options))
    shop.run("server", "--log-format", "json", "--log-level", "error")
    assert seen == [{"form": "json", "level": "error"}]
    assert len(ran) == 1
