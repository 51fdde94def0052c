"""What has to be true of a simulated cluster once everything has healed."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator

from common import records
from common.keys import Keyring
from common.meta.memory_state import State
from common.records import Extent, Members, StoredObject, Version
from common.tickets import format_id
from putter.node.verify import NodeCheck
from tests.simulation.cluster import KEY, Cluster, SimPutter

Holds = dict[str, dict[str, set[int]]]
"""By identity and ObjectID: tickets."""
LOOK_S = 2.0
_ALL = 1 << 30


async def healed(cluster: Cluster, limit_s: float, *, records_too: bool = False) -> None:
    """Wait until nothing is left to be done.

    Args:
        cluster: what is looked at.
        limit_s: virtual seconds.
        records_too: whether records without an object have to be where they should be, too.

    Raises:
        AssertionError: something is, after so many virtual seconds.
    """
    deadline = cluster.world.loop.time() + limit_s
    while found := troubles(cluster) or (scarce_records(cluster) if records_too else []):
        assert cluster.world.loop.time() < deadline, "not healed: " + "; ".join(found[:8])
        await asyncio.sleep(LOOK_S)


def troubles(cluster: Cluster) -> list[str]:
    """What is still to be done: debts, surpluses, missing replicas, tickets of nobody."""
    state = cluster.meta.snapshot()
    if state.complete != cluster.meta.epoch:
        return ["Redis is not complete"]
    found = [
        f"{router.name}: {router.router.catch_up.trouble}"
        for router in cluster.routers
        if router.router is not None and router.router.catch_up.trouble
    ]
    for name, bucket in state.buckets.items():
        if bucket.settings is not None and bucket.followed != bucket.settings.stamp:
            found.append(f"files of bucket {name} do not follow its settings yet")
        found += [
            f"object {o} is {each.state}"
            for o, each in bucket.objects.items()
            if each.state != "written"
        ]
        found += [f"{node} has a surplus of object {o}" for node, o in bucket.surplus]
    live = {putter.identity for putter in cluster.putters if putter.node is not None}
    for router in cluster.routers:
        linked = {link.node for link in router.router.fleet.up()} if router.router else set()
        found += [f"{router.name} is not connected to {node}" for node in sorted(live - linked)]
    wanted: Holds = defaultdict(lambda: defaultdict(set))
    for version in held(state):
        for stored, extent in extents(version):
            what = f"{version.key}, tickets from {format_id(extent.first)}"
            if extent.owed:
                found.append(f"{what}: owed {extent.owed}")
            if len(extent.nodes) != min(replicas_of(cluster, state, version), len(live)):
                found.append(f"{what}: on {extent.nodes}")
            if not live.issuperset(extent.nodes):
                found.append(f"{what}: on {extent.nodes}, of which only {sorted(live)} live")
            for node in extent.nodes:
                tickets = range(extent.first, extent.first + extent.count)
                wanted[node][stored.object_id].update(tickets)
    return found + differences(wanted, holdings(cluster))


def scarce_records(cluster: Cluster) -> list[str]:
    """Records without an object that fewer putters have than should."""
    state = cluster.meta.snapshot()
    live = [putter for putter in cluster.putters if putter.engine is not None]
    copies: dict[tuple[int, str], int] = defaultdict(int)
    for putter in live:
        assert putter.engine is not None
        for numbered in putter.engine.records(0, _ALL):
            if numbered.record.object_id:
                continue
            record = records.decode(numbered.record.body)
            if isinstance(record, records.Change):
                copies[record.stamp, record.bucket] += 1
    return [
        f"record {stamp} of {bucket} is on {count} putters"
        for (stamp, bucket), count in copies.items()
        if count < min(replicas_in(cluster, state, bucket), len(live))
    ]


def differences(wanted: Holds, actual: Holds) -> list[str]:
    """What putters lack, and what they hold too much."""
    found = []
    for node in sorted({*wanted, *actual}):
        for object_id in sorted({*wanted[node], *actual[node]}):
            should, does = wanted[node][object_id], actual[node][object_id]
            if lacking := should - does:
                found.append(f"{node} lacks {len(lacking)} tickets of {object_id}")
            if beyond := does - should:
                found.append(f"{node} holds {len(beyond)} tickets of {object_id} too much")
    return found


def held(state: State) -> list[Version]:
    """All that names hold."""
    return [
        name.version
        for bucket in state.buckets.values()
        for name in bucket.names.values()
        if name.version is not None
    ]


def replicas_of(cluster: Cluster, state: State, version: Version) -> int:
    """How many putters should hold a version."""
    return replicas_in(cluster, state, version.bucket)


def replicas_in(cluster: Cluster, state: State, bucket: str) -> int:
    """How many putters should hold what belongs to a bucket."""
    known = state.buckets.get(bucket)
    settings = known.settings if known is not None else None
    own: int | None = settings.settings.get("replicas") if settings is not None else None
    return own or cluster.policy.replicas


def extents(version: Version) -> Iterator[tuple[StoredObject, Extent]]:
    """Of a version, with their objects."""
    for stored in version.objects:
        for extent in stored.extents:
            yield stored, extent


def holdings(cluster: Cluster) -> Holds:
    """What lies on the disks of those that live."""
    found: Holds = defaultdict(lambda: defaultdict(set))
    for putter in cluster.putters:
        if putter.node is not None and putter.engine is not None:
            for entry in putter.engine.holdings("", _ALL).entries:
                mine = range(entry.first, entry.first + entry.count)
                found[putter.identity][entry.object_id].update(mine)
    return found


def records_are_redundant(cluster: Cluster) -> bool:
    """Whether each record that a name needs is on W putters at least.

    Those of files without a byte are not copied again where that many were not there.
    """
    copies: dict[int, int] = defaultdict(int)
    for putter in cluster.putters:
        assert putter.engine is not None
        for numbered in putter.engine.records(0, _ALL):
            copies[numbered.record.stamp] += 1
    return all(
        copies[version.stamp] >= cluster.policy.write_quorum
        for version in held(cluster.meta.snapshot())
    )


def check_replicas(cluster: Cluster) -> None:
    """Every replica of everything is right, byte by byte."""
    check = NodeCheck(Keyring([KEY]))
    engines = {p.identity: p.engine for p in cluster.putters if p.engine is not None}
    owners: dict[int, str] = {}
    for version in held(cluster.meta.snapshot()):
        for stored, extent in extents(version):
            for ticket in range(extent.first, extent.first + extent.count):
                owner = owners.setdefault(ticket, stored.object_id)
                assert owner == stored.object_id, f"ticket {ticket} was used twice"
            found = []
            for node in extent.nodes:
                rows = b""
                for piece in engines[node].read(extent.first, extent.count):
                    statuses = check.frames(
                        piece.key_id, piece.first, piece.frame_bytes, piece.frames
                    )
                    assert statuses is not None
                    assert not statuses.any(), (node, piece.first)
                    rows += bytes(piece.frames)
                found.append(rows)
            assert len(set(found)) == 1, f"replicas of {version.key} are different"


def check_numbers(cluster: Cluster) -> None:
    """No stamp and no ObjectID was given twice, whoever forgot what."""
    by_stamp: dict[int, bytes] = {}
    names: dict[str, str] = {}
    for putter in cluster.putters:
        assert putter.engine is not None
        for numbered in putter.engine.records(0, _ALL):
            record = records.decode(numbered.record.body)
            stamp, body = numbered.record.stamp, numbered.record.body
            assert by_stamp.setdefault(stamp, body) == body, f"stamp {stamp} was given twice"
            if isinstance(record, Version):
                for stored in record.objects:
                    assert names.setdefault(stored.object_id, record.key) == record.key
            assert isinstance(record, Members) or record.stamp


def check_disks(cluster: Cluster) -> None:
    """A start finds on each disk what the engine said that it holds, in as much space."""
    for putter in cluster.putters:
        assert putter.node is None, "stop the cluster first"
        assert putter.engine is not None
        before = accounts(cluster, putter)
        putter.engine = cluster.open_engine(putter)
        assert accounts(cluster, putter) == before, putter.name
        putter.engine.close()


def accounts(cluster: Cluster, putter: SimPutter) -> tuple[object, ...]:
    """What an engine says of itself."""
    engine = putter.engine
    assert engine is not None
    return (
        engine.holdings("", _ALL).entries,
        [(each.number, each.record.stamp) for each in engine.records(0, _ALL)],
        engine.last_number,
    )
