"""One router process, and around it a whole store where nothing else is configured."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
from typing import Final

import msgspec
import typer

from common.clock import SystemClock
from common.keys import Keyring
from common.logs import get_logger
from common.meta.redis_store import RedisMetadata, connect
from common.settings import FIELDS, Settings, variable_of
from common.transport import TcpNetwork, address
from common.wire.handshake import Identity
from putter.cli.output import plain
from putter.cli.process import Signals, new_instance, open_keyring, raise_file_limit, version
from putter.cli.serve import token_of
from putter.client.http import DEFAULT_URL
from putter.local.children import Spec, Supervisor
from putter.local.embedded import EmbeddedValkey
from router.app import Router, RouterOptions
from router.quorum import Policy

_log = get_logger(__name__)
_START_S: Final = 60.0
_CANCEL_S: Final = 1.0
_NEAR: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - recognised, not bound


async def route(settings: Settings) -> None:
    """Run a router until it is told to stop.

    Without ``redis`` a Valkey is started beside it; without ``nodes``, too, a putter.

    Raises:
        PutterError: it cannot start: port taken, data directory in use, bad key, …
    """
    raise_file_limit()
    signals = Signals()
    running = asyncio.ensure_future(_run(settings, signals))
    asked = asyncio.ensure_future(signals.wait())
    await asyncio.wait((running, asked), return_when=asyncio.FIRST_COMPLETED)
    if not running.done() and not signals.listening:
        # Told to stop while it was still starting. A library may lose a cancellation that meets
        # a time-out of its own: it is repeated.
        while not running.done():
            running.cancel()
            await asyncio.wait((running,), timeout=_CANCEL_S)
    asked.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def _run(settings: Settings, signals: Signals) -> None:
    alone = settings.redis is None and not settings.nodes
    keyring = open_keyring(settings)
    supervisor = Supervisor()
    async with contextlib.AsyncExitStack() as stack:
        valkey: EmbeddedValkey | None = None
        if settings.redis is None:
            valkey = await _start_valkey(settings, supervisor, stack)
            settings = msgspec.structs.replace(settings, redis=valkey.url)
        assert settings.redis is not None
        metadata = connect(
            settings.redis, grace_ms=settings.grace_ms, patience_ms=settings.redis_patience_ms
        )
        stack.push_async_callback(metadata.close)
        await metadata.wait_ready(_log.warning)
        if alone:
            # One putter is all there will be: nobody else can reach this Valkey.
            settings = msgspec.structs.replace(settings, replicas=1, write_quorum=1)
        router = make_router(settings, keyring, metadata)
        await router.start()
        stack.push_async_callback(router.stop)
        if alone:
            assert valkey is not None
            await supervisor.start(_putter(settings, router, valkey.lock.descriptors))
        signals.listening = True
        _welcome(settings, router, alone=alone)
        await signals.wait()


async def _start_valkey(
    settings: Settings, supervisor: Supervisor, stack: contextlib.AsyncExitStack
) -> EmbeddedValkey:
    valkey = EmbeddedValkey(settings.redis_dir, [settings.putter_dir / "lock"])
    stack.callback(valkey.close)
    stack.push_async_callback(supervisor.stop)
    await supervisor.start(await valkey.prepare())
    _log.info("embedded valkey runs", directory=str(settings.redis_dir))
    return valkey


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


def _putter(settings: Settings, router: Router, lock: tuple[int, ...]) -> Spec:
    """The local putter as a child, with exactly our settings and Redis by its URL."""
    ours = msgspec.structs.replace(
        settings, data_dir=settings.data_dir.absolute(), key_file=settings.key_path.absolute()
    )
    given = {variable_of(name): getattr(ours, name) for name in FIELDS}
    env = {name: "" if value in (None, ()) else str(value) for name, value in given.items()}
    env["PUTTER_CONFIG"] = os.devnull

    async def connected() -> None:
        await router.fleet.wait_up(int(_START_S * 1000))

    return Spec("putter", (sys.executable, "-m", "putter", "server"), connected, env, pass_fds=lock)


def _welcome(settings: Settings, router: Router, *, alone: bool) -> None:
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
