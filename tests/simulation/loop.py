"""An event loop whose time is computed, not waited for, and whose every step repeats.

`run` gives a coroutine a loop that jumps from one timer to the next. Nothing of the outside gets
in: no sockets, no signals, no threads (what goes to an executor runs inline). With a `Random` of
the same seed the same code does the same things in the same order:

* time is the loop's own, and begins at 0;
* tasks and futures hash by the number of their birth, so that the sets in which asyncio keeps
  them are walked in the same order every time;
* the module `random` is seeded, for libraries that do not ask us;
* at the end the tasks that are left are cancelled in the order of their birth.
"""

from __future__ import annotations

import asyncio
import random
from asyncio import base_events
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, TypeVar

T = TypeVar("T")

START_MS: Final = 1_700_000_000_000
LIMIT_S_DEFAULT: Final = 24 * 3600.0
GRACE_S: Final = 3600.0
"""Virtual time for cancelled tasks to clean up."""


PROCESS: Final[ContextVar[str]] = ContextVar("process", default="")
"""Which simulated process runs; its tasks inherit it, so that they can be ended together."""


class Deadlock(Exception):
    """Everybody waits, and nothing is scheduled that could wake anybody."""


class TimeIsUp(Exception):
    """The run's virtual time is over; something repeats itself while the test waits."""


class _NumberedFuture(asyncio.Future[Any]):
    def __init__(self, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self._number = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number


class _NumberedTask(asyncio.Task[Any]):
    process = ""

    def __init__(self, number: int, coroutine: Any, **options: Any) -> None:
        self._number = number  # before super().__init__, which puts the task into a set
        super().__init__(coroutine, **options)

    def __hash__(self) -> int:
        return self._number


class _Selector:
    """Instead of waiting for sockets it moves the clock."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Deadlock(self._loop.describe("nothing is scheduled any more"))
        self._loop.advance(timeout)
        return []


class VirtualLoop(base_events.BaseEventLoop):
    """The loop; use `run`."""

    def __init__(self, limit_s: float = LIMIT_S_DEFAULT) -> None:
        super().__init__()
        self._now_s = 0.0
        self._limit_s = limit_s
        self._born = 0
        self._tasks: dict[int, asyncio.Task[Any]] = {}
        self._selector = _Selector(self)
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        """Seconds since the beginning of the run."""
        return self._now_s

    def advance(self, seconds: float) -> None:
        """Move the clock."""
        self._now_s += seconds
        if self._now_s > self._limit_s:
            raise TimeIsUp(self.describe(f"{self._limit_s:.0f} virtual seconds are over"))

    def extend(self, seconds: float) -> None:
        """Allow so much time from now on."""
        self._limit_s = self._now_s + seconds

    def tasks(self, process: str | None = None) -> list[asyncio.Task[Any]]:
        """The tasks that are not done, oldest first; only those of a process if one is named."""
        tasks = self._tasks.values()
        return [t for t in tasks if process is None or getattr(t, "process", "") == process]

    def describe(self, what: str) -> str:
        """A message that shows where every task waits."""
        lines = [f"{what}, at {self._now_s:.6f} s; still waiting:"]
        for task in self.tasks():
            frames = task.get_stack(limit=1)
            where = f"{frames[-1].f_code.co_filename}:{frames[-1].f_lineno}" if frames else "?"
            lines.append(f"  {task.get_name()} {task.get_coro()!r} at {where}")
        return "\n".join(lines)

    def create_future(self) -> asyncio.Future[Any]:
        self._born += 1
        return _NumberedFuture(self._born, self)

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Any, *args: Any
    ) -> asyncio.Future[Any]:
        """Call ``func`` here and now; whoever awaits the result gets it in a later turn."""
        future = self.create_future()
        try:
            result = func(*args)
        except Exception as error:  # noqa: BLE001 – it belongs to whoever awaits the result
            self.call_soon(_settle, future, None, error)
        else:
            self.call_soon(_settle, future, result, None)
        return future

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.Handle:
        """The same as `call_soon`: there is only one thread."""
        return self.call_soon(callback, *args, context=context)

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
    ) -> asyncio.Task[Any]:
        self._born += 1
        number = self._born
        options.setdefault("name", f"task-{number}")
        task = _NumberedTask(number, coroutine, loop=loop, **options)
        context = options.get("context")
        task.process = PROCESS.get() if context is None else context.get(PROCESS, "")
        self._tasks[number] = task
        task.add_done_callback(lambda _: self._tasks.pop(number))
        return task

    def _process_events(self, event_list: Any) -> None:
        """There are none."""


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.cancelled():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


class VirtualClock:
    """A `common.clock.Clock` that shows the loop's time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, start_ms: int = START_MS) -> None:
        self._loop = loop
        self._start_ms = start_ms

    def now_ms(self) -> int:
        return self._start_ms + self.monotonic_ms()

    def monotonic_ms(self) -> int:
        return round(self._loop.time() * 1_000_000) // 1_000


@dataclass(frozen=True)
class World:
    """What a simulated run is given: the only sources of time and chance."""

    random: random.Random
    clock: VirtualClock
    loop: VirtualLoop


def run(
    main: Callable[[World], Coroutine[Any, Any, T]],
    seed: int,
    *,
    limit_s: float = LIMIT_S_DEFAULT,
) -> T:
    """Run ``main`` to its end on a fresh loop.

    Args:
        main: gets the `World`.
        seed: decides all that is left to chance.
        limit_s: virtual seconds after which the run is given up.

    Raises:
        Deadlock: nobody can go on.
        TimeIsUp: ``limit_s`` is over.
        ExceptionGroup: ``main`` ended well, but callbacks or tasks failed that nobody awaited.
    """
    loop = VirtualLoop(limit_s)
    unheard: list[Exception] = []
    loop.set_exception_handler(lambda _, context: unheard.append(_as_error(context)))
    state = random.getstate()
    random.seed(seed)
    try:
        world = World(random.Random(seed), VirtualClock(loop), loop)
        result = loop.run_until_complete(main(world))
    except BaseException as error:
        for each in unheard:
            error.add_note(f"before that, unheard: {each!r}")
        raise
    finally:
        try:
            _cancel_what_is_left(loop)
        finally:
            random.setstate(state)
            loop.close()
    if unheard:
        raise ExceptionGroup("errors that nobody awaited", unheard)
    return result


def _cancel_what_is_left(loop: VirtualLoop) -> None:
    loop.extend(GRACE_S)
    left = loop.tasks()
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.wait(left))
    loop.run_until_complete(loop.shutdown_asyncgens())


def _as_error(context: dict[str, Any]) -> Exception:
    error = context.get("exception")
    if isinstance(error, Exception):
        error.add_note(context["message"])
        return error
    return RuntimeError(f"{context['message']}: {error!r}")
