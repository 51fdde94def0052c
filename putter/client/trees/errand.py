"""Carrying out a plan: several threads, each with a connection of its own.

A file that fails does not keep the others from going. What would fail for all of them, as a store
that does not answer, ends the errand: what was not begun is not tried.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

import msgspec

from common.errors import (
    IntegrityError,
    NotAuthorised,
    PutterError,
    Unavailable,
    WriteConflict,
)
from putter.client.sources import Progress
from putter.client.store import Store
from putter.client.trees.listing import Item, Listing
from putter.client.trees.plan import Plan, Step
from putter.client.trees.routes import Route

PAUSES_S: Final = (0.5, 2.0)
"""Before the second and the third try of a file for which the store was not there."""
_LEAVE_S: Final = 5.0
"""After an interrupt, so long the threads may take to clean up behind themselves."""
_LOOK_S: Final = 0.2

T = TypeVar("T")
Action = Literal["copy", "move", "delete", "skip", "error"]


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one file.

    Attributes:
        action: what was done, or would be.
        name: below the top of the tree.
        source: where it comes from.
        target: where it goes, or was deleted.
        size: bytes.
        reason: why it was skipped, or failed.
        code: of the error.
    """

    action: Action
    name: str
    source: str = ""
    target: str = ""
    size: int = 0
    reason: str = ""
    code: str = ""


@dataclass
class Totals:
    """What became of all of them.

    Attributes:
        copied, copied_bytes, deleted, unchanged, skipped, failed: counted as they come.
        not_tried: what an error that concerns all of them left undone.
        not_deleted: surplus that stays because something failed.
        moved, moved_bytes: counted as they come.
        dry_run: whether all this would only be done.
        seconds: how long it took.
    """

    copied: int = 0
    copied_bytes: int = 0
    deleted: int = 0
    unchanged: int = 0
    skipped: int = 0
    failed: int = 0
    not_tried: int = 0
    not_deleted: int = 0
    moved: int = 0
    moved_bytes: int = 0
    dry_run: bool = False
    seconds: float = 0.0


def text_of(name: str) -> str:
    """A name that can be written as UTF-8: a local one may have other bytes in it."""
    return name.encode("utf-8", "backslashreplace").decode()


class Stopped(Exception):
    """Raised inside a transfer when the errand has ended."""


