"""Who runs in a cluster on this machine: names, ports and directories. Nothing is touched here.

Each process has ten port numbers to itself, from its base on. With the usual bases:

| process | ports |
|---|---|
| ``router0`` | 5001 raw streams, 5002 acks, 5004 REST: those of a router that runs alone |
| ``router1`` | 5011, 5012, 5014 |
| ``putter0`` | 5100 frames, 5101 web |
| ``putter1`` | 5110, 5111 |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from common.errors import SettingInvalid, UsageError
from common.settings import FIELDS, Settings, description

Kind = Literal["valkey", "router", "putter"]

DATA_DIR: Final = Path("cluster-data")
ROUTER_BASE: Final = 5000
PUTTER_BASE: Final = 5100
STEP: Final = 10
ROUTERS_MAX: Final = 16
PUTTERS_MAX: Final = 64
VALKEY: Final = "valkey"
SUPERVISOR: Final = "cluster"
"""The name under which the supervisor itself speaks."""
_PORT_MAX: Final = 65_535
_NAMED: Final = 4

_PORTS: Final = tuple(name for name in FIELDS if name.endswith("_port"))
PUTTER_PORTS: Final = tuple(name for name in _PORTS if name.startswith("putter_"))
ROUTER_PORTS: Final = tuple(name for name in _PORTS if name not in PUTTER_PORTS)
OWNED: Final = frozenset(
    {
        *_PORTS,
        "host",
        "advertise_host",
        "data_dir",
        "key_file",
        "redis",
        "nodes",
        "zone",
        "tls_cert",
        "tls_key",
        "tls_ca",
    }
)
"""Settings that the cluster gives to each process itself; on loopback nothing is encrypted."""


@dataclass(frozen=True)
class Node:
    """One process of the cluster.

    Attributes:
        name: ``router0``, ``putter3``, ``valkey``.
        kind: what it is.
        number: counted from 0 within its kind.
        data_dir: where it keeps what it keeps.
        ports: name of the setting → port; 0 until a free one is found.
    """

    name: str
    kind: Kind
    number: int
    data_dir: Path
    ports: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """A cluster.

    Attributes:
        directory: of everything that it keeps.
        nodes: the Valkey, the putters, the routers: in this order they are started, and in the
            reverse order they are stopped.
    """

    directory: Path
    nodes: tuple[Node, ...]

    def of(self, kind: Kind) -> tuple[Node, ...]:
        """All of one kind."""
        return tuple(node for node in self.nodes if node.kind == kind)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all processes."""
        return tuple(node.name for node in self.nodes)

    @property
    def key_file(self) -> Path:
        """The cluster key that all of them share."""
        return self.directory / "cluster.key"


def make_plan(
    directory: Path,
    *,
    routers: int,
    putters: int,
    router_base: int = ROUTER_BASE,
    putter_base: int = PUTTER_BASE,
) -> Plan:
    """Lay a cluster out.

    Args:
        directory: of everything that it keeps.
        routers: how many.
        putters: how many.
        router_base: below the ports of ``router0``; 0: any free ports.
        putter_base: first port of ``putter0``; 0: any free ports.

    Raises:
        SettingInvalid: two processes would have the same port, or one has none that there is.
    """
    nodes = [Node(VALKEY, "valkey", 0, directory / VALKEY)]
    for number in range(putters):
        ports = _ports(PUTTER_PORTS, range(len(PUTTER_PORTS)), putter_base, number)
        name = f"putter{number}"
        nodes.append(Node(name, "putter", number, directory / name, ports))
    for number in range(routers):
        ports = _ports(ROUTER_PORTS, _router_offsets(), router_base, number)
        name = f"router{number}"
        nodes.append(Node(name, "router", number, directory / name, ports))
    _check(nodes)
    return Plan(directory, tuple(nodes))


def with_free_ports(plan: Plan, pick: Callable[[int], Sequence[int]]) -> Plan:
    """The plan with a port wherever any free one will do.

    Args:
        plan: what was laid out.
        pick: gives so many different free ports.
    """
    open_ports = [(node.name, port) for node, port in _all_ports(plan.nodes) if not port[1]]
    free = iter(pick(len(open_ports)))
    nodes = [
        replace(node, ports={name: port or next(free) for name, port in node.ports.items()})
        for node in plan.nodes
    ]
    return replace(plan, nodes=tuple(nodes))


