"""A router of several worker processes: this one starts them, watches them, and stops them.

```
parent ── holds the shared ports, listens on none
  ├── worker 0    5001, 5003, 5004 (shared)    its ack port: the one of the settings
  ├── worker 1    the same               its ack port: any free one
  └── …
```

The kernel gives each new connection to one of the workers that listen (SO_REUSEPORT). Each worker
is a router of its own to the putters and in Redis. One that dies is started again; the connections
that it had, or had not accepted yet, are reset, and the others go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import Final

import msgspec

from common.certificates import certificates_of
from common.errors import NodesUnavailable, PutterError, Unavailable
from common.logs import get_logger
from common.pairs import FIRST_PAIR
from common.settings import Settings, flag_of
from common.siblings import ask_socket, socket_path
from putter.cli.beside import Beside
from putter.cli.first_key import first_key
from putter.cli.imports import importing
from putter.cli.process import Signals, open_keyring
from putter.cli.welcome import Doors, welcome
from putter.local.children import Child, Spec
from putter.local.environment import environment_of
from putter.local.reservation import Reservation, check_shareable
from putter.local.shortdir import short_directory

_log = get_logger(__name__)
SHARED: Final = ("ingest_port", "s3_port", "web_port")
"""The ports of clients, which every worker listens on (with `RouterOptions.reuse_ports`)."""
_POLL_S: Final = 0.02
_LINK_S: Final = 60.0


async def run_workers(settings: Settings, signals: Signals) -> None:
    """Run the workers of a router until a signal comes.

    Raises:
        PutterError: it cannot start.
    """
    check_shareable()
    open_keyring(settings)
    certificates_of(settings)  # what is wrong with them is told once, and at once
    async with contextlib.AsyncExitStack() as stack:
        beside: Beside | None = None
        if settings.redis is None:
            beside = Beside(settings)
            stack.push_async_callback(beside.stop)
            signals.on_hangup.append(beside.hang_up)
            await beside.launch()
            settings = beside.settings
        settings = _reserve(settings, stack)
        directory = stack.enter_context(short_directory())
        if beside is not None:
            await beside.valkey_ready()
        workers = Workers(settings, directory, beside.descriptors if beside is not None else ())
        stack.push_async_callback(workers.stop)
        signals.on_hangup.append(workers.hang_up)
        await workers.launch()
        if beside is not None:
            await _putter_ready(beside, settings)
        await workers.wait_ready()
        alone = beside is not None and beside.alone
        if alone:
            await workers.wait_linked()
        signals.listening = True
        first = await first_key(workers.first_told) if alone else None
        doors = Doors(settings.ingest_port, settings.web_port, settings.s3_port, None)
        welcome(settings, doors, alone=alone, first=first)
        await signals.wait()


class Workers:
    """The workers of one router.

    Args:
        settings: of the router; its shared ports are reserved.
        directory: of their sockets.
        pass_fds: file descriptors that they inherit.
    """

    def __init__(self, settings: Settings, directory: Path, pass_fds: tuple[int, ...]) -> None:
        self._sockets = [socket_path(directory, number) for number in range(settings.workers)]
        self._children = [
            Child(_spec(settings, directory, number, pass_fds))
            for number in range(settings.workers)
        ]

    async def launch(self) -> None:
        """Start them.

        Raises:
            ChildFailed: one cannot be started.
        """
        for child in self._children:
            await child.launch()

    async def wait_ready(self) -> None:
        """Wait until all listen; from then on one that dies is started again.

        Raises:
            ChildFailed: one ended.
        """
        for child in self._children:
            await child.wait_ready()

    async def wait_linked(self) -> None:
        """Wait until all can do their work.

        Raises:
            NodesUnavailable: not in time.
        """
        trouble: str | None = None
        try:
            async with asyncio.timeout(_LINK_S):
                for path in self._sockets:
                    while (trouble := await _trouble(path)) != "":
                        await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise NodesUnavailable(
                f"not all workers were ready within {_LINK_S:.0f} s: {trouble or 'no answer'}"
            ) from None

    async def first_told(self) -> bytes:
        """The first access key, as one of them tells it; see `putter.cli.first_key`.

        Raises:
            Unavailable, TimeoutError: it does not answer.
        """
        return await ask_socket(self._sockets[0], FIRST_PAIR)

    def hang_up(self) -> None:
        """Let all read their files again."""
        for child in self._children:
            child.hang_up()

    async def stop(self) -> None:
        """Stop all at the same time: each ends what is under way."""
        ends = await asyncio.gather(
            *(child.stop() for child in self._children), return_exceptions=True
        )
        for child, end in zip(self._children, ends, strict=True):
            if isinstance(end, OSError | PutterError):
                _log.error("a worker could not be stopped", child=child.spec.name, reason=str(end))
            elif isinstance(end, BaseException):
                raise end


def _reserve(
    settings: Settings, stack: contextlib.ExitStack | contextlib.AsyncExitStack
) -> Settings:
    """The settings with the ports that are ours from here on."""
    ports = {}
    for name in SHARED:
        held = Reservation(settings.host, getattr(settings, name), flag_of(name))
        stack.enter_context(held)
        ports[name] = held.port
    return msgspec.structs.replace(settings, **ports)


def _spec(settings: Settings, directory: Path, number: int, pass_fds: tuple[int, ...]) -> Spec:
    own = settings if number == 0 else msgspec.structs.replace(settings, ack_port=0)
    path = socket_path(directory, number)

    async def answers(_launched_s: float) -> None:
        while await _trouble(path) is None:
            await asyncio.sleep(_POLL_S)

    return Spec(
        name=f"worker {number}",
        argv=(sys.executable, "-m", "putter.cli.worker", str(directory), str(number)),
        ready=answers,
        env=environment_of(own),
        pass_fds=pass_fds,
    )


async def _trouble(path: Path) -> str | None:
    """Why a worker cannot do its work, "" if it can; None if it does not answer."""
    try:
        return (await ask_socket(path, "ready")).decode()
    except (Unavailable, TimeoutError):
        return None


async def _putter_ready(beside: Beside, settings: Settings) -> None:
    with importing():
        from common.meta.redis_store import connect
    assert settings.redis is not None
    metadata = connect(settings.redis, patience_ms=settings.redis_patience_ms)
    try:
        await beside.putter_ready(metadata.members)
    finally:
        await metadata.close()
