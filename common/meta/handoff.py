"""The seam through which records that a putter lacks are known, until it has them.

Tombstones, files without a byte and the aborts of such, settings: records that belong to no object
have no extents that could say who lacks them. So the coordinator keeps the record itself for each
putter that should have got it, until it has. Before anybody hears that such a change is done, it is
noted here what is missing where (`HandOff.note`). A coordinator that forgot it gets it back from
the putters: see `router.audit`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol


@dataclass(frozen=True)
class Missed:
    """A record without an object that a putter lacks.

    Attributes:
        node: the putter; `common.records.ANYONE` for one that is not chosen yet.
        bucket: that the record is about.
        stamp: of the record.
        holders: putters that hold it.
        body: the encoded record.
    """

    node: str
    bucket: str
    stamp: int
    holders: tuple[str, ...]
    body: bytes

    @property
    def place(self) -> str:
        """For the next `HandOff.missed`, to go on behind it."""
        return f"{self.bucket} {self.stamp:020}"


@dataclass(frozen=True)
class Lacking:
    """How much a putter lacks: records, and their bytes."""

    records: int = 0
    size: int = 0


NOTHING_LACKING: Final = Lacking()


class HandOff(Protocol):
    """Records that putters missed."""

    async def note(self, missed: Sequence[Missed]) -> None:
        """Putters lack records. What is known of the same putter and stamp stays as it is."""
        ...

    async def lacking(self) -> Mapping[str, Lacking]:
        """How much each putter lacks; only those that lack something."""
        ...

    async def missed(self, node: str, limit: int, after: str = "") -> list[Missed]:
        """Some of what a putter lacks, by bucket and stamp in their order.

        Args:
            node: the putter.
            limit: how many at most; fewer only at the end.
            after: behind this `Missed.place`; "" from the start.
        """
        ...

    async def given(self, missed: Sequence[Missed]) -> None:
        """Putters have these records now, or need them no more."""
        ...
