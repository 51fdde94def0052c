"""Stop a cluster from another terminal, and tell how far that is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Final

import typer

from common import logs
from common.errors import PutterError, Unavailable
from putter.local.lock import StoreLock, lives
from putter.local_cluster.look import running
from putter.local_cluster.state import ClusterState, read_state
from putter.local_cluster.supervisor import PIDS

_POLL_S: Final = 0.05


class StillRunning(PutterError):
    """The cluster has not ended in time."""

    code = "still-running"


def stop_cluster(directory: Path, timeout_s: float) -> None:
    """Tell the supervisor to stop, and wait until nothing of the cluster runs any more.

    Args:
        directory: of the cluster.
        timeout_s: patience.

    Raises:
        Unavailable: what runs there is not to be seen from here.
        StillRunning: it has not ended in time.
        DataDirectoryInUse: what a killed supervisor left behind does not end.
    """
    found = running(directory)
    if found is None:
        if directory.is_dir():
            asyncio.run(_wait_for_orphans(directory))
        typer.echo(f"no cluster runs on {directory}")
        return
    holder, state = found
    if holder.pid is None:
        raise Unavailable(
            f"the cluster on {directory} cannot be stopped from here ({holder.words})",
            hint="stop it where it runs",
        )
    if state is None or state.phase != "stopping":  # a second signal would end it at once
        with contextlib.suppress(ProcessLookupError):
            os.kill(holder.pid, signal.SIGTERM)
    typer.echo(f"stopping the cluster on {directory} (process {holder.pid})")
    left = _wait(directory, holder.pid, timeout_s)
    asyncio.run(_wait_for_orphans(directory))
    for name in left:
        typer.echo(f"  {name} has ended")
    typer.echo("all have ended")


def _wait(directory: Path, pid: int, timeout_s: float) -> list[str]:
    """Tell of each that ends until the supervisor has; those of which nothing was told yet."""
    until_s = time.monotonic() + timeout_s
    left: list[str] = []
    told: set[str] = set()
    while lives(pid):
        state = _state(directory)
        if state is not None and state.phase == "stopping":
            left = [child.name for child in state.children if child.pid is not None]
            for name in state.names:
                if name not in left and name not in told:
                    told.add(name)
                    typer.echo(f"  {name} has ended")
        if time.monotonic() > until_s:
            raise StillRunning(
                f"after {timeout_s:.0f} s these still run: {', '.join(left) or 'all'}",
                hint=f"wait on with the same command, or end the supervisor: kill -9 {pid}",
            )
        time.sleep(_POLL_S)
    return left


def _state(directory: Path) -> ClusterState | None:
    try:
        return read_state(directory)
    except PutterError:
        return None  # of no use for the progress; the end is seen all the same


async def _wait_for_orphans(directory: Path) -> None:
    """Wait for what a supervisor that was killed left behind, and wake it up if need be."""
    logs.configure()
    lock = StoreLock(directory, sorted((directory / PIDS).glob("*.pid")))
    await lock.take()
    lock.close()
