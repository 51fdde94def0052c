"""The command that runs a putter."""

from __future__ import annotations

from typing import Final

from common.settings import FIELDS, Settings
from putter.cli.settings_flags import command_with_settings

_OF_ROUTERS: Final = frozenset(
    {
        "ingest_port",
        "ack_port",
        "s3_port",
        "s3_domain",
        "s3_website_domain",
        "lifecycle_period_s",
        "web_port",
        "nodes",
        "rebuild",
        "replicas",
        "write_quorum",
        "read_quorum",
        "consistency",
        "frame_bytes",
        "write_timeout_ms",
        "stale_reads_s",
        "grace_ms",
    }
)
SERVER_FIELDS: Final = tuple(name for name in FIELDS if name not in _OF_ROUTERS)


def server(settings: Settings) -> None:
    """Run a putter: it takes frames, makes them durable and acknowledges them.

    Examples:
        putter server
        putter server --data-dir /srv/putter --key-file /etc/putter/cluster.key --zone rack-7
    """
    from common import logs
    from putter.cli.run import run_server

    logs.configure(form=settings.log_format, level=settings.log_level)
    run_server(settings)


server_command = command_with_settings(server, SERVER_FIELDS)