def port_taken(plan: Plan, taken: Iterable[int]) -> SettingInvalid | None:
    """The error that says which ports are taken, and by whom they are wanted; None if none is."""
    busy = set(taken)
    wanted = [(node, name, port) for node, (name, port) in _all_ports(plan.nodes) if port in busy]
    if not wanted:
        return None
    listed = ", ".join(
        f"{port} ({node.name}, {door(name)})" for node, name, port in wanted[:_NAMED]
    )
    more = f", and {len(wanted) - _NAMED} more" if len(wanted) > _NAMED else ""
    flags = sorted({f"--{node.kind}-base" for node, _, _ in wanted}, reverse=True)
    what = "a port is" if len(wanted) == 1 else f"{len(wanted)} ports are"
    return SettingInvalid(
        f"{what} taken: {listed}{more}",
        hint=f"stop what listens there, or choose other ports with {' and '.join(flags)}",
    )


def settings_of(node: Node, shared: Settings, plan: Plan, redis: str) -> Settings:
    """The settings of a putter or router.

    Args:
        node: whose.
        shared: what is the same for all.
        plan: the cluster.
        redis: URL of its Valkey.
    """
    own = dict.fromkeys(_PORTS, 0) | dict(node.ports)
    return _replaced(
        shared,
        own
        | {
            "host": "127.0.0.1",
            "advertise_host": None,
            "data_dir": node.data_dir,
            "key_file": plan.key_file,
            "redis": redis,
            "nodes": (),
            "zone": None,
            # It can be no other Redis than ours that is empty.
            "rebuild": shared.rebuild or "auto",
        },
    )


def fit_replicas(settings: Settings, putters: int) -> Settings:
    """The settings with no more replicas than there are putters.

    A single putter gets N = 1 where nobody asked for more than the usual 2.

    Raises:
        SettingInvalid: more were asked for.
    """
    if settings.replicas <= putters:
        return settings
    if putters == 1 and settings.replicas == FIELDS["replicas"].default:
        return _replaced(settings, {"replicas": 1, "write_quorum": 1})
    raise SettingInvalid(
        f"{settings.replicas} replicas need as many putters, and there are {putters}",
        hint=f"say --putters {settings.replicas}, or --replicas {putters}",
    )


def find_name(word: str, names: Sequence[str]) -> str:
    """The process that is meant: ``2`` is ``putter2``.

    Raises:
        UsageError: there is none of that name.
    """
    name = f"putter{int(word)}" if word.isascii() and word.isdecimal() else word
    if name in names:
        return name
    raise UsageError(
        f"there is no {name[:40]!r} in this cluster", hint=f"there are: {', '.join(names)}"
    )


def door(port_name: str) -> str:
    """What a port is for: ``acks in`` for ``ack_port``."""
    return description(port_name).partition(": ")[2]


def _ports(
    names: Sequence[str], offsets: Iterable[int], base: int, number: int
) -> Mapping[str, int]:
    if not base:
        return dict.fromkeys(names, 0)
    first = base + STEP * number
    return {name: first + offset for name, offset in zip(names, offsets, strict=True)}


def _router_offsets() -> list[int]:
    """Each port ends in the digit that it has on a router that runs alone."""
    offsets = [FIELDS[name].default - ROUTER_BASE for name in ROUTER_PORTS]
    assert all(0 <= offset < STEP for offset in offsets), offsets
    return offsets


def _all_ports(nodes: Iterable[Node]) -> list[tuple[Node, tuple[str, int]]]:
    return [(node, entry) for node in nodes for entry in node.ports.items()]


def _check(nodes: Sequence[Node]) -> None:
    owners: dict[int, str] = {}
    for node, (name, port) in _all_ports(nodes):
        who = f"{node.name} ({door(name)})"
        if port > _PORT_MAX:
            raise SettingInvalid(
                f"{who} would have port {port}, and the last one is {_PORT_MAX}",
                hint=f"choose a smaller --{node.kind}-base",
            )
        if port and port in owners:
            raise SettingInvalid(
                f"{who} would have port {port}, which {owners[port]} has",
                hint="choose a greater distance between --router-base and --putter-base",
            )
        owners[port] = who


def _replaced(settings: Settings, changes: Mapping[str, object]) -> Settings:
    values = {name: getattr(settings, name) for name in FIELDS}
    return Settings(**(values | dict(changes)))
