"""The processes of a cluster on this machine: started, watched, told about, stopped in order.

The Valkey comes first, then all others at once. They stop tier by tier: the routers, which take
no more and finish what is under way; the putters; the Valkey.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec

from common.keys import load_keyring
from common.logs import get_logger
from common.settings import Settings
from putter.local.children import Child, Spec, State
from putter.local.embedded import EmbeddedValkey
from putter.local.environment import environment_of
from putter.local.lock import StoreLock
from putter.local_cluster.health import status_at, trouble_at
from putter.local_cluster.output import Outlet, Outputs, log_path
from putter.local_cluster.plan import Kind, Node, Plan, settings_of
from putter.local_cluster.state import (
    LOGS,
    ChildState,
    ClusterState,
    Phase,
    remove_state,
    write_state,
)

_log = get_logger(__name__)
DEATHS_MAX: Final = 8
"""Quick deaths in a row (`putter.local.restarts`) after which a process is given up."""
PIDS: Final = "pids"
_STOP_ORDER: Final[tuple[Kind, ...]] = ("router", "putter", "valkey")
_COMMANDS: Final = {"router": "router", "putter": "server"}
_WEB_PORTS: Final = {"router": "web_port", "putter": "putter_web_port"}
_POLL_S: Final = 0.1
_TELL_S: Final = 10.0
_LIVE: Final = frozenset({State.STARTING, State.RUNNING, State.STOPPING})


class LocalCluster:
    """The processes of a plan.

    Args:
        plan: who runs where; its ports are settled.
        settings: what is the same for all.
        outputs: where their lines go.
        lock: of the plan's directory, taken.
    """

    def __init__(self, plan: Plan, settings: Settings, outputs: Outputs, lock: StoreLock) -> None:
        self._plan = plan
        self._settings = settings
        self._outputs = outputs
        self._descriptors = lock.descriptors
        (valkey,) = plan.of("valkey")
        self._embedded = EmbeddedValkey(valkey.data_dir, log_file=False)
        self._children: dict[str, Child] = {}
        self._outlets: list[Outlet] = []
        self._phase: Phase = "starting"
        self._started_ms = _now_ms()
        self._since: dict[str, tuple[State, int | None, int]] = {}
        self._untold = False

    async def start(self) -> None:
        """Start all, and wait until every router reaches every putter.

        Raises:
            PutterError: one cannot be started, or ended before it was ready.
        """
        load_keyring(self._plan.key_file, create=True)
        valkey, *others = self._plan.nodes
        spec = await self._embedded.prepare()
        child = await self._launch(valkey, spec)
        await child.wait_ready()
        children = [await self._launch(node, self._spec(node)) for node in others]
        await _all([child.wait_ready() for child in children])
        await _all([self._linked(router) for router in self._plan.of("router")])
        self._phase = "running"
        self._tell()

    async def stop(self) -> None:
        """Stop all, routers first; may be called while some have not started."""
        self._phase = "stopping"
        for kind in _STOP_ORDER:
            names = [node.name for node in self._plan.of(kind) if node.name in self._children]
            if names:
                _log.info("stopping", what=", ".join(names))
            stops = [self._children[name].stop() for name in names]
            ends = await asyncio.gather(*stops, return_exceptions=True)
            for name, end in zip(names, ends, strict=True):
                if isinstance(end, BaseException):
                    _log.error("a child could not be stopped", child=name, reason=str(end))
        self._embedded.close()
        await asyncio.gather(*(outlet.close() for outlet in self._outlets))
        try:
            remove_state(self._plan.directory)
        except OSError as error:
            _log.warning("cannot remove the state", reason=str(error))

    # -- inside ----------------------------------------------------------------------------

    async def _launch(self, node: Node, spec: Spec) -> Child:
        outlet = Outlet(lambda text: self._outputs.line(node.name, text))
        self._outlets.append(outlet)
        await outlet.open()
        # Ours say on standard output what their users can do; here that is said once for all.
        ours = node.kind != "valkey"
        child = Child(
            replace(
                spec,
                name=node.name,
                stdout=asyncio.subprocess.DEVNULL if ours else outlet.descriptor,
                stderr=outlet.descriptor,
                pass_fds=(*spec.pass_fds, *self._descriptors),
                deaths_max=DEATHS_MAX,
                changed=self._tell,
            )
        )
        self._children[node.name] = child
        await child.launch()
        return child

    def _spec(self, node: Node) -> Spec:
        settings = settings_of(node, self._settings, self._plan, self._embedded.url)
        return Spec(
            name=node.name,
            argv=(sys.executable, "-m", "putter", _COMMANDS[node.kind]),
            ready=lambda _launched_s: self._ready(node),
            env=environment_of(settings) | {"PYTHONUNBUFFERED": "1"},
        )

    async def _ready(self, node: Node) -> None:
        """Wait until it says so, however long that takes: the store may be reading its disks."""
        port = node.ports[_WEB_PORTS[node.kind]]
        await _wait_out(node.name, lambda: trouble_at(port))

    async def _linked(self, router: Node) -> None:
        """Wait until a router reaches as many putters as were started."""
        wanted = len(self._plan.of("putter"))

        async def missing() -> str:
            status = await status_at(router.ports["web_port"])
            if status is None:
                return "it does not tell its status"
            up = sum(node.link == "up" for node in status.nodes)
            return "" if up >= wanted else f"it reaches {up} of {wanted} putters"

        await _wait_out(router.name, missing)

    def _tell(self) -> None:
        """Write down how all are; called after each change."""
        children = tuple(self._state_of(node) for node in self._plan.nodes)
        state = ClusterState(
            pid=os.getpid(),
            phase=self._phase,
            started_ms=self._started_ms,
            replicas=self._settings.replicas,
            write_quorum=self._settings.write_quorum,
            children=children,
        )
        try:
            for child in children:
                if child.pid is not None:
                    path = self._plan.directory / PIDS / f"{child.name}.pid"
                    path.write_text(f"{child.pid}\n")
            write_state(self._plan.directory, state)
        except OSError as error:
            if not self._untold:
                self._untold = True
                _log.warning("cannot write the state down", reason=str(error))
        else:
            self._untold = False

    def _state_of(self, node: Node) -> ChildState:
        child = self._children.get(node.name)
        told = ChildState(
            name=node.name,
            kind=node.kind,
            ports=dict(node.ports),
            data_dir=str(node.data_dir.absolute()),
            log=str(log_path(self._plan.directory / LOGS, node.name).absolute()),
        )
        if child is None:
            return told
        pid = child.pid if child.state in _LIVE else None
        before = self._since.get(node.name)
        if before is None or before[:2] != (child.state, pid):
            self._since[node.name] = (child.state, pid, _now_ms())
        changes: dict[str, Any] = {
            "state": str(child.state),
            "pid": pid,
            "since_ms": self._since[node.name][2],
            "restarts": child.restarts,
            "ended": child.ended,
        }
        return msgspec.structs.replace(told, **changes)


async def _wait_out(name: str, trouble: Callable[[], Awaitable[str]]) -> None:
    """Wait until there is no trouble any more; now and then tell what it is."""
    loop = asyncio.get_running_loop()
    told_s = loop.time()
    while reason := await trouble():
        if loop.time() - told_s > _TELL_S:
            told_s = loop.time()
            _log.info("not ready yet", child=name, reason=reason)
        await asyncio.sleep(_POLL_S)


async def _all(waits: Sequence[Awaitable[None]]) -> None:
    """Wait for all; the first that fails ends the others.

    Raises:
        PutterError: of the first that failed.
    """
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
