"""The router of a process as settings want it, and what its user is told about it.

Importing this takes most of the start of a router: see `putter.cli.route`.
"""

from __future__ import annotations

import random
from typing import Final

import typer

from common.clock import SystemClock
from common.keys import Keyring
from common.meta.redis_store import RedisMetadata, connect
from common.settings import Settings
from common.transport import TcpNetwork, address
from common.wire.handshake import Identity
from putter.cli.output import plain
from putter.cli.process import new_instance, version
from putter.cli.serve import token_of
from putter.client.http import DEFAULT_URL
from router.app import Router, RouterOptions
from router.quorum import Policy

_NEAR: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - recognised, not bound


def make_metadata(settings: Settings) -> RedisMetadata:
    """The coordinator that the settings name."""
    assert settings.redis is not None
    return connect(
        settings.redis, grace_ms=settings.grace_ms, patience_ms=settings.redis_patience_ms
    )


def make_router(settings: Settings, keyring: Keyring, metadata: RedisMetadata) -> Router:
    """A router made of settings."""
    instance = new_instance()
    return Router(
        RouterOptions(
            host=settings.host,
            ingest_port=settings.ingest_port,
            ack_port=settings.ack_port,
            web_port=settings.web_port,
            advertise_host=settings.advertise_host or "",
            nodes=tuple(_address(node) for node in settings.nodes),
            policy=Policy(
                settings.replicas,
                settings.write_quorum,
                settings.consistency,
                settings.read_quorum,
            ),
            frame_bytes=settings.frame_bytes,
            write_timeout_ms=settings.write_timeout_ms,
            idle_ms=settings.idle_timeout_ms,
            connections_max=settings.connections_max,
            rebuild_auto=settings.rebuild == "auto",
            repair_bytes_per_s=settings.repair_bytes_per_s,
            rebalance_percent=settings.rebalance_percent,
            replace_after_ms=settings.replace_after_s * 1000,
            token=token_of(settings, keyring.writing.token),
        ),
        Identity(instance, instance, version()),
        keyring,
        TcpNetwork(),
        metadata,
        SystemClock(),
        random.SystemRandom(),
        metadata.address,
    )


def welcome(settings: Settings, router: Router, *, alone: bool) -> None:
    """Tell where everything is, and what to do next."""
    host = _NEAR.get(settings.host, settings.host)
    web = f"http://{address(host, router.web_port)}"
    lines = [f"data-putter {version()} is ready."]
    if alone:
        data = plain(str(settings.data_dir))
        lines[0] += f" A whole store: router, putter and Valkey; data in {data}/"
    if web != DEFAULT_URL:
        lines.append(f"  first of all   export PUTTER_URL={web}")
    token = "" if settings.loopback else ' -H "Authorization: Bearer $(putter keys token)"'
    lines += [
        f"  store a file   nc -N {host} {router.ingest_port} < FILE",
        "  read it back   putter cat objects/<ObjectID>",
        f"                 curl{token} {web}/file/objects/<ObjectID>",
        "  name a file    putter put FILE photos/cat.jpg",
        f"                 curl{token} -T FILE {web}/file/photos/cat.jpg",
        f"  look around    putter ls, putter status, {web}/status",
        f"  listening      raw streams {router.ingest_port}, acks {router.ack_port}, "
        f"REST {router.web_port}" + (f", frames {settings.putter_port}" if alone else ""),
        "  stop           Ctrl-C",
    ]
    typer.echo("\n".join(lines))


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)
