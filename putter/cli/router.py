"""The command that runs a router, and with it a whole store where none is configured."""

from __future__ import annotations

from typing import Final

from common.settings import FIELDS, Settings
from putter.cli.settings_flags import command_with_settings

ROUTER_FIELDS: Final = tuple(FIELDS)
"""A router alone starts a putter too, so that all settings matter to it."""


def router(settings: Settings) -> None:
    """Run a router; without --redis and --nodes it is a whole store on this machine.

    Examples:
        putter router
        putter router --data-dir /srv/putter --replicas 1
        putter router --workers 4
        putter router --redis redis://10.0.0.5:6379 --nodes 10.0.0.11:5000,10.0.0.12:5000
    """
    from common import logs
    from putter.cli.run import run_router

    logs.configure(form=settings.log_format, level=settings.log_level)
    run_router(settings)


router_command = command_with_settings(router, ROUTER_FIELDS)
