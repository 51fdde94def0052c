"""What putters lack, and what they hold too much, in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from common.limits import LIST_PAGE_MAX
from common.meta.memory_state import Bucket, Name, State, Times, Visited
from common.meta.moves import is_same, moves, surplus_of
from common.meta.outbox import Post
from common.meta.repairs import Debt, Described, Owed, Surplus
from common.meta.values import debtors, pack_version, token, unpack_version
from common.records import StoredObject, Version


class MemoryRepairs:
    """`common.meta.repairs.Repairs` in memory: debts are counted whenever somebody asks."""

    def __init__(self, store: Visited, times: Times) -> None:
        self._store = store
        self._times = times

    async def debts(self) -> Mapping[str, Debt]:
        """How much each putter lacks; only those that lack something."""

        def effect(state: State) -> Mapping[str, Debt]:
            debts: dict[str, Debt] = {}
            for _, stored in _held(state):
                for node in debtors(stored):
                    so_far = debts.get(node, Debt())
                    debts[node] = Debt(so_far.objects + 1, so_far.size + stored.size)
            return debts

        return await self._store.visit(effect)

    async def owed(self, node: str, limit: int, after: str = "") -> list[Owed]:
        """Some of what a putter lacks, by bucket and ObjectID in the order of their bytes."""
        _check_limit(limit)

        def effect(state: State) -> list[Owed]:
            found = [
                Owed(node, stored.object_id, version, pack_version(version))
                for version, stored in _held(state)
                if node in debtors(stored)
            ]
            found.sort(key=lambda each: _words(each.place))
            return [each for each in found if _words(each.place) > _words(after)][:limit]

        return await self._store.visit(effect)

    async def described(self, bucket: str, after: str, limit: int) -> list[Described]:
        """What the names of a bucket hold, in the order of their bytes."""
        if not 1 <= limit <= LIST_PAGE_MAX:
            raise ValueError(f"a page has 1…{LIST_PAGE_MAX} entries, not {limit}")

        def effect(state: State) -> list[Described]:
            names = state.buckets.get(bucket, Bucket()).names
            held = [name.version for key, name in sorted(names.items()) if key > after]
            return [Described(each, pack_version(each)) for each in held if each][:limit]

        return await self._store.visit(effect)

    async def at(self, bucket: str, key: str) -> Described | None:
        """What a name of this very bucket holds; None if it holds nothing."""

        def effect(state: State) -> Described | None:
            name = state.buckets.get(bucket, Bucket()).names.get(key)
            version = name.version if name is not None else None
            return Described(version, pack_version(version)) if version is not None else None

        return await self._store.visit(effect)

    async def reach(self, bucket: str, object_id: str, node: str) -> bool:
        """Note that a putter may hold some of a written object, before it is sent any of it."""
        token(node)

        def effect(state: State) -> bool:
            known = state.object(bucket, object_id)
            now_ms = self._now_ms()
            if known is None or known.state != "written":
                return False
            surplus = state.buckets[bucket].surplus
            if surplus.get((node, object_id), now_ms + 1) <= now_ms:
                return False
            known.nodes = tuple(sorted({*known.nodes, node}))
            surplus[node, object_id] = now_ms + self._times.reach_ms
            return True

        return await self._store.visit(effect)

    async def amend(self, token: bytes, version: Version, post: Post | None = None) -> bool:
        """Replace the description of a version that a name holds, in one step."""
        old = unpack_version(version.bucket, version.key, token)
        if old is None or not is_same(old, version):
            raise ValueError("a version is described anew with the same name, stamp and objects")

        def effect(state: State) -> bool:
            bucket = state.bucket(version.bucket)
            name = bucket.names.get(version.key)
            held = pack_version(name.version) if name and name.version else b""
            if held == pack_version(version):
                return True
            if name is None or held != token or not self._all_reached(bucket, old, version):
                return False
            describe_anew(bucket, name, version, self._times)
            state.post(version.bucket, post)
            return True

        return await self._store.visit(effect)

    async def surplus(
        self, limit: int, after: str = "", absent: Collection[str] = ()
    ) -> list[Surplus]:
        """What may be freed now, by bucket, putter and ObjectID in the order of their bytes."""
        _check_limit(limit)

        def effect(state: State) -> list[Surplus]:
            found = [
                each
                for _, bucket in sorted(state.buckets.items())
                for each in self._due(bucket)
                if each.node not in absent and _words(each.place) > _words(after)
            ]
            return found[:limit]

        return await self._store.visit(effect)

    async def freed(self, surplus: Surplus) -> None:
        """It is freed there. Nothing changes if it became another surplus, or none, meanwhile."""

        def effect(state: State) -> None:
            bucket = state.buckets.get(surplus.bucket, Bucket())
            entry = (surplus.node, surplus.object_id)
            if bucket.surplus.get(entry) != surplus.due_ms:
                return
            del bucket.surplus[entry]
            known = bucket.objects.get(surplus.object_id)
            if known and known.version:
                known.nodes = tuple(node for node in known.nodes if node != surplus.node)

        await self._store.visit(effect)

    def _all_reached(self, bucket: Bucket, old: Version, new: Version) -> bool:
        now_ms = self._now_ms()
        return all(
            bucket.surplus.get((node, now.object_id), now_ms) > now_ms
            for was, now in zip(old.objects, new.objects, strict=True)
            for node in moves(was, now).gaining
        )

    def _due(self, bucket: Bucket) -> Iterator[Surplus]:
        now_ms = self._now_ms()
        for (node, object_id), due_ms in sorted(bucket.surplus.items()):
            if due_ms > now_ms:
                continue
            known = bucket.objects.get(object_id)
            version = known.version if known and known.state == "written" else None
            name = bucket.names.get(version.key) if version else None
            if not known or not version or not name or name.version != version:
                del bucket.surplus[node, object_id]
            elif not known.is_read(now_ms):
                yield surplus_of(version, object_id, node, due_ms)

    def _now_ms(self) -> int:
        return self._times.clock.now_ms()


def describe_anew(bucket: Bucket, name: Name, version: Version, times: Times) -> None:
    """Replace the description of the version that a name holds."""
    old = name.version
    assert old is not None
    name.version = version
    for was, now in zip(old.objects, version.objects, strict=True):
        change = moves(was, now)
        known = bucket.objects.get(now.object_id)
        if known and known.state == "written":
            known.version = version
            known.nodes = tuple(sorted({*known.nodes, *change.losing}.difference(change.entire)))
        for node in change.entire:
            bucket.surplus.pop((node, now.object_id), None)
        for node in change.losing:
            bucket.surplus[node, now.object_id] = times.clock.now_ms() + times.grace_ms


def _held(state: State) -> list[tuple[Version, StoredObject]]:
    """Every object of what names hold."""
    return [
        (name.version, stored)
        for bucket in state.buckets.values()
        for name in bucket.names.values()
        if name.version
        for stored in name.version.objects
    ]


def _words(place: str) -> list[str]:
    return place.split(" ")


def _check_limit(limit: int) -> None:
    if limit < 1:
        raise ValueError(f"a limit is 1 or more, not {limit}")
