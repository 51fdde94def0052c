"""Settings handed to a child process, which then reads nothing else."""

from __future__ import annotations

import os

import msgspec

from common.settings import FIELDS, Settings, variable_of


def environment_of(settings: Settings) -> dict[str, str]:
    """All settings as variables: what the child inherits or finds in a file does not count."""
    ours = msgspec.structs.replace(
        settings, data_dir=settings.data_dir.absolute(), key_file=settings.key_path.absolute()
    )
    given = {variable_of(name): getattr(ours, name) for name in FIELDS}
    env = {name: "" if value in (None, ()) else str(value) for name, value in given.items()}
    env["PUTTER_CONFIG"] = os.devnull
    return env
