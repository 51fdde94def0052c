"""What the supervisor tells other terminals: one small file, replaced whenever something changes.

It is true only while the directory's lock is held (`putter.local.lock.holder_of`): a supervisor
that was killed leaves its last words behind.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import msgspec

from common.errors import ProtocolError, StorageError

STATE_FILE: Final = "cluster.json"
LOGS: Final = "logs"
Phase = Literal["starting", "running", "stopping"]


class ChildState(msgspec.Struct, frozen=True):
    """One process.

    Attributes:
        name: ``putter0``.
        kind: ``valkey``, ``router`` or ``putter``.
        state: ``starting``, ``running``, ``waiting`` for its restart, ``given up``, ``stopping``,
            ``stopped``.
        pid: of the process that runs; None if none does.
        since_ms: when it came into this state, milliseconds since 1970.
        restarts: how often it died and was started again.
        ended: how it ended the last time, in words.
        ports: name of the setting → port.
        data_dir: where it keeps what it keeps.
        log: its log file.
    """

    name: str
    kind: str
    state: str = "stopped"
    pid: int | None = None
    since_ms: int = 0
    restarts: int = 0
    ended: str = ""
    ports: dict[str, int] = {}
    data_dir: str = ""
    log: str = ""


class ClusterState(msgspec.Struct, frozen=True):
    """The cluster.

    Attributes:
        pid: of the supervisor.
        phase: ``starting``, ``running`` or ``stopping``.
        started_ms: when it began, milliseconds since 1970.
        replicas: N of new objects.
        write_quorum: W of new objects.
        children: in the order of their start.
    """

    pid: int
    phase: Phase
    started_ms: int
    replicas: int
    write_quorum: int
    children: tuple[ChildState, ...]

    @property
    def names(self) -> list[str]:
        """Of all processes."""
        return [child.name for child in self.children]


def write_state(directory: Path, state: ClusterState) -> None:
    """Replace the file.

    Raises:
        OSError: it cannot be written.
    """
    path = directory / STATE_FILE
    new = path.with_suffix(".new")
    new.write_bytes(msgspec.json.format(msgspec.json.encode(state), indent=1) + b"\n")
    new.replace(path)


def read_state(directory: Path) -> ClusterState | None:
    """What stands there; None if nothing does.

    Raises:
        StorageError: it cannot be read.
        ProtocolError: it is none of ours.
    """
    path = directory / STATE_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=ClusterState)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"{path} is not the state of a cluster: {error}") from error


def remove_state(directory: Path) -> None:
    """Nothing runs any more.

    Raises:
        OSError: the file cannot be removed.
    """
    (directory / STATE_FILE).unlink(missing_ok=True)
