"""Child processes that are started, watched, restarted with back-off, and stopped in order.

A child runs on a leash (`putter.local.leash`), so that it never outlives its parent, and in a
session of its own, so that Ctrl-C in a terminal reaches only the parent, which then stops all
children one after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from common.errors import PutterError, Unavailable
from common.logs import get_logger
from putter.local.leash import leash_command
from putter.local.restarts import STABLE_S, Restarts

_log = get_logger(__name__)
_STOP_S: Final = 20.0


class ChildFailed(Unavailable):
    """A child ended before it was ready."""

    code = "child"


class State(StrEnum):
    """Where a child is in its life."""

    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting"
    """It died, and is started again after a pause."""
    GIVEN_UP = "given up"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Spec:
    """What to run.

    Attributes:
        name: for people.
        argv: program and arguments.
        ready: returns once the child can be used; asked after each launch, whose time by the
            event loop it is given. Raises `PutterError` if the child will not get there.
        env: added to our environment.
        pass_fds: file descriptors that the child inherits.
        told: where it says why it ended.
        stdout: file descriptor for its standard output; None: ours.
        stderr: file descriptor for its standard error; None: ours.
        deaths_max: quick deaths in a row after which it is given up; None: never.
        changed: called whenever its state or its pid has changed.
    """

    name: str
    argv: Sequence[str]
    ready: Callable[[float], Awaitable[None]]
    env: Mapping[str, str] = field(default_factory=dict)
    pass_fds: tuple[int, ...] = ()
    told: str = "its own message stands above"
    stdout: int | None = None
    stderr: int | None = None
    deaths_max: int | None = None
    changed: Callable[[], None] | None = None


class Child:
    """One child process.

    Attributes:
        spec: what is run.
        restarts: how often it was started again.
        state: where it is in its life.
        ended: how it ended the last time, in words; "" if it never did.
    """

    def __init__(self, spec: Spec) -> None:
        self.spec: Final = spec
        self.restarts = 0
        self.state = State.STOPPED
        self.ended = ""
        self._process: asyncio.subprocess.Process | None = None
        self._launched_s = 0.0
        self._watch: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """Of the process, once it was started; it may have ended."""
        return self._process.pid if self._process is not None else None

    def _now(self, state: State) -> None:
        self.state = state
        if self.spec.changed is not None:
            self.spec.changed()

    async def launch(self) -> None:
        """Start it; several may be on their way at the same time.

        Raises:
            ChildFailed: there is nothing to start.
        """
        try:
            await self._launch()
        except OSError as error:
            self._now(State.STOPPED)
            raise ChildFailed(f"{self.spec.name} cannot be started: {error}") from error

    async def wait_ready(self) -> None:
        """Wait until it is ready; from then on it is restarted when it dies.

        Raises:
            PutterError: it ended before, or will not get ready; it is stopped.
        """
        try:
            code = await self._ready_or_ended()
            if code is not None:
                raise _failed(self.spec, code)  # noqa: TRY301 - stopped below
        except BaseException:
            await self.stop()
            raise
        self._now(State.RUNNING)
        self._watch = asyncio.get_running_loop().create_task(self._keep_alive())

    def hang_up(self) -> None:
        """SIGHUP: read files again. One that starts reads them anyway."""
        if self.state is State.RUNNING and self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGHUP)

    async def stop(self) -> None:
        """SIGTERM, a bounded wait, SIGKILL."""
        self._stopping = True
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        if self.state is not State.GIVEN_UP:
            self._now(State.STOPPING)
        await self._end()
        if self.state is not State.GIVEN_UP:
            self._now(State.STOPPED)

    async def _launch(self) -> None:
        argv = leash_command(os.getpid(), list(self.spec.argv))
        self._launched_s = _now_s()
        self._process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=self.spec.stdout,
            stderr=self.spec.stderr,
            env={**os.environ, **self.spec.env},
            pass_fds=self.spec.pass_fds,
            start_new_session=True,
        )
        self._now(State.STARTING)

    async def _end(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(_STOP_S):
                await process.wait()
        except TimeoutError:
            _log.warning("a child does not stop: ending it", child=self.spec.name, pid=process.pid)
            process.kill()
            await process.wait()

    async def _ready_or_ended(self) -> int | None:
        """None once it is ready; its exit code if it ended before.

        Raises:
            PutterError: it runs, but will not get ready.
        """
        assert self._process is not None
        ready = asyncio.ensure_future(self.spec.ready(self._launched_s))
        ended = asyncio.ensure_future(self._process.wait())
        try:
            await asyncio.wait((ready, ended), return_when=asyncio.FIRST_COMPLETED)
            if not ready.done():
                return ended.result()
            ready.result()
            return None
        finally:
            for waiter in (ready, ended):
                waiter.cancel()
            await asyncio.gather(ready, ended, return_exceptions=True)

    async def _keep_alive(self) -> None:
        """Start it again whenever it ended, or did not get ready after such a start."""
        assert self._process is not None
        restarts = Restarts(STABLE_S, self.spec.deaths_max)
        ready_s: float | None = self._launched_s
        self.ended = describe_exit(await self._process.wait())
        while not self._stopping:
            pause_ms = restarts.died(ready_s, _now_s())
            if pause_ms is None:
                _log.error(
                    "a child is given up: it died again and again",
                    child=self.spec.name,
                    deaths=restarts.failures,
                    how=self.ended,
                    hint=self.spec.told,
                )
                self._now(State.GIVEN_UP)
                return
            _log.error(
                "a child died: starting it again",
                child=self.spec.name,
                how=self.ended,
                pause_ms=pause_ms,
            )
            self._now(State.WAITING)
            await asyncio.sleep(pause_ms / 1000)
            ready_s, self.ended = await self._live_again()

    async def _live_again(self) -> tuple[float | None, str]:
        """One more life of the process: when it was ready, if ever, and how it ended."""
        self.restarts += 1
        try:
            await self._launch()
        except OSError as error:
            return None, f"cannot be started: {error}"
        assert self._process is not None
        try:
            code = await self._ready_or_ended()
        except PutterError as error:
            _log.error(
                "a child does not get ready: ending it", child=self.spec.name, reason=str(error)
            )
            await self._end()
            return None, "did not get ready"
        if code is not None:
            return None, describe_exit(code)
        ready_s = _now_s()
        self._now(State.RUNNING)
        _log.info("a child runs again", child=self.spec.name, pid=self.pid)
        return ready_s, describe_exit(await self._process.wait())


class Supervisor:
    """Several children, stopped in the reverse order of their start."""

    def __init__(self) -> None:
        self._children: list[Child] = []

    async def launch(self, spec: Spec) -> Child:
        """Start one more child; its `Child.wait_ready` is the caller's to await.

        Raises:
            ChildFailed: there is nothing to start.
        """
        child = Child(spec)
        await child.launch()
        self._children.append(child)
        return child

    async def start(self, spec: Spec) -> Child:
        """Start one more child and wait until it is ready.

        Raises:
            PutterError: it did not get ready; it is stopped.
        """
        child = await self.launch(spec)
        await child.wait_ready()
        return child

    async def stop(self) -> None:
        """Stop all of them, the last started first."""
        while self._children:
            child = self._children.pop()
            try:
                await child.stop()
            except (OSError, PutterError) as error:
                _log.error("a child could not be stopped", child=child.spec.name, reason=str(error))


def _failed(spec: Spec, code: int) -> ChildFailed:
    """The error of a child that ended at its start; it ends us with the same exit code."""
    failure = ChildFailed(f"{spec.name} ended at its start: {describe_exit(code)}", hint=spec.told)
    failure.exit = code if code > 0 else ChildFailed.exit  # type: ignore[misc]
    return failure


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def describe_exit(code: int) -> str:
    """How a process ended, in words."""
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"
