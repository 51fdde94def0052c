"""The engine of the layout ``tree``, and the one place that knows the order of its writes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from typing import Final

from common.digests import Entries, Grid, Leaves, Space, digest
from common.errors import NoSpace, StorageError
from common.meta.interface import Ceilings
from common.tickets import TICKETS_MAX, object_key
from common.wire.frames import Statuses
from putter.storage.disk import Disk
from putter.storage.engine import Capacity, NumberedRecord, Piece, Record, Run, TicketInfo, Upkeep
from putter.storage.holdings import Holding, Holdings, joined
from putter.storage.located import Located
from putter.storage.scrub import Check, Finding, Scrubbed, cursor_of, numbers_of
from putter.storage.tree.formats import CEILINGS, decode_ceilings, encode_ceilings
from putter.storage.tree.paths import tickets_within
from putter.storage.tree.records import RecordTree
from putter.storage.tree.scrub import TreeScrub
from putter.storage.tree.staging import TEMPORARY, Staging
from putter.storage.tree.tickets import TicketTree

TICKETS: Final = "tickets"
RAW: Final = "raw"
CLEAN: Final = "clean"
_ROOT: Final = ""
_NEW_CEILINGS: Final = f"{TEMPORARY}/{CEILINGS}"


def _nothing() -> None:
    """What there is to let go of when nobody said."""


class TreeEngine:
    """A node's disk as a tree of plain files, one directory a ticket."""

    def __init__(
        self,
        disk: Disk,
        *,
        identity: str = "tree",
        reserve_bytes: int = 0,
        release: Callable[[], None] = _nothing,
    ) -> None:
        """Open the tree at the root of a disk, or begin one there.

        What an earlier process left is first made durable, unless it closed properly: a name that
        is visible but would not survive a power loss must not be taken for stored.

        Args:
            disk: its root is the data directory.
            identity: of the node.
            reserve_bytes: free space that new tickets leave to records, deletions and others.
            release: called once by `close`, last.

        Raises:
            StorageError: the disk refused, or the ceilings are damaged.
        """
        self._disk = disk
        self._identity = identity
        self._reserve_bytes = reserve_bytes
        self._release = release
        self._closed = False
        _settle(disk)
        self._ceilings, last_record = _load_ceilings(disk)
        self._last_record = last_record
        self._staging = Staging(disk)
        self._tickets = TicketTree(disk, self._staging, TICKETS, self._free_bytes)
        self._raw = TicketTree(disk, self._staging, RAW, self._free_bytes)
        self._records = RecordTree(disk, self._staging, last_record)
        self._scrub = TreeScrub(disk, TICKETS, RAW)
        self._staging.sync_directories()

    @property
    def layout(self) -> str:
        """``tree``."""
        return "tree"

    @property
    def identity(self) -> str:
        """The node's identity."""
        return self._identity

    @property
    def damaged_records(self) -> frozenset[int]:
        """Numbers of the commit records whose files were found damaged."""
        return frozenset(self._records.damaged)

    def put(self, run: Run, *, raw: bool = False) -> Statuses:
        """Write a run, ticket by ticket all or nothing; durable after `sync`."""
        return self._tree(raw=raw).put(run)

    def put_record(self, record: Record) -> int:
        """Keep a commit record and number it; durable after `sync`."""
        return self._records.put(record)

    def sync(self) -> None:
        """Make everything that was put, dropped and freed durable.

        Each step is durable before the next begins:

        1. the bytes of all new files, in ``tmp/``; the removal of the marks of freed tickets;
        2. freed data is removed, new data gets its name;
        3. new tickets get their marks: from here on they are stored;
        4. new records get their names, so that none outlives the tickets it speaks of; dropped
           ones are removed.

        Raises:
            StorageError: nothing since the last sync may be acknowledged.
        """
        try:
            self._staging.sync_files()
            if self._tickets.has_freed or self._raw.has_freed:
                self._staging.sync_directories()
            self._tickets.place_data()
            self._raw.place_data()
            self._staging.sync_directories()
            self._tickets.place_marks()
            self._raw.place_marks()
            self._staging.sync_directories()
            if self._records.last_is_dropped:
                self._write_ceilings(self._ceilings, self._records.last_number)
            self._records.place()
            self._staging.sync_directories()
        except (NoSpace, StorageError) as error:
            self._tickets.abandon()
            self._raw.abandon()
            self._records.abandon()
            raise StorageError(f"what was written is not durable: {error}") from error

    def read(self, first: int, count: int, *, raw: bool = False) -> Iterator[Piece]:
        """The stored tickets of a range, in order; synced ones only."""
        return self._tree(raw=raw).read(first, count)

    def locate(self, first: int, count: int, limit: int) -> Located:  # noqa: ARG002 - of the seam
        """Nowhere in a file that holds frames one after the other."""
        return Located((), first + count)

    def stat(self, ticket: int, *, raw: bool = False) -> TicketInfo | None:
        """What is known of one ticket, or None; synced ones only."""
        entry = self._tree(raw=raw).stat(ticket)
        return None if entry is None else entry.info

    def free(
        self,
        ranges: Sequence[tuple[int, int]],
        *,
        raw: bool = False,
        objects: Collection[str] | None = None,
    ) -> int:
        """Remove tickets of ``(first, count)`` ranges; durable after `sync`."""
        tree = self._tree(raw=raw)
        return sum(tree.free(first, count, objects) for first, count in ranges)

    def records(self, after: int, limit: int) -> list[NumberedRecord]:
        """At most ``limit`` records with numbers above ``after``, in order."""
        return self._records.after(after, limit)

    @property
    def last_number(self) -> int:
        """The highest number that was given to a record so far."""
        return self._records.last_number

    def find_record(self, object_id: str) -> NumberedRecord | None:
        """The record with the highest number that commits this object, or None."""
        return self._records.of_object(object_id)

    def drop_records(self, object_ids: Sequence[str]) -> int:
        """Remove the records that commit these objects; durable after `sync`."""
        return self._records.drop(object_ids)

    def raise_ceilings(self, ceilings: Ceilings) -> Ceilings:
        """Lift the ceilings to at least these; durable when it returns."""
        lifted = self._ceilings.highest(ceilings)
        if lifted != self._ceilings:
            self._write_ceilings(lifted, self._last_record)
        return self._ceilings

    def tend(self, budget_bytes: int) -> Upkeep:  # noqa: ARG002 - the protocol's signature
        """Nothing to do: what is removed is gone at once."""
        return Upkeep(0, 0, more=False)

    def scrub(self, cursor: str, budget_bytes: int, check: Check) -> Scrubbed:
        """Verify the next piece of everything that is synced."""
        return self._scrub.step(cursor, budget_bytes, check)

    def looked_at(self, cursors: Sequence[str], first: int, count: int) -> int | None:  # noqa: ARG002 - of the seam
        """Nobody knows: what is written behind a pass has no mark of it."""
        return None

    def inspect(self, first: int, count: int, check: Check, *, raw: bool = False) -> list[Finding]:
        """Verify what is stored of some tickets."""
        return self._scrub.inspect(first, count, check, raw=raw)

    def mend(self, finding: Finding) -> bool:  # noqa: ARG002 - of the seam
        """Nothing is kept here that something else here could make again."""
        return False

    def holdings(self, cursor: str, limit: int) -> Holdings:
        """A page of all tickets but raw ones, by object."""
        (at,) = numbers_of(cursor, 1)
        found: list[Holding] = []
        keys: set[str] = set()
        within = tickets_within(self._disk.names, TICKETS, at, TICKETS_MAX - at)
        for ticket in islice(within, limit):
            at = ticket + 1
            info = self.stat(ticket)
            found.append(Holding(ticket, 1, "" if info is None else info.object_id))
            if info is not None:
                keys.add(info.key_id)
        cursor = cursor_of(at) if len(found) == limit else ""
        return Holdings(cursor, joined(found), frozenset(keys))

    @property
    def record_count(self) -> int:
        """How many commit records are kept."""
        return len(self._records.index)

    def entries(self, space: Space, first: int, end: int) -> Entries:
        """What there is at the positions of a range; of tickets every mark is read."""
        if space is not Space.TICKETS:
            return self._records.index.entries(space, first, end)
        within = tickets_within(self._disk.names, TICKETS, first, min(end, TICKETS_MAX) - first)
        marks = [mark for ticket in within if (mark := self._tickets.stat(ticket)) is not None]
        return Entries.of(
            [(m.ticket, 1, m.size, m.frame_bytes, object_key(m.object_id)) for m in marks]
        )

    def digests(self, grid: Grid, low: int, high: int) -> Leaves:
        """Digests of the leaves ``low … high - 1``."""
        return digest(self.entries(grid.space, low * grid.width, high * grid.width), grid)

    def capacity(self) -> Capacity:
        """Of the file system; the reserve counts as used."""
        found = self._disk.capacity()
        return Capacity(found.total_bytes, max(0, found.free_bytes - self._reserve_bytes))

    def close(self) -> None:
        """Sync, note that nothing is left to be made durable, and let go of the directory."""
        if self._closed:
            return
        self._closed = True
        try:
            self.sync()
            self._disk.sync_files([self._disk.create(CLEAN)])
            self._disk.sync_directories([_ROOT])
        finally:
            self._disk.close()
            self._release()

    def _free_bytes(self) -> int:
        return self.capacity().free_bytes

    def _tree(self, *, raw: bool) -> TicketTree:
        return self._raw if raw else self._tickets

    def _write_ceilings(self, ceilings: Ceilings, last_record: int) -> None:
        self._disk.unlink(_NEW_CEILINGS)
        file = self._disk.create(_NEW_CEILINGS, encode_ceilings(ceilings, last_record))
        self._disk.sync_files([file])
        self._disk.rename(_NEW_CEILINGS, CEILINGS)
        self._disk.sync_directories([_ROOT])
        self._ceilings, self._last_record = ceilings, last_record


def _settle(disk: Disk) -> None:
    """Make durable what a process that did not close left visible."""
    if disk.unlink(CLEAN):
        disk.sync_directories([_ROOT])
    elif TICKETS in disk.names(_ROOT):
        disk.sync_all()


def _load_ceilings(disk: Disk) -> tuple[Ceilings, int]:
    data = disk.read(CEILINGS)
    if data is None:
        return Ceilings(), 0
    found = decode_ceilings(data)
    if found is None:
        raise StorageError(
            f"the file {CEILINGS!r} of the data directory is damaged",
            hint="move the data directory away and start again with an empty one: "
            "the other replicas fill it",
        )
    return found
