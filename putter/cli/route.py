"""One router process, and around it a whole store where nothing else is configured."""

from __future__ import annotations

import contextlib
from typing import Final

from common.logs import get_logger
from common.settings import Settings
from putter.cli.beside import Beside
from putter.cli.first_key import first_key
from putter.cli.imports import importing
from putter.cli.process import Signals, attend, open_certificates, open_keyring, raise_file_limit
from putter.cli.rereading import KeyReader

_log = get_logger(__name__)
_LINK_MS: Final = 60_000


async def route(settings: Settings) -> None:
    """Run a router until it is told to stop.

    Without ``redis`` a Valkey is started beside it; without ``nodes``, too, a putter.

    Raises:
        PutterError: it cannot start: port taken, data directory in use, bad key, …
    """
    raise_file_limit()
    if settings.workers > 1:
        from putter.cli.workers import run_workers

        await attend(lambda signals: run_workers(settings, signals))
    else:
        await attend(lambda signals: _run(settings, signals))


async def _run(settings: Settings, signals: Signals) -> None:
    keyring = open_keyring(settings)
    certificates = open_certificates(settings, signals)
    keys = KeyReader(settings.key_path, keyring)
    signals.on_hangup.append(keys.read)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(keys.stop)
        beside: Beside | None = None
        if settings.redis is None:
            beside = Beside(settings)
            stack.push_async_callback(beside.stop)
            signals.on_hangup.append(beside.hang_up)
            await beside.launch()
            settings = beside.settings
        with importing():  # the children use the time
            from putter.cli.routing import make_metadata, make_router
            from putter.cli.welcome import Doors, welcome
        metadata = make_metadata(settings)
        stack.push_async_callback(metadata.close)
        if beside is not None:
            await beside.valkey_ready()
        await metadata.wait_ready(_log.warning)
        if beside is not None:
            await beside.putter_ready(metadata.members)
        router = make_router(settings, keyring, metadata, certificates=certificates)
        await router.start()
        stack.push_async_callback(router.stop)
        alone = beside is not None and beside.alone
        if alone:
            await router.fleet.wait_up(_LINK_MS)
        signals.listening = True
        doors = Doors(router.ingest_port, router.web_port, router.s3_port, router.ack_port)
        first = await first_key(router.access_keys.first_told) if alone else None
        welcome(settings, doors, alone=alone, first=first)
        await signals.wait()
