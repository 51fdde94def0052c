"""Bringing Redis up to date; see `common.meta.recovery`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from common.errors import PutterError
from common.meta.calls import Args, Calls, bucket_script
from common.meta.files import RedisFiles
from common.meta.interface import Ceilings
from common.meta.link import Argument, Command
from common.meta.moves import is_same
from common.meta.recovery import Finding, Mark, Restored, Standing
from common.meta.redis_repairs import describe_anew
from common.meta.schema import BUCKETS, COUNTERS, MARKS, RUNS, bucket_key
from common.meta.scripts import script
from common.meta.values import (
    debtors,
    merge_ranges,
    named_nodes,
    pack_access,
    pack_debts,
    pack_kept,
    pack_nodes,
    pack_ranges,
    pack_settings,
    pack_version,
    unpack_version,
)
from common.records import (
    Abort,
    AccessKey,
    BucketSettings,
    Change,
    Tombstone,
    Version,
    is_described_anew,
    joined,
)

_ANSWERS: Final = {
    ord("P"): Restored.APPLIED,
    ord("D"): Restored.KNOWN,
    ord("S"): Restored.SUPERSEDED,
    ord("F"): Restored.ABORTED,
    ord("W"): Restored.WAITS,
    ord("X"): Restored.CONFLICT,
}
_PORTION: Final = 200
"""Records in one call of the script: a server does nothing else meanwhile."""
_ASKED: Final = 1_000
"""ObjectIDs in one call."""
_KNOWN: Final = ord("1")


class RedisRecovery:
    """`common.meta.recovery.Recovery` in Redis.

    Args:
        calls: the way there.
        files: knows the buckets.
        times_ms: grace time, and how long a tombstone is remembered.
        random_word: stands for the run where the server knows no INFO.
        sharded: whether there are several servers.
    """

    def __init__(
        self,
        calls: Calls,
        files: RedisFiles,
        times_ms: tuple[int, int],
        random_word: str,
        *,
        sharded: bool,
    ) -> None:
        self._calls = calls
        self._files = files
        self._times_ms = times_ms
        self._random_word = random_word
        self._sharded = sharded
        self._attempting = False
        self._marked: set[str] = set()
        self._runs: set[str] = set()
        self._lost: set[str] = set()
        self._completed: bytes | None = None
        calls.admit_with(self._admit)

    async def standing(self) -> Standing:
        """Where it stands."""
        reply = await self._run("standing", MARKS)
        epoch, complete, established, stamp, *ceilings, packed = reply
        if self._completed not in {None, stamp}:
            # Somebody has completed it since; what is missing still is noticed again.
            self._runs.clear()
            self._lost.clear()
        self._completed = stamp
        lost = set(self._lost)
        marks = {
            node.decode(): _mark(value)
            for node, value in zip(packed[::2], packed[1::2], strict=True)
        }
        return Standing(
            epoch=epoch.decode(),
            complete=complete == epoch and not self._runs and not lost,
            established=established == epoch,
            fresh=not complete,
            stamp=int(stamp),
            ceilings=Ceilings(*(int(each) for each in ceilings)),
            marks=marks,
            runs=tuple(sorted(self._runs)),
            lost=tuple(sorted(lost)),
            sharded=self._sharded,
        )

    async def restore(self, findings: Sequence[Finding], *, anew: bool) -> list[Restored]:
        """Apply records, whatever the standing is."""
        by_bucket: dict[str, list[int]] = {}
        for index, finding in enumerate(findings):
            by_bucket.setdefault(finding.record.bucket, []).append(index)
        portions: list[list[int]] = []
        commands: list[Command] = []
        before = (*self._times_ms, int(anew))
        for bucket, indexes in by_bucket.items():
            for at in range(0, len(indexes), _PORTION):
                portion = indexes[at : at + _PORTION]
                words: list[Argument] = []
                for index in portion:
                    words += _words(findings[index])
                portions.append(portion)
                commands.append(bucket_script("restore", bucket, *before, *words))
        await self._register(by_bucket)
        answers: list[Restored] = [Restored.KNOWN] * len(findings)
        for portion, reply in zip(portions, await self._calls.run_all(commands), strict=True):
            for index, answer in zip(portion, reply, strict=True):
                answers[index] = _ANSWERS[answer]
        for index, finding in enumerate(findings):
            record = finding.record
            if answers[index] is not Restored.KNOWN or not isinstance(record, Version):
                continue
            if is_described_anew(record):
                answers[index] = await self._correct(record)
        return answers

    async def _register(self, buckets: Iterable[str]) -> None:
        """Note buckets before something is restored in them."""
        names = list(buckets)
        if self._attempting or not self._sharded:
            if names:
                await self._calls.run(Command((b"SADD", BUCKETS, *names)))
            return
        # Noted and not marked would mean lost, on a server beside that of the counters.
        for name in names:
            if name not in self._marked:
                run = await self._calls.run(bucket_script("serve", name, "?"))
                marked = await self._calls.run(
                    Command((b"HGET", bucket_key(name, "bucket"), b"run"))
                )
                await self._admit(name, run.decode(), (marked or b"-").decode(), registers=True)
                self._marked.add(name)

    async def _correct(self, version: Version) -> Restored:
        """Replace a description of the same version by what both of them say together."""
        key = bucket_key(version.bucket, "files")
        while True:
            value = await self._calls.run(Command((b"HGET", key, version.key)))
            held = unpack_version(version.bucket, version.key, value) if value else None
            if not held or not is_same(held, version):
                return Restored.KNOWN
            true = joined(held, version)
            if true == held:
                return Restored.KNOWN
            if await describe_anew(self._calls, "correct", value, true, self._times_ms[0]):
                return Restored.APPLIED

    async def begin(self, epoch: str, token: str) -> bool:
        """Begin an attempt to complete Redis; an earlier one ends. False in another run."""
        self._attempting = bool(await self._run("attempt", MARKS, epoch, token))
        return self._attempting

    async def forget(self, node: str) -> None:
        """The putter does not belong to the cluster any more."""
        await self._calls.run(Command((b"HDEL", MARKS, node)))

    async def mark(self, epoch: str, marks: Mapping[str, Mark], token: str = "") -> bool:
        """Note how far putters are applied; numbers only go up."""
        words: list[Argument] = []
        for node, mark in marks.items():
            words += (node, mark.number, mark.epoch)
        return bool(await self._run("mark", MARKS, epoch, token, *words))

    async def complete(self, standing: Standing, stamp: int, token: str) -> bool:
        """All records that may have been missing are applied: serve."""
        runs = {*standing.runs, "none"}
        if self._sharded:
            # Any of the servers may have lost a bucket: all are marked, with the runs of today.
            names = await self._calls.run(Command((b"SMEMBERS", BUCKETS)))
            served = [bucket_script("serve", name.decode(), "") for name in names]
            runs |= {run.decode() for run in await self._calls.run_all(served)}
        words: list[Argument] = [standing.epoch, stamp, token, *sorted(runs)]
        if not await self._run("complete", RUNS, *words):
            return False
        self._attempting = False
        self._marked.clear()
        self._runs.difference_update(standing.runs)
        self._lost.difference_update(standing.lost)
        return True

    async def writing(self, limit: int) -> list[tuple[str, str]] | None:
        """Bucket and ObjectID of all that is ``writing``; None if that is more than ``limit``."""
        buckets = await self._files.registered()
        replies = await self._calls.run_all(
            [bucket_script("underway", bucket, limit + 1) for bucket in buckets]
        )
        found = [
            (bucket, object_id.decode())
            for bucket, reply in zip(buckets, replies, strict=True)
            for object_id in reply
        ]
        return found if len(found) <= limit else None

    async def absent(self, object_ids: Sequence[str]) -> set[str]:
        """Those of the objects that no bucket knows, in whatever state."""
        left = sorted(set(object_ids))
        for bucket in await self._files.registered():
            portions = [left[at : at + _ASKED] for at in range(0, len(left), _ASKED)]
            replies = await self._calls.run_all(
                [bucket_script("known", bucket, *portion) for portion in portions]
            )
            left = [
                object_id
                for portion, reply in zip(portions, replies, strict=True)
                for object_id, known in zip(portion, reply, strict=True)
                if known != _KNOWN
            ]
        return set(left)

    def refuse(self, reason: PutterError | None) -> None:
        """Answer calls that find Redis incomplete with this at once; None: they wait."""
        self._calls.refusal = reason

    # -- inside ----------------------------------------------------------------------------

    async def _admit(self, bucket: str, run: str, marked: str, registers: bool) -> bool:  # noqa: FBT001 - as a callback
        """See `common.meta.calls.Admit`."""
        if not bucket:
            return True
        command = Command(
            (3, COUNTERS, RUNS, BUCKETS, self._random_word, bucket, run, marked, int(registers)),
            script("admit"),
        )
        answer = await self._calls.run(command)
        if answer == b"new":
            return False
        if answer == b"yes":
            await self._calls.run(bucket_script("serve", bucket, run))
            self._lost.discard(bucket)
            self._runs.discard(run)
        elif answer == b"lost":
            # Another router may be between noting and marking it.
            await asyncio.sleep(1)
            again = await self._calls.run(command)
            if again == b"lost":
                self._lost.add(bucket)
        elif self._sharded:
            self._runs.add(run)
        # Else the epoch tells; an answer about a run that is over, come late, tells nothing.
        return True

    async def _run(self, name: str, key: bytes, *words: Argument) -> Any:
        return await self._calls.run(
            Command((2, COUNTERS, key, self._random_word, *words), script(name))
        )


def _mark(value: bytes) -> Mark:
    number, _, epoch = value.decode().partition(" ")
    return Mark(int(number), epoch)


def _words(finding: Finding) -> Args:
    """A record as the script wants it."""
    record: Change = finding.record
    match record:
        case Version():
            about = "".join(
                f"{stored.object_id};{pack_nodes(named_nodes(stored))};"
                f"{pack_ranges(merge_ranges(stored.extents))};"
                f"{pack_debts(stored, debtors(stored))};"
                for stored in record.objects
            )
            return ("v" if finding.whole else "f", record.key, pack_version(record), about)
        case Tombstone():
            return ("t", record.key, record.since, record.stamp if record.of else "")
        case Abort():
            return ("a", record.key, record.aborted, record.object_id)
        case BucketSettings():
            return ("s", "", pack_settings(record), pack_kept(record))
        case AccessKey():
            return ("k", record.key, pack_access(record), "")