class Errand:
    """Carries out plans on one route.

    Args:
        route: the direction.
        open_store: makes a client for each thread.
        tell: called with each event and, where there is one, the error; by one thread at a time.
        jobs: threads.
        dry_run: nothing is changed.
        progress: called with bytes done and in total.
        pause: waits so many seconds.

    Attributes:
        totals: counted meanwhile.
        errors: of what failed.
    """

    def __init__(
        self,
        route: Route,
        open_store: Callable[[], Store],
        tell: Callable[[Event, PutterError | None], None],
        *,
        jobs: int = 8,
        dry_run: bool = False,
        progress: Progress | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.totals = Totals(dry_run=dry_run)
        self.errors: list[PutterError] = []
        self._route = route
        self._open_store = open_store
        self._tell = tell
        self._jobs = jobs
        self._dry_run = dry_run
        self._progress = progress
        self._pause = pause
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._crash: BaseException | None = None
        self._total_bytes = 0
        self._done_bytes = 0

    @property
    def exit(self) -> int:
        """The exit code: 4, 5 or 6 where one of these failed a file, 1 for whatever else did."""
        kinds = (Unavailable, NotAuthorised, IntegrityError)
        worst = [each.exit for each in self.errors if isinstance(each, kinds)]
        return max(worst, default=1 if self.errors else 0)

    def run(self, source: Listing, plan: Plan) -> None:
        """Do it all.

        Args:
            source: what was found there; what failed and was skipped is told first.
            plan: what to do.
        """
        started = time.monotonic()
        for name, reason in source.skipped:
            place = self._route.ends(name)[0]
            self._count(Event("skip", text_of(name), text_of(place), reason=reason))
        for name, error in source.failed:
            self._failed(name, error)
        self.totals.unchanged = plan.unchanged
        self._total_bytes = sum(step.item.size for step in plan.steps)
        self._all(plan.in_the_way, self._delete)
        self._all(plan.steps, self._step)
        if self.errors:
            self.totals.not_deleted = len(plan.surplus)
        else:
            self._all(plan.surplus, self._delete)
        self.totals.seconds = round(time.monotonic() - started, 3)

    # -- threads ---------------------------------------------------------------------------

    def _all(self, tasks: Iterable[T], do: Callable[[Store, T], None]) -> None:
        waiting = list(tasks)
        line = iter(waiting)
        left = [threading.Event() for _ in range(min(self._jobs, len(waiting)))]
        for each in left:
            threading.Thread(target=self._work, args=(line, do, each), daemon=True).start()
        try:
            # Not join: an interrupt in it makes a thread look as if it had ended (bpo-45274).
            for each in left:
                while not each.wait(_LOOK_S):
                    pass
        except BaseException:
            self._stopped.set()
            ends = time.monotonic() + _LEAVE_S
            for each in left:
                each.wait(max(0.0, ends - time.monotonic()))
            raise
        self.totals.not_tried += sum(1 for _ in line)
        if self._crash is not None:
            raise self._crash

    def _work(
        self, line: Iterator[T], do: Callable[[Store, T], None], left: threading.Event
    ) -> None:
        try:
            with self._open_store() as store:
                while (task := self._next(line)) is not None:
                    do(store, task)
        except Stopped:
            with self._lock:
                self.totals.not_tried += 1
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
            self._crash = self._crash or error
            self._stopped.set()
        finally:
            left.set()

    def _next(self, line: Iterator[T]) -> T | None:
        with self._lock:
            return None if self._stopped.is_set() else next(line, None)

    # -- tasks -----------------------------------------------------------------------------

    def _step(self, store: Store, step: Step) -> None:
        item = step.item
        try:
            if step.look and self._alike(store, item):
                return
            if not self._dry_run:
                self._send(store, item)
        except PutterError as error:
            self._failed(item.name, error)
            return
        self._count(Event(self._route.does, item.name, *self._route.ends(item.name), item.size))

    def _alike(self, store: Store, item: Item) -> bool:
        if not self._patiently(lambda: self._route.alike(store, item)):
            return False
        if not self._dry_run:
            self._route.adopt(item)
        self._moved(item.size)
        with self._lock:
            self.totals.unchanged += 1
        return True

    def _send(self, store: Store, item: Item) -> None:
        def attempt() -> None:
            seen = 0

            def advance(done: int, _: int | None) -> None:
                nonlocal seen
                self._moved(done - seen)
                seen = done

            try:
                self._route.send(store, item, advance)
            except PutterError:
                self._show(-seen)
                raise

        self._patiently(attempt)

    def _delete(self, store: Store, item: Item) -> None:
        if not self._dry_run:
            try:
                self._patiently(lambda: self._route.delete(store, item))
            except PutterError as error:
                self._failed(item.name, error)
                return
        target = self._route.ends(item.name)[1]
        self._count(Event("delete", item.name, "", target, item.size))

    def _patiently(self, do: Callable[[], T]) -> T:
        """Try again what failed because the store was not there, or somebody else was writing."""
        for pause_s in PAUSES_S:
            try:
                return do()
            except (Unavailable, WriteConflict):
                self._pause(pause_s)
            if self._stopped.is_set():
                raise Stopped
        return do()

    # -- what is told ----------------------------------------------------------------------

    def _moved(self, count: int) -> None:
        if self._stopped.is_set():
            raise Stopped
        self._show(count)

    def _show(self, count: int) -> None:
        with self._lock:
            self._done_bytes += count
            if self._progress is not None:
                self._progress(self._done_bytes, self._total_bytes)

    def _failed(self, name: str, error: PutterError) -> None:
        source, target = map(text_of, self._route.ends(name))
        with self._lock:
            self.errors.append(error)
            if isinstance(error, Unavailable | NotAuthorised):
                self._stopped.set()
        told = Event("error", text_of(name), source, target, reason=error.message, code=error.code)
        self._count(told, error)

    def _count(self, event: Event, error: PutterError | None = None) -> None:
        with self._lock:
            match event.action:
                case "copy":
                    self.totals.copied += 1
                    self.totals.copied_bytes += event.size
                case "move":
                    self.totals.moved += 1
                    self.totals.moved_bytes += event.size
                case "delete":
                    self.totals.deleted += 1
                case "skip":
                    self.totals.skipped += 1
                case "error":
                    self.totals.failed += 1
            self._tell(event, error)
