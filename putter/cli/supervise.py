"""Run a cluster on this machine until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TextIO, cast

from common import logs
from common.errors import StorageError
from common.logs import get_logger
from common.pairs import Pair
from common.settings import Settings
from putter.cli.first_key import first_key, pair_lines
from putter.cli.output import plain
from putter.cli.process import Signals
from putter.client.http import DEFAULT_URL
from putter.local.lock import StoreLock
from putter.local_cluster.health import first_key_at
from putter.local_cluster.lines import Prefix, wants_colours
from putter.local_cluster.output import Outputs, Own, Screen
from putter.local_cluster.plan import (
    DATA_DIR,
    SUPERVISOR,
    Plan,
    fit_replicas,
    port_taken,
    with_free_ports,
)
from putter.local_cluster.ports import any_free, taken
from putter.local_cluster.state import LOGS
from putter.local_cluster.supervisor import PIDS, LocalCluster

_log = get_logger(__name__)
_CANCEL_S: Final = 1.0


async def supervise(plan: Plan, settings: Settings) -> None:
    """Start a cluster, watch it, and stop it when a signal says so.

    Args:
        plan: what was laid out.
        settings: what is the same for all processes.

    Raises:
        PutterError: it cannot start: port taken, data directory in use, …
    """
    settings = fit_replicas(settings, len(plan.of("putter")))
    signals = Signals()
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # `nohup` ignores it
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, signals.ask)
    with contextlib.ExitStack() as stack:
        lock = await _take(plan.directory)
        stack.callback(lock.close)
        busy = port_taken(plan, taken(p for node in plan.nodes for p in node.ports.values()))
        if busy is not None:
            raise busy
        plan = with_free_ports(plan, any_free)
        screen = Screen(sys.stdout.fileno())
        stack.callback(screen.close)
        colours = wants_colours(os.environ, terminal=sys.stdout.isatty())
        prefix = Prefix((SUPERVISOR, *plan.names), colours=colours)
        outputs = Outputs(screen, prefix, plan.directory / LOGS)
        stack.callback(outputs.close)
        own = cast("TextIO", Own(outputs))
        logs.configure(form=settings.log_format, level=settings.log_level, stream=own)
        stack.callback(logs.configure, form=settings.log_format, level=settings.log_level)
        _tell_left_out(plan)
        cluster = LocalCluster(plan, settings, outputs, lock)
        try:
            await _until_asked(cluster, signals, lambda: _show(screen, plan, settings))
        finally:
            await cluster.stop()
        _log.info("all have ended")


async def _until_asked(
    cluster: LocalCluster, signals: Signals, ready: Callable[[], Awaitable[None]]
) -> None:
    """Start, say that it is ready, and return when a signal came, whichever is first."""
    starting = asyncio.ensure_future(cluster.start())
    asked = asyncio.ensure_future(signals.wait())
    try:
        await asyncio.wait((starting, asked), return_when=asyncio.FIRST_COMPLETED)
        if not asked.done():
            await starting
            # Nobody who asks for the end waits until a key was made.
            telling = asyncio.ensure_future(ready())
            await asyncio.wait((telling, asked), return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                await telling
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
        await asked
    finally:
        asked.cancel()
        # A library may lose a cancellation that meets a time-out of its own: it is repeated.
        while not starting.done():
            starting.cancel()
            await asyncio.wait((starting,), timeout=_CANCEL_S)
        await asyncio.gather(starting, asked, return_exceptions=True)


async def _take(directory: Path) -> StoreLock:
    """The lock of the directory, which is made if it is not there."""
    where = option(directory)
    try:
        lock = StoreLock(
            directory,
            _prepare(directory),
            hint=f"look at it with: putter cluster status{where}; stop it with: "
            f"putter cluster stop{where}; or choose another directory with --data-dir",
        )
        await lock.take()
    except OSError as error:
        raise StorageError(f"cannot use {directory}: {error.strerror}") from error
    return lock


def _prepare(directory: Path) -> list[Path]:
    """Make what is not there; the pid files of an earlier start."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in (LOGS, PIDS):
        (directory / name).mkdir(exist_ok=True)
    return sorted((directory / PIDS).glob("*.pid"))


def _tell_left_out(plan: Plan) -> None:
    """Warn of putters of an earlier start that have data and are not started now."""
    had = {path.parent.name for path in plan.directory.glob("putter*/putter")}
    for name in sorted(had - set(plan.names)):
        _log.warning(
            "a putter of an earlier start is not started now: what only it holds is not served",
            putter=name,
        )


async def _show(screen: Screen, plan: Plan, settings: Settings) -> None:
    """Say that it is ready; the access key that a new cluster begins with is told nowhere else."""
    port = plan.of("router")[0].ports["web_port"]
    made = await first_key(lambda: first_key_at(port))
    for line in welcome(plan, settings, made):
        screen.show(line)


def welcome(plan: Plan, settings: Settings, made: Pair | None = None) -> list[str]:
    """What can be done now, with the right ports.

    Args:
        plan: who runs where.
        settings: what is the same for all.
        made: the access key that a new cluster begins with.
    """
    first, *others = plan.of("router")
    last = others[0] if others else first
    web, other = (f"http://127.0.0.1:{router.ports['web_port']}" for router in (first, last))
    count = len(plan.of("putter"))
    where = option(plan.directory)
    ingest = ", ".join(str(router.ports["ingest_port"]) for router in (first, *others))
    s3 = ", ".join(str(router.ports["s3_port"]) for router in (first, *others))
    doors = ", ".join(str(router.ports["web_port"]) for router in (first, *others))
    frames = ", ".join(str(putter.ports["putter_port"]) for putter in plan.of("putter"))
    policy = f"N = {settings.replicas}, W = {settings.write_quorum}"
    who = f"Valkey, {1 + len(others)} routers, {count} putters ({policy})"
    lines = [f"The cluster is ready: {who}; data in {plain(str(plan.directory))}/"]
    if web != DEFAULT_URL:
        lines.append(f"  first of all   export PUTTER_URL={web}")
    lines += [
        f"  store a file   nc -N 127.0.0.1 {first.ports['ingest_port']} < FILE",
        f"  read it back   curl {other}/file/objects/<ObjectID>",
        f"  name a file    curl -T FILE {web}/file/photos/cat.jpg",
        f"  look around    putter status, putter cluster status{where}",
        f"  one process    putter cluster attach{where} 0    (make attach NODE=0)",
        f"  try it         kill -9 a process: putter cluster status{where} names their pids",
        f"  listening      raw streams {ingest}; S3 {s3}; REST {doors}; frames {frames}",
        f"  stop           Ctrl-C, or putter cluster stop{where}    (make cluster-stop)",
    ]
    if made is not None:
        lines += pair_lines(made)
    return lines


def option(directory: Path) -> str:
    """The flag that another command needs for this directory; "" for the usual one."""
    return "" if directory == DATA_DIR else f" --data-dir {shlex.quote(plain(str(directory)))}"
