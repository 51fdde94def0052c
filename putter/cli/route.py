"""One router process, and around it a whole store where nothing else is configured."""

from __future__ import annotations

import random
from typing import Final

from common.clock import SystemClock
from common.keys import Keyring
from common.logs import get_logger
from common.meta.redis_store import RedisMetadata, connect
from common.settings import Settings
from common.transport import TcpNetwork
from common.wire.handshake import Identity
from putter.cli.process import Signals, new_instance, open_keyring, raise_file_limit, version
from putter.cli.serve import token_of
from router.app import Router, RouterOptions
from router.quorum import Policy

_log = get_logger(__name__)
_CLUSTER_HINT: Final = "redis"


async def route(settings: Settings) -> None:
    """Run a router until it is told to stop.

    Raises:
        PutterError: it cannot start: port taken, bad key, …
    """
    raise_file_limit()
    signals = Signals()
    keyring = open_keyring(settings)
    assert settings.redis is not None
    metadata = connect(
        settings.redis, grace_ms=settings.grace_ms, patience_ms=settings.redis_patience_ms
    )
    try:
        await metadata.wait_ready(lambda text: _log.warning(text))
        router = make_router(settings, keyring, metadata)
        await router.start()
        try:
            await signals.wait()
        finally:
            await router.stop()
    finally:
        await metadata.close()


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
            policy=Policy(settings.replicas, settings.write_quorum, settings.consistency),
            frame_bytes=settings.frame_bytes,
            write_timeout_ms=settings.write_timeout_ms,
            idle_ms=settings.idle_timeout_ms,
            connections_max=settings.connections_max,
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


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)
