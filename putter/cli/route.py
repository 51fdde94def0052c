"""One router process, and around it a whole store where nothing else is configured."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from common.logs import get_logger
from common.settings import Settings
from putter.cli.beside import Beside
from putter.cli.imports import importing
from putter.cli.process import Signals, open_keyring, raise_file_limit

_log = get_logger(__name__)
_LINK_MS: Final = 60_000
_CANCEL_S: Final = 1.0


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
    keyring = open_keyring(settings)
    async with contextlib.AsyncExitStack() as stack:
        beside: Beside | None = None
        if settings.redis is None:
            beside = Beside(settings)
            stack.push_async_callback(beside.stop)
            await beside.launch()
            settings = beside.settings
        with importing():  # the children use the time
            from putter.cli.routing import make_metadata, make_router, welcome
        metadata = make_metadata(settings)
        stack.push_async_callback(metadata.close)
        if beside is not None:
            await beside.valkey_ready()
        await metadata.wait_ready(_log.warning)
        if beside is not None:
            await beside.putter_ready(metadata.members)
        router = make_router(settings, keyring, metadata)
        await router.start()
        stack.push_async_callback(router.stop)
        alone = beside is not None and beside.alone
        if alone:
            await router.fleet.wait_up(_LINK_MS)
        signals.listening = True
        welcome(settings, router, alone=alone)
        await signals.wait()
