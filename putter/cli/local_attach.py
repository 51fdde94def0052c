"""A view on one process of a cluster on this machine: how it is, and what it says."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import typer
from rich.console import Console, ConsoleDimensions, Group
from rich.live import Live
from rich.rule import Rule
from rich.text import Text

from common.errors import PutterError
from putter.cli.output import human_age, human_size
from putter.local_cluster.follow import Follower
from putter.local_cluster.look import ChildView, ClusterView, log_of, look, must_run
from putter.local_cluster.plan import SUPERVISOR, door, find_name

_LOG_POLL_S: Final = 0.1
_LOOK_S: Final = 1.0
_KEPT_LINES: Final = 1_000
_HEAD_ROWS: Final = 3


@dataclass(frozen=True)
class Head:
    """What stands above the log.

    Attributes:
        what: state, pid and restarts: a new head is told where they change.
        lines: for people.
    """

    what: tuple[object, ...]
    lines: tuple[str, str]


def follow_one(directory: Path, word: str, earlier: int) -> None:
    """Follow one process until Ctrl-C, or until the cluster has ended.

    Args:
        directory: of the cluster.
        word: which one: ``0``, ``putter0``, ``router1``, ``valkey``, ``cluster``.
        earlier: lines to begin with.

    Raises:
        Unavailable: no cluster runs on the directory.
        UsageError: it has no such process.
    """
    state = must_run(directory)
    name = find_name(word, [*state.names, SUPERVISOR])
    follower = Follower(log_of(directory, state, name), earlier)
    watch = Watch(directory, name)
    console = Console()
    try:
        if console.is_terminal:
            _on_terminal(console, watch, follower)
        else:
            _as_lines(watch, follower)
        typer.echo("the cluster has ended")
    except KeyboardInterrupt:
        typer.echo(f"{name} goes on")
    finally:
        watch.stop()
        follower.close()


class Watch:
    """Looks at a process once a second, in a thread: a router may be slow to answer.

    Args:
        directory: of the cluster.
        name: of the process.
        see: how it is looked.
    """

    def __init__(
        self, directory: Path, name: str, see: Callable[[Path], ClusterView] = look
    ) -> None:
        self._directory = directory
        self._name = name
        self._see = see
        self._stopping = threading.Event()
        self._over = False
        self._head: Head | None = None
        self._look()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    @property
    def head(self) -> Head | None:
        """How it is; None if that was not to be seen even once."""
        return self._head

    @property
    def over(self) -> bool:
        """Whether the cluster has ended."""
        return self._over

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._over and not self._stopping.wait(_LOOK_S):
            self._look()

    def _look(self) -> None:
        try:
            seen = self._see(self._directory)
        except PutterError:
            self._over = True
            return
        self._head = head_of(seen, self._name)


def head_of(seen: ClusterView, name: str) -> Head:
    """How a process is, or the supervisor."""
    if name == SUPERVISOR:
        up = sum(child.state == "running" for child in seen.children)
        policy = f"N = {seen.replicas}, W = {seen.write_quorum}"
        return Head(
            (seen.phase, seen.pid, up),
            (
                f"{name}  {seen.phase} for {human_age(seen.age_ms)}  pid {seen.pid}",
                f"{up} of {len(seen.children)} processes run  {policy}",
            ),
        )
    child = next(each for each in seen.children if each.name == name)
    return Head((child.state, child.pid, child.restarts), (_first(child), _second(child)))


def _first(child: ChildView) -> str:
    words = [child.name, f"{child.state} for {human_age(child.age_ms)}"]
    words.append(f"pid {child.pid}" if child.pid is not None else "no process")
    if child.restarts:
        words.append(f"restarts {child.restarts} (the last: {child.ended})")
    words += [f"{port} {door(field)}" for field, port in child.ports.items()]
    return "  ".join(words)


def _second(child: ChildView) -> str:
    sizes: Sequence[tuple[str, int | None]] = (
        ("on disk", child.disk_bytes),
        ("stored since its start", child.written_bytes),
        ("in flight", child.inflight_bytes),
        ("memory", child.memory_bytes),
    )
    return "  ".join(f"{what} {human_size(size)}" for what, size in sizes if size is not None)


def _as_lines(watch: Watch, follower: Follower) -> None:
    """For a pipe or a file: the head, again whenever it says something new, and the lines."""
    told: Head | None = None
    while True:
        over, head = watch.over, watch.head
        if head is not None and (told is None or head.what != told.what):
            told = head
            for line in head.lines:
                typer.echo(f"== {line}")
        for line in follower.poll():
            typer.echo(line)
        if over:
            return
        time.sleep(_LOG_POLL_S)


def _on_terminal(console: Console, watch: Watch, follower: Follower) -> None:
    """The head stays on top; below it are as many of the last lines as there is room for."""
    kept: deque[str] = deque(maxlen=_KEPT_LINES)
    shown: object = None
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while not watch.over:
            lines = follower.poll()
            kept.extend(lines)
            now = (watch.head, console.size)
            if lines or now != shown:
                shown = now
                live.update(page(watch.head, kept, console.size), refresh=True)
            time.sleep(_LOG_POLL_S)


def page(head: Head | None, lines: Iterable[str], size: ConsoleDimensions) -> Group:
    """A full screen: the head, a rule, and the last lines that fit, each on one row."""
    rows = max(1, size.height - _HEAD_ROWS)
    above = [
        Text(line, style="bold", no_wrap=True, overflow="ellipsis")
        for line in (head.lines if head is not None else ())
    ]
    below = [Text(line, no_wrap=True, overflow="ellipsis") for line in deque(lines, maxlen=rows)]
    return Group(*above, Rule("Ctrl-C leaves, the process goes on"), *below)
