"""How the processes of a cluster are, as another terminal finds out."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from common.errors import Unavailable
from putter.client.status import StoreStatus
from putter.local.lock import Holder, holder_of
from putter.local_cluster.health import status_at
from putter.local_cluster.plan import SUPERVISOR
from putter.local_cluster.state import LOGS, ChildState, ClusterState, read_state

_ENTRIES_MAX: Final = 50_000
_BLOCK_BYTES: Final = 512
_FIRST_PORTS: Final = {"putter": "putter_port", "router": "ingest_port"}


class ChildView(msgspec.Struct, frozen=True):
    """One process.

    Attributes:
        name: ``putter0``.
        kind: ``valkey``, ``router``, ``putter``.
        state: as in `ChildState`.
        address: where it takes bytes; "" for the Valkey, which has a socket in its directory.
        pid: None if no process runs.
        age_ms: time in this state.
        restarts: how often it was started again.
        ended: how it ended the last time, in words.
        ports: name of the setting → port.
        disk_bytes: what its directory takes on the disk; None if it has too many files to look at.
        written_bytes: data that a putter stored since its start; None if nobody tells.
        inflight_bytes: sent and not acknowledged: to a putter by all routers, or by a router to all
            putters; None if nobody tells.
        memory_bytes: resident; None if the system does not tell.
        log: its log file.
    """

    name: str
    kind: str
    state: str
    address: str
    pid: int | None
    age_ms: int
    restarts: int
    ended: str
    ports: dict[str, int]
    disk_bytes: int | None
    written_bytes: int | None
    inflight_bytes: int | None
    memory_bytes: int | None
    log: str


class ClusterView(msgspec.Struct, frozen=True):
    """The cluster.

    Attributes:
        pid: of the supervisor.
        phase: ``starting``, ``running`` or ``stopping``.
        age_ms: time since its start.
        replicas: N of new objects.
        write_quorum: W of new objects.
        children: in the order of their start.
    """

    pid: int
    phase: str
    age_ms: int
    replicas: int
    write_quorum: int
    children: tuple[ChildView, ...]


def running(directory: Path) -> tuple[Holder, ClusterState | None] | None:
    """Who runs a cluster on a directory, and its last words; None if nobody does.

    The state is None while the supervisor has not written it yet.
    """
    holder = holder_of(directory)
    if holder is None:
        return None
    state = read_state(directory)
    ours = state is not None and state.pid == holder.pid
    return holder, state if ours else None


def must_run(directory: Path) -> ClusterState:
    """The last words of the cluster that runs.

    Raises:
        Unavailable: none runs, or it has only just begun, or it is not to be seen from here.
    """
    found = running(directory)
    if found is None:
        raise Unavailable(
            f"no cluster runs on {directory}",
            hint="start one with: putter cluster start; --data-dir names its directory",
        )
    holder, state = found
    if state is None:
        raise Unavailable(f"nothing is known yet of what runs on {directory} ({holder.words})")
    return state


def look(directory: Path) -> ClusterView:
    """How all are now.

    Raises:
        Unavailable: no cluster runs on the directory.
    """
    state = must_run(directory)
    statuses = asyncio.run(_ask_routers(state))
    now_ms = time.time_ns() // 1_000_000
    return ClusterView(
        pid=state.pid,
        phase=state.phase,
        age_ms=max(0, now_ms - state.started_ms),
        replicas=state.replicas,
        write_quorum=state.write_quorum,
        children=tuple(view_of(child, statuses, now_ms) for child in state.children),
    )


def view_of(child: ChildState, statuses: Mapping[str, StoreStatus], now_ms: int) -> ChildView:
    """A process with what the routers and the system say of it.

    Args:
        child: what the supervisor says.
        statuses: what each router says, by its name.
        now_ms: milliseconds since 1970.
    """
    port = child.ports.get(_FIRST_PORTS.get(child.kind, ""))
    address = f"127.0.0.1:{port}" if port else ""
    inflight, written = _told_by(child, address, statuses)
    return ChildView(
        name=child.name,
        kind=child.kind,
        state=child.state,
        address=address,
        pid=child.pid,
        age_ms=max(0, now_ms - child.since_ms) if child.since_ms else 0,
        restarts=child.restarts,
        ended=child.ended,
        ports=child.ports,
        disk_bytes=disk_bytes(Path(child.data_dir)),
        written_bytes=written,
        inflight_bytes=inflight,
        memory_bytes=_memory_bytes(child.pid),
        log=child.log,
    )


def log_of(directory: Path, state: ClusterState, name: str) -> Path:
    """The log file of a process, or of the supervisor."""
    if name == SUPERVISOR:
        return directory / LOGS / f"{SUPERVISOR}.log"
    return next(Path(child.log) for child in state.children if child.name == name)


def disk_bytes(directory: Path, entries_max: int = _ENTRIES_MAX) -> int | None:
    """What the files below a directory take on the disk; None if there are more than so many."""
    total, seen, waiting = 0, 0, [directory]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    seen += 1
                    if seen > entries_max:
                        return None
                    total += entry.stat(follow_symlinks=False).st_blocks * _BLOCK_BYTES
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
        except FileNotFoundError:
            continue  # removed meanwhile
        except OSError:
            return None
    return total


def _told_by(
    child: ChildState, address: str, statuses: Mapping[str, StoreStatus]
) -> tuple[int | None, int | None]:
    """Bytes in flight and bytes written, as far as routers tell."""
    if child.kind == "router":
        own = statuses.get(child.name)
        return (None if own is None else sum(node.inflight_bytes for node in own.nodes)), None
    if child.kind != "putter":
        return None, None
    nodes = [n for status in statuses.values() for n in status.nodes if n.address == address]
    written = [node.packing.plain_bytes for node in nodes if node.packing is not None]
    inflight = sum(node.inflight_bytes for node in nodes) if nodes else None
    return inflight, max(written, default=None)


async def _ask_routers(state: ClusterState) -> dict[str, StoreStatus]:
    routers: Sequence[ChildState] = [
        child for child in state.children if child.kind == "router" and child.pid is not None
    ]
    answers = await asyncio.gather(*(status_at(each.ports["web_port"]) for each in routers))
    return {
        router.name: answer
        for router, answer in zip(routers, answers, strict=True)
        if answer is not None
    }


def _memory_bytes(pid: int | None) -> int | None:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
