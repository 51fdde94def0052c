"""``/status`` of a router: what each of its workers knows, added up."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from typing import Any

from common.meta.outbox import Queue
from common.records import ANYONE
from common.tickets import format_id
from common.wire.handshake import Identity
from router.audit import Audit
from router.delivery import Delivery
from router.fleet import Fleet
from router.heal import Healer, Incurable
from router.rebalance import Balance, Rebalance
from router.repair import Repair
from router.vacate import Vacate
from router.workers import IncurablePart, LinkPart, Part, RefillPart
from router.writes import WritePath

Told = dict[str, Any]


def part_of(
    identity: Identity,
    writes: WritePath,
    fleet: Fleet,
    repair: Repair,
    healer: Healer,
    rebalance: Rebalance,
    audit: Audit,
    vacate: Vacate,
    delivery: Delivery,
) -> Part:
    """What this worker knows and the others do not."""
    return Part(
        instance=identity.instance,
        writing=writes.writing,
        links=tuple(
            LinkPart(view.address, view.link == "up", view.reason, view.inflight_bytes, view.node)
            for view in fleet.views()
        ),
        refills=tuple(
            RefillPart(
                node,
                refill.debt.objects,
                refill.lacking.records,
                refill.debt.size + refill.lacking.size,
                refill.rate_bytes_per_s,
                dict(refill.stuck),
            )
            for node, refill in sorted(repair.refills().items())
        ),
        incurable=tuple(_incurable(each) for each in healer.incurable()),
        balance=_balance(rebalance.balance),
        audit=_audit(audit),
        left=dict(vacate.left),
        empty=vacate.empty,
        stuck={_queue(*each): why.reason for each, why in delivery.troubles.items()},
    )


def told_of_workers(parts: Mapping[int, Part | None]) -> list[Told]:
    """The workers, where there are several."""
    if len(parts) == 1:
        return []
    return [
        {
            "worker": number,
            "router": part.instance if part is not None else None,
            "answers": part is not None,
            "writing": part.writing if part is not None else 0,
        }
        for number, part in sorted(parts.items())
    ]


def link_to(address: str, parts: Mapping[int, Part | None], node: str = "") -> Told:
    """How a putter is linked to the workers that answer: up if it is to all.

    Args:
        address: of the putter.
        parts: what each worker knows.
        node: its identity, where it is known: another one may be at its address now.
    """
    inflight_bytes = 0
    down: list[str] = []
    for number, part in sorted(parts.items()):
        if part is None:
            continue
        at = [each for each in part.links if each.address == address]
        mine = [each for each in at if not (node and each.node) or each.node == node]
        inflight_bytes += sum(each.inflight_bytes for each in mine)
        if not any(each.up for each in mine):
            reason = next((each.reason for each in mine if each.reason), "")
            down.append(f"worker {number}: {reason}" if len(parts) > 1 and reason else reason)
    return {
        "link": "down" if down else "up",
        "reason": next((reason for reason in down if reason), ""),
        "inflight_bytes": inflight_bytes,
    }


def repair(parts: Iterable[Part]) -> list[Told]:
    """What putters are owed: the same for all; who pays it is one of them."""
    found: dict[str, Told] = {}
    for refill in (refill for part in parts for refill in part.refills):
        told = found.setdefault(
            refill.node,
            {
                "node": refill.node,
                "objects": refill.objects,
                "records": refill.records,
                "bytes": refill.bytes,
                "bytes_per_s": 0.0,
                "eta_s": None,
                "stuck": {},
            },
        )
        told["bytes_per_s"] += refill.bytes_per_s
        told["stuck"] |= refill.stuck
    for told in found.values():
        rate = told["bytes_per_s"]
        told["eta_s"] = round(told["bytes"] / rate) if rate else None
        told["bytes_per_s"] = round(rate)
        told["stuck"] = [
            {"object": each, "reason": why} for each, why in sorted(told["stuck"].items())
        ]
    return [found[node] for node in sorted(found)]


def incurable(parts: Iterable[Part]) -> list[Told]:
    """Tickets that no replica has right, or that a putter does not take."""
    found = {
        (each.node, each.object, each.first): {
            "node": each.node,
            "object": each.object,
            "first": each.first,
            "count": each.count,
            "reason": each.reason,
        }
        for part in parts
        for each in part.incurable
    }
    return [found[key] for key in sorted(found)]


def drains(parts: Collection[Part], decided: Mapping[str, str]) -> list[Told]:
    """The putters that are emptied, with what was decided of them.

    One is done when all say so: whoever has not walked since it was decided may say what was true
    before. The most names are told that any of them counted.
    """
    counted = [part.left for part in parts]
    debt = next((each for each in repair(parts) if each["node"] == ANYONE), None)
    return [
        {
            "node": node,
            "decision": decided.get(node, ""),
            "names_left": max((left[node] for left in counted if node in left), default=None),
            "moving_objects": debt["objects"] if debt else 0,
            "moving_bytes": debt["bytes"] if debt else 0,
            "eta_s": debt["eta_s"] if debt else None,
            "done": all(node in part.empty for part in parts),
        }
        for node in sorted({*decided, *(node for left in counted for node in left)})
    ]


def events(queues: Mapping[str, Collection[Queue]], parts: Iterable[Part]) -> list[Told]:
    """What waits for targets of events, with what whoever delivers it knows of that.

    Args:
        queues: of the buckets in which any waits, by name.
        parts: what each worker knows.
    """
    stuck = {queue: why for part in parts for queue, why in part.stuck.items()}
    return [
        {
            "bucket": bucket,
            "target": queue.target,
            "waiting": queue.waiting,
            "dropped": queue.dropped,
            "trouble": stuck.get(_queue(bucket, queue.target), ""),
        }
        for bucket, found in sorted(queues.items())
        for queue in found
        if queue.waiting
    ]


def balance(parts: Iterable[Part]) -> Told | None:
    """How evenly the bytes are spread: one of them looks, if any."""
    return next((part.balance for part in parts if part.balance is not None), None)


def audit(parts: Iterable[Part]) -> Told:
    """The comparison of inventories that is under way, and the last one of all workers."""
    told = [part.audit for part in parts if part.audit]
    last = [each["last"] for each in told if each["last"]]
    return {
        "running": any(each["running"] for each in told),
        "wanted": sorted({why for each in told for why in each["wanted"]}),
        "found": next((each["found"] for each in told if each["running"]), None),
        "last": max(last, key=lambda each: int(each["ended_ms"]), default=None),
    }


def _queue(bucket: str, target: str) -> str:
    return f"{bucket} {target}"


def _audit(audit: Audit) -> Told:
    last = audit.last
    return {
        "running": audit.found is not None,
        "wanted": audit.wanted,
        "found": None if audit.found is None else asdict(audit.found),
        "last": None
        if last is None
        else {
            "started_ms": last.started_ms,
            "ended_ms": last.ended_ms,
            "silent": list(last.silent),
            "found": asdict(last.found),
        },
    }


def _balance(balance: Balance | None) -> Told | None:
    """How evenly the bytes are spread, as far as this worker has looked."""
    if balance is None:
        return None
    return {
        "uneven_bytes": balance.uneven_bytes,
        "left_bytes": balance.left_bytes,
        "nodes": [
            {"node": node, "held_bytes": held, "share_bytes": balance.shares[node]}
            for node, held in balance.held.items()
        ],
    }


def _incurable(each: Incurable) -> IncurablePart:
    wound = each.wound
    return IncurablePart(
        wound.node, wound.object_id, format_id(wound.first), wound.count, each.reason
    )
