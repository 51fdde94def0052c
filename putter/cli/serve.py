"""One putter process."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from common.callers import CallerLimits
from common.errors import NotAdmitted, PutterError
from common.limits import GIB
from common.logs import get_logger
from common.meta.redis_store import RedisMetadata, connect
from common.settings import Settings
from common.transport import TcpNetwork
from common.web import Door, make_application
from common.web_port import WebPort
from common.wire.handshake import Identity
from putter.cli.process import (
    Signals,
    new_instance,
    open_certificates,
    open_keyring,
    raise_file_limit,
    version,
)
from putter.cli.rereading import KeyReader, in_use_on
from putter.node.app import NodeOptions, PutterNode
from putter.node.verify import frames_verifier
from putter.storage.factory import Protection, count_start, open_engine, open_notes

_log = get_logger(__name__)
_READERS: Final = 4
_MEMORY_BYTES: Final = 4 * GIB


async def serve(settings: Settings) -> None:
    """Run a putter until it is told to stop.

    Raises:
        PutterError: it cannot start: port taken, data directory in use, bad key, …
        NotAdmitted: another process took the place of this one meanwhile.
    """
    raise_file_limit()
    signals = Signals()
    keyring = open_keyring(settings)
    certificates = open_certificates(settings, signals)
    engine = open_engine(
        settings.storage,
        settings.putter_dir,
        verify=frames_verifier(keyring),
        protection=Protection(
            compress=settings.compress == "zstd",
            encrypt=settings.encrypt == "on",
            keyring=keyring,
        ),
        reserve_bytes=settings.reserve_bytes,
        memory_bytes=_MEMORY_BYTES,
    )
    identity = Identity(engine.identity, new_instance(), version(), engine.layout)
    metadata = _coordinator(settings)
    disk_thread = ThreadPoolExecutor(1, "disk")
    readers = ThreadPoolExecutor(_READERS, "reader")
    keys = KeyReader(settings.key_path, keyring, in_use_on(engine, readers, disk_thread))
    signals.on_hangup.append(keys.read)
    callers = CallerLimits(settings.connections_max, settings.connections_per_address)
    node = PutterNode(
        NodeOptions(
            host=settings.host,
            port=settings.putter_port,
            advertise_host=settings.advertised_host,
            web_port=settings.putter_web_port,
            zone=settings.zone or "",
            idle_ms=settings.idle_timeout_ms,
            callers=callers,
            scrub_bytes_per_s=settings.scrub_bytes_per_s,
            scrub_period_s=settings.scrub_period_days * 86_400,
        ),
        identity,
        engine,
        keyring,
        TcpNetwork(),
        metadata,
        random.SystemRandom(),
        disk_thread=disk_thread,
        readers=readers,
        notes=open_notes(engine.layout, settings.putter_dir),
        starts=count_start(engine.layout, settings.putter_dir),
        on_superseded=signals.ask,
        certificates=certificates,
    )
    door = Door(settings.host, settings.token or "", keyring)
    application = make_application(node.metrics, door, lambda: node.trouble)
    web = WebPort(application, node.metrics, callers, certificates=certificates)
    try:
        await web.start(settings.host, settings.putter_web_port, "--putter-web-port")
        try:
            await node.start()
        except PutterError:
            await web.stop()
            raise
    except PutterError:
        engine.close()
        raise
    try:
        await signals.wait()
    finally:
        await keys.stop()
        await node.stop()
        await web.stop()
        if metadata is not None:
            await metadata.close()
        disk_thread.shutdown()
        readers.shutdown()
    if node.superseded:
        raise NotAdmitted(
            node.superseded, hint="this process has stopped; see docs/howto/operate.md"
        )


def _coordinator(settings: Settings) -> RedisMetadata | None:
    if settings.redis is None:
        _log.info("no Redis is configured: routers must name this putter with --nodes")
        return None
    return connect(settings.redis, patience_ms=settings.redis_patience_ms)
