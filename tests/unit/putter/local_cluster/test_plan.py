"""Who runs where: names, ports, directories, and what cannot be."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import SettingInvalid, UsageError
from common.settings import FIELDS, Settings
from common.settings_load import load
from putter.local.environment import environment_of
from putter.local_cluster.plan import (
    OWNED,
    PUTTER_PORTS,
    PUTTERS_MAX,
    ROUTER_PORTS,
    ROUTERS_MAX,
    STEP,
    Plan,
    find_name,
    fit_replicas,
    make_plan,
    port_taken,
    settings_of,
    with_free_ports,
)

HOME = Path("/srv/try")


def ports_of(plan: Plan) -> list[int]:
    return [port for node in plan.nodes for port in node.ports.values()]


def test_names_and_order() -> None:
    plan = make_plan(HOME, routers=2, putters=3)
    assert plan.names == ("valkey", "putter0", "putter1", "putter2", "router0", "router1")
    assert [node.name for node in plan.of("router")] == ["router0", "router1"]
    assert {node.data_dir for node in plan.nodes} == {HOME / name for name in plan.names}
    assert plan.key_file == HOME / "cluster.key"


def test_the_first_router_has_the_ports_of_one_that_runs_alone() -> None:
    plan = make_plan(HOME, routers=2, putters=2)
    first, second = plan.of("router")
    alone = Settings()
    assert first.ports == {name: getattr(alone, name) for name in ROUTER_PORTS}
    assert second.ports == {name: port + STEP for name, port in first.ports.items()}
    assert second.ports["ingest_port"] == 5011
    assert second.ports["web_port"] == 5014
    assert [dict(node.ports) for node in plan.of("putter")] == [
        {"putter_port": 5100, "putter_web_port": 5101},
        {"putter_port": 5110, "putter_web_port": 5111},
    ]


def test_every_port_of_the_settings_belongs_to_one_kind() -> None:
    known = {name for name in FIELDS if name.endswith("_port")}
    assert set(ROUTER_PORTS) | set(PUTTER_PORTS) == known
    assert not set(ROUTER_PORTS) & set(PUTTER_PORTS)
    assert known <= OWNED


@given(
    st.integers(1, ROUTERS_MAX),
    st.integers(1, PUTTERS_MAX),
    st.integers(1, 65_535),
    st.integers(1, 65_535),
)
def test_ports_never_collide(routers: int, putters: int, first: int, second: int) -> None:
    with contextlib.suppress(SettingInvalid):
        plan = make_plan(
            HOME, routers=routers, putters=putters, router_base=first, putter_base=second
        )
        check_ports(plan, routers, putters)


def check_ports(plan: Plan, routers: int, putters: int) -> None:
    ports = ports_of(plan)
    assert (
        len(set(ports)) == len(ports) == routers * len(ROUTER_PORTS) + putters * len(PUTTER_PORTS)
    )
    assert all(0 < port <= 65_535 for port in ports)


def test_a_collision_names_both() -> None:
    with pytest.raises(SettingInvalid, match=r"router1 .* port 5011, which putter0 .* has"):
        make_plan(HOME, routers=2, putters=1, router_base=5000, putter_base=5011)
    with pytest.raises(SettingInvalid, match="port 65536, and the last one is 65535") as caught:
        make_plan(HOME, routers=1, putters=1, putter_base=65_535)
    assert "--putter-base" in caught.value.hint


def test_any_free_ports_are_filled_in_and_others_stay() -> None:
    numbers = itertools.count(40_000)
    plan = make_plan(HOME, routers=1, putters=2, router_base=0)
    assert set(plan.of("router")[0].ports.values()) == {0}
    filled = with_free_ports(plan, lambda count: [next(numbers) for _ in range(count)])
    wanted = [40_000 + at for at in range(len(ROUTER_PORTS))]
    assert list(filled.of("router")[0].ports.values()) == wanted
    assert filled.of("putter") == plan.of("putter")
    assert next(numbers) == 40_000 + len(ROUTER_PORTS), "no more than needed"


def test_what_is_taken_is_named_with_who_wants_it_and_what_helps() -> None:
    plan = make_plan(HOME, routers=2, putters=1)
    assert port_taken(plan, [1, 2, 3]) is None
    one = port_taken(plan, [5011])
    assert one is not None
    assert one.message == "a port is taken: 5011 (router1, raw byte streams in)"
    assert one.hint == "stop what listens there, or choose other ports with --router-base"
    two = port_taken(plan, [5001, 5100])
    assert two is not None
    assert two.message.startswith("2 ports are taken: 5100 (putter0, frames in), 5001 (router0, ")
    assert two.hint.endswith("--router-base and --putter-base")
    all_of_them = port_taken(plan, ports_of(plan))
    assert all_of_them is not None
    assert all_of_them.message.endswith(f", and {len(ports_of(plan)) - 4} more")


@pytest.mark.parametrize("name", ["putter1", "router0"])
def test_a_process_reads_what_was_planned_and_what_is_shared(name: str) -> None:
    plan = make_plan(HOME, routers=1, putters=2)
    node = next(node for node in plan.nodes if node.name == name)
    shared = Settings(redis="redis://other:1", zone="z", nodes=("a:1",), storage="tree", token="t")
    made = settings_of(node, shared, plan, "unix:///v.sock")
    assert (made.host, made.redis, made.nodes, made.zone) == (
        "127.0.0.1",
        "unix:///v.sock",
        (),
        None,
    )
    assert (made.data_dir, made.key_file) == (HOME / name, HOME / "cluster.key")
    assert (made.storage, made.token, made.rebuild) == ("tree", "t", "auto")
    mine = {field: getattr(made, field) for field in (*ROUTER_PORTS, *PUTTER_PORTS)}
    assert {field: port for field, port in mine.items() if port} == node.ports
    assert load({}, environment_of(made), None) == made, "it arrives whole"


def test_a_router_that_shall_wait_for_a_rebuild_is_told_so() -> None:
    plan = make_plan(HOME, routers=1, putters=1)
    made = settings_of(plan.of("router")[0], Settings(rebuild="manual"), plan, "unix:///v.sock")
    assert made.rebuild == "manual"


def test_replicas_fit_the_putters() -> None:
    alone = fit_replicas(Settings(), 1)
    assert (alone.replicas, alone.write_quorum) == (1, 1)
    assert fit_replicas(Settings(), 2) == Settings()
    three = Settings(replicas=3)
    assert fit_replicas(three, 3) is three
    with pytest.raises(SettingInvalid, match="3 replicas need as many putters, and there are 2"):
        fit_replicas(three, 2)


def test_a_number_stands_for_a_putter() -> None:
    names = ("valkey", "putter0", "putter1", "router0", "cluster")
    assert find_name("1", names) == "putter1"
    assert find_name("00", names) == "putter0"
    assert find_name("router0", names) == "router0"
    for word in ("2", "router7", "", "-1", "²"):
        with pytest.raises(UsageError) as caught:
            find_name(word, names)
        assert caught.value.hint == f"there are: {', '.join(names)}"
