"""Objects and files of the coordinator in memory."""

from __future__ import annotations

import builtins

from common.errors import ObjectGone
from common.limits import LIST_PAGE_MAX
from common.meta.interface import (
    Begin,
    Commit,
    Entry,
    ObjectState,
    Outcome,
    Page,
    Progress,
)
from common.meta.memory_state import Bucket, Name, Object, State, Times, Visited
from common.meta.memory_use import over_quota
from common.meta.memory_versions import current, histories, rank_of, versioning
from common.meta.outbox import Post
from common.meta.outcomes import UNGUARDED, Guard, Rank
from common.meta.values import pack_nodes, stored_state, token
from common.records import Tombstone, Version
from common.versions import has_versions, plain_name


class MemoryObjects:
    """`common.meta.interface.Objects` in memory."""

    def __init__(self, store: Visited, times: Times) -> None:
        self._store = store
        self._times = times

    async def begin(self, item: Begin) -> None:
        """``— → writing``. A repeated call with the same router changes nothing."""
        fresh = Object(
            state="writing",
            router=token(item.router),
            acked=0,
            ranges=item.ranges,
            nodes=_in_order(item.nodes),
            due_ms=0,
        )

        def effect(state: State) -> bool:
            objects = state.bucket(item.bucket).objects
            if item.object_id not in objects:
                fresh.due_ms = self._now_ms() + item.lease_ms
                objects[item.object_id] = fresh
            return objects[item.object_id].router == item.router

        if not await self._store.visit(effect):
            raise ObjectGone(f"object {item.object_id} was begun by another router")

    async def progress(self, item: Progress) -> bool:
        """Note ticket totals and extend the lease. False if the object is not ``writing``."""

        def effect(state: State) -> bool:
            known = state.object(item.bucket, item.object_id)
            if known is None or known.state != "writing":
                return False
            known.acked = max(known.acked, item.acked)
            known.due_ms = self._now_ms() + item.lease_ms
            if item.ranges is not None:
                known.ranges = item.ranges
            if item.nodes is not None:
                known.nodes = _in_order(item.nodes)
            return True

        return await self._store.visit(effect)

    async def commit(self, item: Commit) -> Outcome:
        """Publish a version; see `common.meta.interface.Objects.commit`."""
        return await self._store.visit(lambda state: self._commit(state, item))

    def _commit(self, state: State, item: Commit) -> Outcome:
        version = item.version
        bucket = state.bucket(version.bucket)
        name = bucket.names.get(version.key)
        if name and name.version and name.stamp == version.stamp:
            return Outcome.PUBLISHED
        objects: list[Object] = []
        for stored in version.objects:
            known = bucket.objects.get(stored.object_id)
            if known and known.state == "deleted" and _stamp(known) == version.stamp:
                return Outcome.SUPERSEDED
            if known is None or known.state != "writing":
                return Outcome.GONE
            objects.append(known)
        if item.acked != item.tickets:
            return Outcome.INCOMPLETE
        refusal = _refusal(state, item, name)
        if refusal is not None:
            return refusal

        if item.if_match is not None:
            plain, key = plain_name(version)
            state.bucket(plain).claims.pop(key, None)
        for known in objects:
            known.state = "written"
            known.version = version
        state.post(version.bucket, item.post)
        if name and name.stamp >= version.stamp:
            retire(bucket, version, self._times)
            return Outcome.SUPERSEDED
        if name and name.version:
            retire(bucket, name.version, self._times)
        bucket.names[version.key] = Name(version.stamp, version)
        bucket.held = True
        return Outcome.PUBLISHED

    async def fail(self, bucket: str, object_id: str) -> bool:
        """``writing → failed``. False if it was not ``writing`` (or failed already)."""

        def effect(state: State) -> bool:
            known = state.object(bucket, object_id)
            if known is None or known.state != "writing":
                return False
            known.state = "failed"
            known.due_ms = self._now_ms() + self._times.grace_ms
            return True

        return await self._store.visit(effect)

    async def postpone(self, bucket: str, object_id: str, delay_ms: int) -> None:
        """Leave a ``failed`` or ``deleted`` object out of `to_free` for so long."""

        def effect(state: State) -> None:
            known = state.object(bucket, object_id)
            if known and known.state in ("failed", "deleted"):
                known.due_ms = self._now_ms() + delay_ms

        await self._store.visit(effect)

    async def forget(self, bucket: str, object_id: str) -> None:
        """Remove what is left of a ``failed`` or ``deleted`` object."""

        def effect(state: State) -> None:
            known = state.object(bucket, object_id)
            if known and known.state in ("failed", "deleted"):
                del state.buckets[bucket].objects[object_id]

        await self._store.visit(effect)

    async def hold(self, bucket: str, object_id: str, reader: str, lease_ms: int) -> bool:
        """Keep a written object's bytes while ``reader`` reads them; repeat it to extend."""
        token(reader)

        def effect(state: State) -> bool:
            known = state.object(bucket, object_id)
            now_ms = self._now_ms()
            if known is None or known.state not in ("written", "deleted"):
                return False
            if known.state == "deleted" and known.due_ms <= now_ms and not known.is_read(now_ms):
                return False
            known.readers[reader] = now_ms + lease_ms
            return True

        return await self._store.visit(effect)

    async def release(self, bucket: str, object_id: str, reader: str) -> None:
        """The reader is done."""
        token(reader)

        def effect(state: State) -> None:
            known = state.object(bucket, object_id)
            if known:
                known.readers.pop(reader, None)

        await self._store.visit(effect)

    async def get(self, object_id: str) -> ObjectState | None:
        """Look an object up in all buckets."""

        def effect(state: State) -> ObjectState | None:
            for name, bucket in sorted(state.buckets.items()):
                if object_id in bucket.objects:
                    return _describe(name, object_id, bucket.objects[object_id])
            return None

        return await self._store.visit(effect)

    async def stale(self, limit: int) -> list[ObjectState]:
        """Objects still ``writing`` although their lease ran out, oldest first."""
        return await self._store.visit(lambda state: self._due(state, limit, ("writing",)))

    async def to_free(self, limit: int) -> list[ObjectState]:
        """Objects ``failed`` or ``deleted`` whose grace time is over and that nobody reads."""

        def effect(state: State) -> list[ObjectState]:
            for bucket in state.buckets.values():
                drop_old_tombstones(bucket, self._now_ms())
            return self._due(state, limit, ("failed", "deleted"))

        return await self._store.visit(effect)

    def _due(self, state: State, limit: int, states: tuple[str, ...]) -> list[ObjectState]:
        if limit < 1:
            raise ValueError(f"a limit is 1 or more, not {limit}")
        now_ms = self._now_ms()
        due = [
            (known.due_ms, name, object_id, known)
            for name, bucket in sorted(state.buckets.items())
            for object_id, known in bucket.objects.items()
            if known.state in states and known.due_ms <= now_ms and not known.is_read(now_ms)
        ]
        due.sort(key=lambda each: each[:3])
        return [_describe(name, object_id, known) for _, name, object_id, known in due[:limit]]

    def _now_ms(self) -> int:
        return self._times.clock.now_ms()


