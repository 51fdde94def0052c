"""The seam through which a Redis that forgot is brought up to date from the putters' records.

The coordinator serves names and objects only while it is *complete* in its present run: a run ends
when the server is restarted or another one takes over, and with each of these the last seconds may
be lost, or everything. Until somebody has replayed the records that may be missing and said so
(`Recovery.complete`), `Objects` and `Files` answer nobody: calls wait, and then raise
`common.errors.MetadataUnavailable`. Counters, members, leases and this noun always answer.

`Recovery.restore` is the rule how records are read together. Called with the same records in any
order, any number of times, it has the same effect, as long as aborts and tombstones that may void
a version come before it. For each name the highest stamp wins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from common.errors import PutterError
from common.meta.interface import Ceilings
from common.records import Change


class Restored(StrEnum):
    """What `Recovery.restore` did with a record."""

    APPLIED = "applied"
    """The name holds it now: a version, or for a tombstone nothing."""
    KNOWN = "known"
    """It was applied, or decided otherwise, before."""
    SUPERSEDED = "superseded"
    """A change with a higher stamp was there; a version's objects are queued to be freed."""
    ABORTED = "aborted"
    """Given up: an abort names it, its bytes are not whole, or it is that abort."""
    WAITS = "waits"
    """Its object is being written by somebody who will decide; nothing changed."""
    CONFLICT = "conflict"
    """Its object belongs to another name: a number was used twice. Nothing changed."""


@dataclass(frozen=True)
class Finding:
    """A record that was read from a putter.

    Attributes:
        record: what it says.
        whole: False if it is a version whose bytes are known not to be there.
    """

    record: Change
    whole: bool = True


@dataclass(frozen=True)
class Mark:
    """How far the records of one putter are applied.

    Attributes:
        number: all up to this one are.
        epoch: the run in which somebody last replayed what was above; "" for never.
    """

    number: int = 0
    epoch: str = ""


@dataclass(frozen=True)
class Standing:
    """Whether the coordinator is up to date.

    Attributes:
        epoch: its present run.
        complete: whether it is complete in this run, as far as is known here.
        established: whether the counters are, in this run.
        fresh: nobody has ever completed it: it is new, or lost everything.
        stamp: lower than all stamps that were given out since it was last completed.
        ceilings: the present ones.
        marks: by putter.
        runs: further runs to be completed: of the other servers of a cluster.
        lost: buckets that another server of a cluster has lost as a whole.
        sharded: whether a loss may hit some buckets and spare the marks.
    """

    epoch: str
    complete: bool
    established: bool
    fresh: bool
    stamp: int
    ceilings: Ceilings
    marks: Mapping[str, Mark]
    runs: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    sharded: bool = False

    @property
    def completion(self) -> tuple[str, int]:
        """Names the last completion: what was noted in Redis alone before it may be forgotten.

        The run does not tell: a server loses everything in the same one by FLUSHALL, and one of a
        cluster beside that of the counters in its own.
        """
        return self.epoch, self.stamp


class Recovery(Protocol):
    """Bringing the coordinator up to date."""

    async def standing(self) -> Standing:
        """Where it stands."""
        ...

    async def restore(self, findings: Sequence[Finding], *, anew: bool) -> list[Restored]:
        """Apply records, whatever the standing is.

        Args:
            findings: at most a few thousand.
            anew: whether commits may have been lost: an object that is still ``writing`` is then
                published from its record. Otherwise its writer, or the janitor, decides.
        """
        ...

    async def begin(self, epoch: str, token: str) -> bool:
        """Begin an attempt to complete the coordinator; an earlier one ends. False in another run.

        Whoever loses everything also forgets the attempt, so that no mark and no completion counts
        for more than what is there.
        """
        ...

    async def mark(self, epoch: str, marks: Mapping[str, Mark], token: str = "") -> bool:
        """Note how far putters are applied; numbers only go up.

        False in another run, and unless the attempt is under way or, without a token, the
        coordinator is complete.
        """
        ...

    async def forget(self, node: str) -> None:
        """The putter does not belong to the cluster any more."""
        ...

    async def complete(self, standing: Standing, stamp: int, token: str) -> bool:
        """All records that may have been missing are applied: serve.

        Args:
            standing: as it was before they were read.
            stamp: no stamp below it is given out from now on.
            token: of the attempt.

        Returns:
            False if another run or attempt began meanwhile.
        """
        ...

    async def writing(self, limit: int) -> list[tuple[str, str]] | None:
        """Bucket and ObjectID of all that is ``writing``; None if that is more than ``limit``."""
        ...

    async def absent(self, object_ids: Sequence[str]) -> set[str]:
        """Those of the objects that no bucket knows, in whatever state.

        It answers only while the coordinator is complete.
        """
        ...

    def refuse(self, reason: PutterError | None) -> None:
        """Answer calls that find the coordinator incomplete with this at once; None: they wait."""
        ...
