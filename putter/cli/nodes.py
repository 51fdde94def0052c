"""``nodes``: the members of the cluster, one line each."""

from __future__ import annotations

from typing import Literal

import msgspec
import typer

from putter.cli.access import URL, Json, KeyFile, TlsCa, Token, Url, open_store
from putter.cli.output import human_age, human_size, plain, print_json, print_table
from putter.client.status import Refill, RouterStatus, StoreStatus


class NodeLine(msgspec.Struct, frozen=True):
    """A member, as `nodes` prints it with --json.

    Attributes:
        node: identity; of a router that of its start.
        role: ``putter`` or ``router``.
        state: by its signs of life (docs/internals/membership.md).
        address: ``host:port`` of its frames, or of its raw streams.
        zone: where a putter stands.
        version: of its software.
        link: of a putter, whether the router that answered is connected to it: ``up`` or ``down``.
        reason: why not.
        age_ms: time since its last sign of life; None without one.
        capacity_bytes, free_bytes: of a putter's disk; 0 if it did not tell.
        owed_objects, owed_records, owed_bytes: what a putter should hold and does not.
    """

    node: str
    role: Literal["putter", "router"]
    state: str = ""
    address: str = ""
    zone: str = ""
    version: str = ""
    link: str = ""
    reason: str = ""
    age_ms: int | None = None
    capacity_bytes: int = 0
    free_bytes: int = 0
    owed_objects: int = 0
    owed_records: int = 0
    owed_bytes: int = 0


def nodes(
    url: Url = URL,
    token: Token = None,
    key_file: KeyFile = None,
    tls_ca: TlsCa = None,
    as_json: Json = False,
) -> None:
    """List the members of the cluster: putters with their disks and debts, and routers.

    Examples:
        putter nodes
        putter nodes --json
    """
    with open_store(url, token, key_file, tls_ca) as store:
        told = store.status()
    found = lines_of(told)
    if as_json:
        print_json(found)
    else:
        _print(found, told.repair)


def lines_of(told: StoreStatus) -> list[NodeLine]:
    """Putters first, then routers, each by name."""
    owed = {each.node: each for each in told.repair}
    nothing = Refill("", 0, 0)
    putters = [
        NodeLine(
            node=each.node,
            role="putter",
            state=each.state,
            address=each.address,
            zone=each.zone,
            version=each.version,
            link=each.link,
            reason=each.reason,
            age_ms=each.age_ms,
            capacity_bytes=each.capacity_bytes,
            free_bytes=each.free_bytes,
            owed_objects=owed.get(each.node, nothing).objects,
            owed_records=owed.get(each.node, nothing).records,
            owed_bytes=owed.get(each.node, nothing).bytes,
        )
        for each in told.nodes
    ]
    by_name = sorted(putters, key=lambda line: (line.node, line.address))
    return by_name + [_router(each) for each in sorted(told.routers, key=lambda one: one.router)]


def _router(told: RouterStatus) -> NodeLine:
    return NodeLine(
        node=told.router,
        role="router",
        state=told.state,
        address=told.address,
        version=told.version,
        age_ms=told.age_ms,
    )


def _print(found: list[NodeLine], owed: tuple[Refill, ...]) -> None:
    print_table(
        (
            "node", "role", "state", "address", "zone", "version", "link", "seen", "used", "free",
            "size", "owed",
        ),
        [_row(line) for line in found],
        left=7,
    )  # fmt: skip
    for line in found:
        if line.reason:
            typer.echo(f"no link:  {line.node or '?'} at {line.address}: {plain(line.reason)}")
    for each in owed:
        if each.node == "*":
            typer.echo(f"owed:     {human_size(each.bytes)} to putters that are not chosen yet")


def _row(line: NodeLine) -> tuple[str, ...]:
    disk: tuple[str, ...] = ("-", "-", "-", "-")
    if line.role == "putter":
        used = line.capacity_bytes - line.free_bytes
        sizes = (used, line.free_bytes, line.capacity_bytes) if line.capacity_bytes else ()
        disk = (*map(human_size, sizes),) or ("-", "-", "-")
        disk += (human_size(line.owed_bytes),)
    return (
        line.node or "?",
        line.role,
        line.state or "-",
        line.address or "-",
        plain(line.zone) or "-",
        line.version or "-",
        line.link or "-",
        human_age(line.age_ms).replace(" ", ""),
        *disk,
    )
