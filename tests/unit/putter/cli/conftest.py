"""A command line whose web door is scripted, in a directory of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from putter.cli import access
from putter.cli.app import app
from putter.client.store import Store
from tests.web_kit import FakeWeb, Script

Run = Callable[..., Result]


class Shop:
    """Runs commands against a scripted web door.

    Attributes:
        web: what was asked.
        stores: URL and token of each client that a command made.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.web = FakeWeb(lambda _: AssertionError("no request was expected"))
        self.stores: list[tuple[str, str | None]] = []

        def make(
            url: str, token: str | None, *, timeout_s: float, tls_ca: Path | None, **pair: str
        ) -> Store:
            assert tls_ca is None
            self.stores.append((url, token))
            return Store(url, token, connect=self.web, timeout_s=timeout_s, **pair)

        monkeypatch.setattr(access, "Store", make)

    def answers(self, script: Script) -> None:
        self.web.script = script

    def run(self, *arguments: str, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(app, list(arguments), input=stdin)


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Shop:
    monkeypatch.chdir(tmp_path)
    for name in ("PUTTER_URL", "PUTTER_TOKEN", "PUTTER_KEY_FILE", "PUTTER_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    return Shop(monkeypatch)
