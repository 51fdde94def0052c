"""Commands on a cluster on this machine: start, stop, status, attach."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from common.settings import FIELDS, Settings
from putter.cli.access import Json
from putter.cli.imports import importing
from putter.cli.output import human_age, human_size, print_json, print_table
from putter.cli.settings_flags import command_with_settings
from putter.cli.shell import Shell, help_of
from putter.local_cluster.plan import (
    DATA_DIR,
    OWNED,
    PUTTER_BASE,
    PUTTERS_MAX,
    ROUTER_BASE,
    ROUTERS_MAX,
    make_plan,
)

START_FIELDS: Final = tuple(name for name in FIELDS if name not in OWNED)

DataDir = Annotated[
    Path,
    typer.Option("--data-dir", help="Directory of everything that the cluster keeps."),
]

cluster = typer.Typer(
    cls=Shell,
    help="A cluster on this machine: a Valkey, routers and putters under one supervisor.",
    no_args_is_help=True,
)


def start(
    settings: Settings,
    *,
    putters: Annotated[int, typer.Option(help="How many.", min=1, max=PUTTERS_MAX)] = 3,
    routers: Annotated[int, typer.Option(help="How many.", min=1, max=ROUTERS_MAX)] = 2,
    data_dir: DataDir = DATA_DIR,
    router_base: Annotated[
        int,
        typer.Option(
            help="Ports of routers: base + 1 raw streams, + 2 acks, + 4 REST, and ten more for "
            "each further router; 0: any free ones.",
            min=0,
            max=65_535,
        ),
    ] = ROUTER_BASE,
    putter_base: Annotated[
        int,
        typer.Option(
            help="Ports of putters: base frames, + 1 web, and ten more for each further putter; "
            "0: any free ones.",
            min=0,
            max=65_535,
        ),
    ] = PUTTER_BASE,
) -> None:
    """Start a cluster on this machine and show what its processes say, until Ctrl-C.

    Examples:
        putter cluster start
        putter cluster start --putters 4 --storage tree
        putter cluster start --data-dir /tmp/try --router-base 6000 --putter-base 6100
    """
    plan = make_plan(
        data_dir,
        routers=routers,
        putters=putters,
        router_base=router_base,
        putter_base=putter_base,
    )
    with importing():
        from putter.cli.process import run
        from putter.cli.supervise import supervise

    run(supervise(plan, settings))


def stop(
    data_dir: DataDir = DATA_DIR,
    timeout: Annotated[
        int, typer.Option(help="Seconds to wait for the end.", min=1, metavar="SECONDS")
    ] = 90,
) -> None:
    """Stop the cluster, and wait until the last of its processes has ended.

    Examples:
        putter cluster stop
        putter cluster stop --data-dir /tmp/try
    """
    from putter.cli.local_stop import stop_cluster

    stop_cluster(data_dir, timeout)


def status(data_dir: DataDir = DATA_DIR, as_json: Json = False) -> None:
    """Tell how the processes of the cluster are; ends with 4 if none runs.

    Examples:
        putter cluster status
        putter cluster status --json | python -m json.tool
    """
    from putter.local_cluster.look import look

    seen = look(data_dir)
    if as_json:
        print_json(seen)
        return
    policy = f"N = {seen.replicas}, W = {seen.write_quorum}"
    typer.echo(f"cluster:  {seen.phase}, supervisor {seen.pid}, {policy}")
    print_table(
        (
            "process", "state", "address", "pid", "for", "restarts", "on disk", "stored",
            "in flight", "memory",
        ),
        [
            (
                each.name,
                each.state,
                each.address,
                str(each.pid or "-"),
                human_age(each.age_ms),
                str(each.restarts),
                _size(each.disk_bytes),
                _size(each.written_bytes),
                _size(each.inflight_bytes),
                _size(each.memory_bytes),
            )
            for each in seen.children
        ],
        left=3,
    )  # fmt: skip


def attach(
    node: Annotated[
        str, typer.Argument(help="0 for putter0, and so on; or router0, valkey, cluster.")
    ] = "0",
    data_dir: DataDir = DATA_DIR,
    lines: Annotated[
        int, typer.Option("--lines", "-n", help="So many earlier lines.", min=0, max=10_000)
    ] = 20,
) -> None:
    """Follow the log of one process of the cluster, its state on top; Ctrl-C leaves it alone.

    Examples:
        putter cluster attach 0
        putter cluster attach router1 --lines 100
    """
    from putter.cli.local_attach import follow_one

    follow_one(data_dir, node, lines)


def _size(count: int | None) -> str:
    return "-" if count is None else human_size(count)


start_command = command_with_settings(start, START_FIELDS, unread=OWNED)
cluster.command("start", help=help_of(start_command))(start_command)
cluster.command("stop", help=help_of(stop))(stop)
cluster.command("status", help=help_of(status))(status)
cluster.command("attach", help=help_of(attach))(attach)