class MemoryFiles:
    """`common.meta.interface.Files` in memory."""

    def __init__(self, store: Visited, times: Times) -> None:
        self._store = store
        self._times = times

    async def resolve(
        self,
        bucket: str,
        key: str,
        patience_ms: int | None = None,  # noqa: ARG002 - it answers at once, whatever it answers
    ) -> Version | None:
        """The version the name holds now, or None."""

        def effect(state: State) -> Version | None:
            if has_versions(bucket):
                known = state.buckets.get(bucket, Bucket()).names.get(key)
                held = known.version if known else None
            else:
                held = current(state, bucket, key)
            return None if held is None or held.is_marker else held

        return await self._store.visit(effect)

    async def delete(
        self, tombstone: Tombstone, post: Post | None = None, guard: Guard = UNGUARDED
    ) -> Outcome:
        """The name holds nothing from the tombstone's stamp on."""
        return await self._store.visit(lambda state: self._delete(state, tombstone, post, guard))

    def _delete(
        self, state: State, tombstone: Tombstone, post: Post | None, guard: Guard
    ) -> Outcome:
        bucket = state.bucket(tombstone.bucket)
        name = bucket.names.get(tombstone.key)
        buried = Name(
            tombstone.since,
            None,
            forget_ms=self._times.clock.now_ms() + self._times.tombstone_ms,
            by=tombstone.stamp,
        )
        if tombstone.of:
            return self._delete_version(state, name, tombstone, buried, post, guard)
        if name and name.version:
            if name.stamp < tombstone.stamp and self._keeps(name.version, guard):
                return Outcome.LOCKED
            state.post(tombstone.bucket, post)
            if name.stamp >= tombstone.stamp:
                return Outcome.SUPERSEDED
            retire(bucket, name.version, self._times)
            bucket.names[tombstone.key] = buried
            return Outcome.PUBLISHED
        if name and name.stamp == tombstone.stamp and name.found:
            return Outcome.PUBLISHED
        if name is None or name.stamp < tombstone.stamp:
            buried.found = False
            bucket.names[tombstone.key] = buried
        return Outcome.ABSENT

    def _keeps(self, version: Version, guard: Guard) -> bool:
        return version.lock.keeps(self._times.clock.now_ms(), bypass=guard.bypass)

    def _delete_version(
        self,
        state: State,
        name: Name | None,
        tombstone: Tombstone,
        buried: Name,
        post: Post | None,
        guard: Guard,
    ) -> Outcome:
        bucket = state.bucket(tombstone.bucket)
        if name and name.version is None and (name.stamp, name.by) == (buried.stamp, buried.by):
            return Outcome.PUBLISHED
        if name is None or name.version is None or name.stamp != tombstone.of:
            return Outcome.REFUSED
        if guard.rank not in (Rank.ANY, rank_of(state, name.version)):
            return Outcome.REFUSED
        if self._keeps(name.version, guard):
            return Outcome.LOCKED
        bucket.claims.pop(tombstone.key, None)
        retire(bucket, name.version, self._times)
        bucket.names[tombstone.key] = buried
        state.post(tombstone.bucket, post)
        return Outcome.PUBLISHED

    async def list(self, bucket: str, prefix: str, after: str, limit: int) -> Page:
        """Names that start with ``prefix`` and sort behind ``after``, a page of them."""
        if not 1 <= limit <= LIST_PAGE_MAX:
            raise ValueError(f"a page has 1…{LIST_PAGE_MAX} entries, not {limit}")

        def effect(state: State) -> Page:
            names = state.buckets.get(bucket, Bucket()).names
            if has_versions(bucket):
                now = {key: name.version for key, name in names.items() if name.version}
            else:
                now = {key: each[0] for key, each in histories(state, bucket).items()}
            # Code points sort like the bytes of their UTF-8.
            keys = sorted(key for key in now if key.startswith(prefix) and key > after)
            held = [(key, now[key]) for key in keys[:limit]]
            entries = tuple(_entry(key, version) for key, version in held if version.etag)
            return Page(entries, held[-1][0] if len(keys) > limit else None)

        return await self._store.visit(effect)

    async def buckets(self) -> builtins.list[str]:
        """All buckets that ever held a file, sorted."""
        return await self._store.visit(
            lambda state: sorted(name for name, bucket in state.buckets.items() if bucket.held)
        )


