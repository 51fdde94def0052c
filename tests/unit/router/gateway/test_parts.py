"""What the workers of a router know, added up."""

from __future__ import annotations

from router.gateway.parts import balance, drains, incurable, link_to, repair, told_of_workers
from router.workers import IncurablePart, LinkPart, Part, RefillPart

DOWN = LinkPart("a:1", up=False, reason="refused")


def test_a_link_is_up_if_it_is_to_all_that_answer() -> None:
    up = LinkPart("a:1", up=True, inflight_bytes=10)
    both = {0: Part("x", links=(up,)), 1: Part("y", links=(up,)), 2: None}
    assert link_to("a:1", both) == {"link": "up", "reason": "", "inflight_bytes": 20}
    one = {0: Part("x", links=(up,)), 1: Part("y", links=(DOWN,))}
    assert link_to("a:1", one) == {
        "link": "down",
        "reason": "worker 1: refused",
        "inflight_bytes": 10,
    }
    assert link_to("b:1", both)["link"] == "down"


def test_one_whose_address_another_one_has_now_is_down() -> None:
    links = (LinkPart("a:1", up=False, node="old"), LinkPart("a:1", up=True, node="new"))
    parts = {0: Part("x", links=links)}
    assert link_to("a:1", parts, "new")["link"] == "up"
    assert link_to("a:1", parts, "old")["link"] == "down"
    nameless = {0: Part("x", links=(LinkPart("a:1", up=True),))}
    assert link_to("a:1", nameless, "new")["link"] == "up"


def test_of_a_router_that_is_alone_no_worker_is_told() -> None:
    alone = {0: Part("x", links=(DOWN,))}
    assert link_to("a:1", alone) == {"link": "down", "reason": "refused", "inflight_bytes": 0}
    assert told_of_workers(alone) == []


def test_workers_that_do_not_answer_are_listed() -> None:
    assert told_of_workers({0: Part("x", writing=3), 1: None}) == [
        {"worker": 0, "router": "x", "answers": True, "writing": 3},
        {"worker": 1, "router": None, "answers": False, "writing": 0},
    ]


def test_debts_are_the_same_for_all_and_paid_by_some() -> None:
    parts = [
        Part("x", refills=(RefillPart("n", 4, 2, 1000, 100.0, {"A": "full"}),)),
        Part(
            "y",
            refills=(RefillPart("n", 4, 2, 1000, 25.0, {"B": "away"}), RefillPart("m", 1, 0, 7)),
        ),
    ]
    assert repair(parts) == [
        {
            "node": "m",
            "objects": 1,
            "records": 0,
            "bytes": 7,
            "bytes_per_s": 0,
            "eta_s": None,
            "stuck": [],
        },
        {
            "node": "n",
            "objects": 4,
            "records": 2,
            "bytes": 1000,
            "bytes_per_s": 125,
            "eta_s": 8,
            "stuck": [{"object": "A", "reason": "full"}, {"object": "B", "reason": "away"}],
        },
    ]


def test_one_of_them_looks_how_evenly_the_bytes_are_spread() -> None:
    seen = {"uneven_bytes": 5, "left_bytes": 3, "nodes": []}
    assert balance([Part("x"), Part("y", balance=seen)]) == seen
    assert balance([Part("x")]) is None


def test_what_several_could_not_heal_is_told_once() -> None:
    wound = IncurablePart("n", "A", "0Z", 3, "no replica is right")
    other = IncurablePart("n", "B", "1A", 1, "no replica is right")
    found = incurable([Part("x", incurable=(wound,)), Part("y", incurable=(wound, other))])
    assert [(each["object"], each["first"], each["count"]) for each in found] == [
        ("A", "0Z", 3),
        ("B", "1A", 1),
    ]


def test_a_putter_is_empty_when_all_say_so() -> None:
    leaving = {"n": 0, "m": 7}
    first = Part("x", left=leaving, empty=frozenset({"n"}), refills=(RefillPart("*", 2, 0, 500),))
    told = {each["node"]: each for each in drains([first], {"n": "draining"})}
    assert (told["n"]["done"], told["m"]["done"]) == (True, False)
    assert (told["n"]["decision"], told["m"]["decision"]) == ("draining", "")
    assert told["m"]["names_left"] == 7
    assert (told["m"]["moving_objects"], told["m"]["moving_bytes"]) == (2, 500)
    for second in (Part("y"), Part("y", left={"n": 3})):
        told = {each["node"]: each for each in drains([first, second], {"n": "draining"})}
        assert not told["n"]["done"]
        assert told["n"]["names_left"] == second.left.get("n", 0)
    both = drains([first, Part("y", left={"n": 0}, empty=frozenset({"n"}))], {})
    assert [each["done"] for each in both if each["node"] == "n"] == [True]
    assert drains([Part("y")], {"k": "gone"})[0]["names_left"] is None
