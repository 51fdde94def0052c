"""Bringing the coordinator in memory up to date; see `common.meta.recovery`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from common.errors import MetadataUnavailable, PutterError
from common.meta.memory_access import rekey
from common.meta.memory_buckets import configure
from common.meta.memory_repairs import describe_anew
from common.meta.memory_state import Bucket, Name, Object, State, Times
from common.meta.memory_tables import retire
from common.meta.moves import is_same
from common.meta.recovery import Finding, Mark, Restored, Standing
from common.meta.values import merge_ranges, named_nodes
from common.records import (
    Abort,
    AccessKey,
    BucketSettings,
    StoredObject,
    Tombstone,
    Version,
    joined,
)

if TYPE_CHECKING:
    from common.meta.memory import MemoryMetadata

_NOBODY: Final = "-"


class MemoryRecovery:
    """`common.meta.recovery.Recovery` in memory."""

    def __init__(self, store: MemoryMetadata, times: Times) -> None:
        self._store = store
        self._times = times
        self.refusal: PutterError | None = None

    async def standing(self) -> Standing:
        """Where it stands."""

        def effect(state: State) -> Standing:
            epoch = self._store.epoch
            return Standing(
                epoch=epoch,
                complete=state.complete == epoch,
                established=state.epoch == epoch,
                fresh=state.complete is None,
                stamp=state.stamp,
                ceilings=state.ceilings,
                marks=dict(state.marks),
            )

        return await self._store.visit(effect)

    async def restore(self, findings: Sequence[Finding], *, anew: bool) -> list[Restored]:
        """Apply records, whatever the standing is."""

        def effect(state: State) -> list[Restored]:
            return [self._restore(state, finding, anew=anew) for finding in findings]

        return await self._store.visit(effect)

    async def begin(self, epoch: str, token: str) -> bool:
        """Begin an attempt to complete it; an earlier one ends. False in another run."""

        def effect(state: State) -> bool:
            if epoch != self._store.epoch:
                return False
            state.attempt = token
            return True

        return await self._store.visit(effect)

    async def forget(self, node: str) -> None:
        """The putter does not belong to the cluster any more."""

        def effect(state: State) -> None:
            state.marks.pop(node, None)

        await self._store.visit(effect)

    async def mark(self, epoch: str, marks: Mapping[str, Mark], token: str = "") -> bool:
        """Note how far putters are applied; numbers only go up."""

        def effect(state: State) -> bool:
            counts = state.attempt == token if token else state.complete == epoch
            if epoch != self._store.epoch or not counts:
                return False
            for node, mark in marks.items():
                held = state.marks.get(node, Mark())
                state.marks[node] = Mark(max(held.number, mark.number), mark.epoch or held.epoch)
            return True

        return await self._store.visit(effect)

    async def complete(self, standing: Standing, stamp: int, token: str) -> bool:
        """All records that may have been missing are applied: serve."""

        def effect(state: State) -> bool:
            if standing.epoch != self._store.epoch or state.attempt != token:
                return False
            state.complete, state.stamp, state.attempt = standing.epoch, stamp, ""
            return True

        return await self._store.visit(effect)

    async def writing(self, limit: int) -> list[tuple[str, str]] | None:
        """Bucket and ObjectID of all that is ``writing``; None if that is more than ``limit``."""

        def effect(state: State) -> list[tuple[str, str]]:
            self.check(state)
            return [
                (name, object_id)
                for name, bucket in sorted(state.buckets.items())
                for object_id, known in bucket.objects.items()
                if known.state == "writing"
            ]

        found = await self._store.visit(effect)
        return found if len(found) <= limit else None

    async def absent(self, object_ids: Sequence[str]) -> set[str]:
        """Those of the objects that no bucket knows."""

        def effect(state: State) -> set[str]:
            self.check(state)
            return set(object_ids).difference(*(b.objects for b in state.buckets.values()))

        return await self._store.visit(effect)

    def refuse(self, reason: PutterError | None) -> None:
        """Answer calls that find the coordinator incomplete with this."""
        self.refusal = reason

    def check(self, state: State) -> None:
        """Raise what a call gets while the coordinator is not complete."""
        if state.complete != self._store.epoch:
            raise self.refusal or MetadataUnavailable(
                "the coordinator in memory was not brought up to date with the putters"
            )

    # -- inside ----------------------------------------------------------------------------

    def _restore(self, state: State, finding: Finding, *, anew: bool) -> Restored:
        record = finding.record
        bucket = state.bucket(record.bucket)
        match record:
            case Tombstone():
                return self._tombstone(bucket, record)
            case Abort():
                return self._abort(bucket, record)
            case Version():
                return self._version(bucket, record, whole=finding.whole, anew=anew)
            case BucketSettings():
                return self._settings(bucket, record)
            case AccessKey():
                return self._access(bucket, record)

    def _tombstone(self, bucket: Bucket, record: Tombstone) -> Restored:
        bucket.held = True
        name = bucket.names.get(record.key)
        if name and name.stamp > record.since:
            return Restored.SUPERSEDED
        if name and name.stamp == record.since and name.version is None:
            return Restored.KNOWN
        if name and name.version:
            retire(bucket, name.version, self._times)
        forget_ms = self._times.clock.now_ms() + self._times.tombstone_ms
        bucket.names[record.key] = Name(record.since, None, forget_ms=forget_ms, by=record.stamp)
        return Restored.APPLIED

    def _settings(self, bucket: Bucket, record: BucketSettings) -> Restored:
        if bucket.settings is not None and bucket.settings.stamp == record.stamp:
            return Restored.KNOWN
        return Restored.APPLIED if configure(bucket, record) else Restored.SUPERSEDED

    def _access(self, bucket: Bucket, record: AccessKey) -> Restored:
        held = bucket.access.get(record.key)
        if held is not None and held.stamp == record.stamp:
            return Restored.KNOWN
        return Restored.APPLIED if rekey(bucket, record) else Restored.SUPERSEDED

    def _abort(self, bucket: Bucket, record: Abort) -> Restored:
        object_id = record.object_id or f"!{record.aborted}"
        known = bucket.objects.get(object_id)
        if known is None:
            self._doom(bucket, object_id, Object("failed", _NOBODY, 0, (), (), 0))
            return Restored.APPLIED
        if known.state == "writing":
            known.acked = 0
            self._doom(bucket, object_id, known)
            return Restored.APPLIED
        return Restored.KNOWN if known.state == "failed" else Restored.CONFLICT

    def _version(self, bucket: Bucket, version: Version, *, whole: bool, anew: bool) -> Restored:
        name = bucket.names.get(version.key)
        if not version.objects and f"!{version.stamp}" in bucket.objects:
            return Restored.ABORTED
        if name and name.version and name.stamp == version.stamp:
            return _describe_again(bucket, name, version, self._times)
        verdict, newer = _judge(bucket, version, name, self._times, anew=anew)
        if verdict is None and not whole and not newer:
            verdict = Restored.ABORTED
        if verdict is Restored.ABORTED:
            self._give_up(bucket, version.objects)
        if verdict is not None:
            return verdict
        for stored in version.objects:
            known = bucket.objects.get(stored.object_id)
            if newer and known and known.state == "written":
                strays = set(known.nodes).difference(named_nodes(stored))
                _may_free(bucket, stored.object_id, strays, self._times)
            bucket.objects[stored.object_id] = Object(
                state="written",
                router=known.router if known else _NOBODY,
                acked=0,
                ranges=(),
                nodes=_joined(known.nodes if known else (), stored),
                due_ms=0,
                version=version,
            )
        bucket.held = True
        if name and name.stamp >= version.stamp:
            retire(bucket, version, self._times)
            return Restored.SUPERSEDED
        if name and name.version and not newer:
            retire(bucket, name.version, self._times)
        bucket.names[version.key] = Name(version.stamp, version)
        return Restored.APPLIED

    def _give_up(self, bucket: Bucket, objects: tuple[StoredObject, ...]) -> None:
        for stored in objects:
            known = bucket.objects.get(stored.object_id)
            if known is None or known.state in ("writing", "failed"):
                fresh = known or Object("failed", _NOBODY, 0, (), (), 0)
                ranges = merge_ranges(stored.extents)
                if fresh.ranges and fresh.ranges != ranges:
                    both = {*fresh.ranges, *ranges}
                    ranges = tuple(sorted(both, key=lambda each: f"{each[0]}+{each[1]}"))
                fresh.acked, fresh.ranges = 0, ranges
                fresh.nodes = _joined(fresh.nodes, stored)
                self._doom(bucket, stored.object_id, fresh)

    def _doom(self, bucket: Bucket, object_id: str, known: Object) -> None:
        known.state = "failed"
        known.due_ms = self._times.clock.now_ms() + self._times.grace_ms
        bucket.objects[object_id] = known


def _describe_again(bucket: Bucket, name: Name, version: Version, times: Times) -> Restored:
    """One more description of what the name holds."""
    held = name.version
    if held == version:
        return Restored.KNOWN
    for stored in version.objects:
        known = bucket.objects.get(stored.object_id)
        described = known.version if known else None
        if known and described and described.key == version.key:
            _add_strays(bucket, known, stored, times)
    if held is None or not is_same(held, version):
        return Restored.KNOWN
    true = joined(held, version)
    if true == held:
        return Restored.KNOWN
    describe_anew(bucket, name, true, times)
    return Restored.APPLIED


def _judge(
    bucket: Bucket, version: Version, name: Name | None, times: Times, *, anew: bool
) -> tuple[Restored | None, bool]:
    """What becomes of a version by its objects alone, None if they stand in no way.

    And whether the name holds an older description of the same object.
    """
    verdict: Restored | None = None
    newer = False
    for stored in version.objects:
        known = bucket.objects.get(stored.object_id)
        if known is None or (known.state == "writing" and anew):
            continue
        if known.state == "writing":
            return Restored.WAITS, False
        if known.state == "failed":
            verdict = Restored.ABORTED
            continue
        described = known.version
        assert described is not None
        if described.key != version.key:
            return Restored.CONFLICT, False
        if verdict is not None:
            continue
        if described.stamp != version.stamp:
            holds = bool(known.state == "written" and name and name.version == described)
            newer = holds and described.stamp < version.stamp
            if not newer:
                _add_strays(bucket, known, stored, times)
        if not newer:
            verdict = Restored.KNOWN
    return verdict, newer


def _add_strays(bucket: Bucket, known: Object, stored: StoredObject, times: Times) -> None:
    """Another description of an object: its nodes may hold some of it, too."""
    if known.state == "written":
        strays = set(named_nodes(stored)).difference(known.nodes)
        _may_free(bucket, stored.object_id, strays, times)
    known.nodes = _joined(known.nodes, stored)


def _may_free(bucket: Bucket, object_id: str, nodes: Collection[str], times: Times) -> None:
    """They may hold some of it, and need not as far as other descriptions say."""
    for node in sorted(nodes):
        bucket.surplus.setdefault((node, object_id), times.clock.now_ms() + times.grace_ms)


def _joined(nodes: tuple[str, ...], stored: StoredObject) -> tuple[str, ...]:
    return tuple(sorted({*nodes, *named_nodes(stored)}))
