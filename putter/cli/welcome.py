"""What the user of a router is told once it is ready."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import typer

from common.pairs import Pair
from common.settings import Settings
from common.transport import address
from putter.cli.first_key import pair_lines
from putter.cli.output import plain
from putter.cli.process import version
from putter.client.http import DEFAULT_URL

_NEAR: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - recognised, not bound


@dataclass(frozen=True)
class Doors:
    """Where a router listens.

    Attributes:
        ingest_port: raw streams.
        web_port: REST; 0: nowhere.
        s3_port: S3.
        ack_port: acks; None: each of its workers at a port of its own.
    """

    ingest_port: int
    web_port: int
    s3_port: int
    ack_port: int | None


def welcome(settings: Settings, doors: Doors, *, alone: bool, first: Pair | None = None) -> None:
    """Tell where everything is, and what to do next.

    Args:
        settings: of the router.
        doors: where it listens.
        alone: whether it is a whole store.
        first: the access key that a new store begins with; it is told nowhere else.
    """
    host = _NEAR.get(settings.host, settings.host)
    scheme = "http" if settings.tls_cert is None else "https"
    web = f"{scheme}://{address(host, doors.web_port)}"
    lines = [f"data-putter {version()} is ready."]
    if alone:
        data = plain(str(settings.data_dir))
        router = f"router ({settings.workers} workers)" if settings.workers > 1 else "router"
        lines[0] += f" A whole store: {router}, putter and Valkey; data in {data}/"
    elif settings.workers > 1:
        lines[0] += f" A router of {settings.workers} workers."
    if web != DEFAULT_URL:
        lines.append(f"  first of all   export PUTTER_URL={web}")
    token = "" if settings.loopback else ' -H "Authorization: Bearer $(putter keys token)"'
    acks = "one port per worker" if doors.ack_port is None else str(doors.ack_port)
    lines += [
        f"  store a file   nc -N {host} {doors.ingest_port} < FILE",
        "  read it back   putter cat objects/<ObjectID>",
        f"                 curl{token} {web}/file/objects/<ObjectID>",
        "  name a file    putter put FILE photos/cat.jpg",
        f"                 curl{token} -T FILE {web}/file/photos/cat.jpg",
        f"  look around    putter ls, putter status, {web}/status",
        f"  listening      raw streams {doors.ingest_port}, acks {acks}, "
        f"S3 {doors.s3_port}, REST {doors.web_port}"
        + (f", frames {settings.putter_port}" if alone else ""),
        "  stop           Ctrl-C",
    ]
    if first is not None:
        lines += pair_lines(first)
    typer.echo("\n".join(lines))