def _refusal(state: State, item: Commit, name: Name | None) -> Outcome | None:
    """Why a version whose tickets are all acknowledged is not published; None if it is."""
    version = item.version
    if has_versions(version.bucket) != (versioning(state, version.bucket) == "Enabled"):
        return Outcome.ELSEWHERE
    plain, key = plain_name(version)
    held = current(state, plain, key)
    if not holds(item.if_match, held) or item.replaces not in (0, held and held.stamp):
        return Outcome.REFUSED
    return Outcome.OVER_QUOTA if over_quota(state, plain, name, version) else None


def retire(bucket: Bucket, version: Version, times: Times) -> None:
    """A version that no name holds (any more): its objects are deleted."""
    for stored in version.objects:
        known = bucket.objects.get(stored.object_id)
        if known:
            known.state = "deleted"
            known.due_ms = times.clock.now_ms() + times.grace_ms


def drop_old_tombstones(bucket: Bucket, now_ms: int) -> None:
    """Forget deletions that are remembered for long enough."""
    for key, name in list(bucket.names.items()):
        if name.version is None and name.forget_ms <= now_ms:
            del bucket.names[key]


def _describe(bucket: str, object_id: str, known: Object) -> ObjectState:
    if known.version is not None:
        return stored_state(known.state, known.version, object_id, known.router, known.nodes)
    return ObjectState(
        bucket=bucket,
        object_id=object_id,
        state=known.state,
        tickets=0,
        acked=known.acked,
        key="",
        stamp=0,
        router=known.router,
        ranges=known.ranges,
        nodes=known.nodes,
    )


def _in_order(nodes: tuple[str, ...]) -> tuple[str, ...]:
    pack_nodes(nodes)
    return tuple(sorted(set(nodes)))


def _stamp(known: Object) -> int:
    return known.version.stamp if known.version else 0


def holds(if_match: str | None, held: Version | None) -> bool:
    """Whether what a name holds fulfils a condition; a delete marker is nothing."""
    if held is not None and held.is_marker:
        held = None
    if if_match is None:
        return True
    if if_match == "":
        return held is None
    return held is not None and if_match in ("*", held.etag)


def _entry(key: str, version: Version) -> Entry:
    return Entry(key, version.size, version.etag, version.stamp, version.created_ms)
