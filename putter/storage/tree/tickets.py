"""One namespace of tickets in the tree: ``tickets/`` or ``raw/``.

The file ``sum`` is the mark of a stored ticket: where it is, ``obj`` beside it is whole. So ``obj``
comes first and goes last, and the engine makes the one durable before it touches the other; see
`TicketTree.place_data` and `TicketTree.place_marks`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from common.errors import NoSpace, StorageError
from common.limits import FRAME_HEADER_BYTES, MESSAGE_PAYLOAD_BYTES_MAX
from common.tickets import encode_field
from common.wire.frames import Statuses
from common.wire.status import Status
from putter.storage.disk import Disk
from putter.storage.engine import Piece, Run
from putter.storage.tree.formats import Sum
from putter.storage.tree.paths import ticket_directory, tickets_within
from putter.storage.tree.staging import Staging

DATA: Final = "obj"
MARK: Final = "sum"
_LIST_FROM: Final = 32
"""A range of so many tickets is found by listing directories rather than by trying each."""


@dataclass(slots=True)
class _Staged:
    """A ticket that was put and not yet synced."""

    sum: Sum
    directory: str
    data: str
    mark: str


class TicketTree:
    """The tickets below one directory. `read` and `stat` may be called by any thread."""

    def __init__(
        self, disk: Disk, staging: Staging, root: str, free_bytes: Callable[[], int]
    ) -> None:
        """Open the namespace; its directory is made if need be.

        Args:
            disk: where it is.
            staging: for what is written.
            root: the directory.
            free_bytes: tells what new tickets may use.
        """
        self._disk = disk
        self._staging = staging
        self._root = root
        self._free_bytes = free_bytes
        self._staged: dict[int, _Staged] = {}
        self._freed: list[str] = []
        self._prunable: set[str] = set()
        staging.make_directory(root)

    @property
    def has_freed(self) -> bool:
        """Whether marks were removed whose data is still to be removed."""
        return bool(self._freed)

    def put(self, run: Run) -> Statuses:
        """Stage the tickets of a run; after one that finds no room, no other is begun."""
        stride = run.frame_bytes + FRAME_HEADER_BYTES
        count = -(-len(run.frames) // stride)
        statuses = np.zeros(count, np.uint8)
        full = False
        for index in range(count):
            row = run.frames[index * stride : (index + 1) * stride]
            wanted = Sum(
                run.first + index,
                len(row) - FRAME_HEADER_BYTES,
                bytes(row[8:FRAME_HEADER_BYTES]),
                run.frame_bytes,
                run.object_id,
                run.key_id,
            )
            # Asked each time: how much a file takes is known to the file system alone.
            full = full or self._free_bytes() < wanted.size + wanted.encoded_bytes
            status = self._put_ticket(wanted, row[FRAME_HEADER_BYTES:], fits=not full)
            full = full or status == Status.NO_SPACE
            statuses[index] = status
        return statuses

    def read(self, first: int, count: int) -> Iterator[Piece]:
        """The stored tickets of a range."""
        piece: _PieceInMaking | None = None
        for ticket in self._candidates(first, count):
            directory = ticket_directory(self._root, ticket)
            entry = self._load(directory, ticket)
            data = None if entry is None else self._disk.read(f"{directory}/{DATA}")
            if entry is None or data is None or len(data) != entry.size:
                continue
            if piece is not None and not piece.takes(entry):
                yield piece.finish()
                piece = None
            if piece is None:
                piece = _PieceInMaking(entry)
            piece.add(entry, data)
        if piece is not None:
            yield piece.finish()

    def stat(self, ticket: int) -> Sum | None:
        """What is known of one ticket; None if it is not there, or its mark is damaged."""
        return self._load(ticket_directory(self._root, ticket), ticket)

    def free(self, first: int, count: int, objects: Collection[str] | None = None) -> int:
        """Remove tickets: their marks now, their data at the next sync.

        Args:
            first: number of the first ticket.
            count: how many.
            objects: tickets of others stay, if this is given. What has no mark that can be read
                is nobody's, and goes.
        """
        removed = 0
        for ticket in self._candidates(first, count):
            directory = ticket_directory(self._root, ticket)
            if objects is not None:
                held = self._held(directory, ticket, make=False)
                if held is not None and held.object_id not in objects:
                    continue
            staged = self._staged.pop(ticket, None)
            if staged is not None:
                self._staging.discard((staged.data, staged.mark))
            marked = self._disk.unlink(f"{directory}/{MARK}")
            if marked:
                self._staging.note(directory)
            self._freed.append(directory)
            removed += marked or staged is not None
        return removed

    def place_data(self) -> None:
        """Remove freed data and give staged data its name; marks that go must be gone durably."""
        while self._freed:
            directory = self._freed[-1]
            if self._disk.unlink(f"{directory}/{DATA}"):
                self._staging.note(directory)
            self._prunable.add(directory)
            self._freed.pop()
        for staged in self._staged.values():
            self._staging.place(staged.data, f"{staged.directory}/{DATA}")
        self._staging.prune(self._prunable, self._root)
        self._prunable.clear()

    def place_marks(self) -> None:
        """Mark the staged tickets as stored; their data must be in its place durably."""
        for ticket, staged in list(self._staged.items()):
            self._staging.place(staged.mark, f"{staged.directory}/{MARK}")
            del self._staged[ticket]

    def abandon(self) -> None:
        """After a failure: give up the staged tickets that have no mark yet."""
        for staged in self._staged.values():
            self._staging.discard((staged.data, staged.mark))
            self._freed.append(staged.directory)
        self._staged.clear()

    def _put_ticket(self, wanted: Sum, data: memoryview, *, fits: bool) -> Status:
        directory = ticket_directory(self._root, wanted.ticket)
        try:
            held = self._held(directory, wanted.ticket, make=fits)
            if held is not None:
                same = (held.checksum, held.size) == (wanted.checksum, wanted.size)
                return Status.WRITTEN if same else Status.TICKET_TAKEN
            if not fits:
                return Status.NO_SPACE
            self._stage(wanted, directory, data)
        except NoSpace:
            self._prunable.add(directory)
            return Status.NO_SPACE
        except StorageError:
            self._prunable.add(directory)
            return Status.IO_ERROR
        return Status.WRITTEN

    def _held(self, directory: str, ticket: int, *, make: bool) -> Sum | None:
        """What a ticket holds, staged or stored; else its directory is made if asked for."""
        staged = self._staged.get(ticket)
        if staged is not None:
            return staged.sum
        if make and self._staging.make_directory(directory):
            return None  # a directory that had to be made holds nothing: no need to look
        return self._load(directory, ticket)

    def _stage(self, wanted: Sum, directory: str, data: memoryview) -> None:
        written = self._staging.write(data)
        try:
            mark = self._staging.write(wanted.encode())
        except (NoSpace, StorageError):
            self._staging.discard((written,))
            raise
        self._staged[wanted.ticket] = _Staged(wanted, directory, written, mark)

    def _load(self, directory: str, ticket: int) -> Sum | None:
        data = self._disk.read(f"{directory}/{MARK}")
        entry = None if data is None else Sum.decode(data)
        return entry if entry is not None and entry.ticket == ticket else None

    def _candidates(self, first: int, count: int) -> Iterator[int]:
        """The tickets of a range that may be stored, in order."""
        if count < _LIST_FROM:
            return iter(range(first, first + count))
        return tickets_within(self._disk.names, self._root, first, count)


class _PieceInMaking:
    """Frames of consecutive tickets that are being joined."""

    def __init__(self, entry: Sum) -> None:
        self._first = self._next = entry.ticket
        self._frame_bytes = entry.frame_bytes
        self._key_id = entry.key_id
        self._parts: list[bytes] = []
        self._size = 0
        self._ended = False

    def takes(self, entry: Sum) -> bool:
        """Whether this ticket can be the next one."""
        wire_bytes = self._size + entry.size + FRAME_HEADER_BYTES
        return (
            not self._ended
            and entry.ticket == self._next
            and (entry.frame_bytes, entry.key_id) == (self._frame_bytes, self._key_id)
            and wire_bytes <= MESSAGE_PAYLOAD_BYTES_MAX
        )

    def add(self, entry: Sum, data: bytes) -> None:
        """Append a ticket's frame; a short one is the last."""
        self._parts += (encode_field(entry.ticket), entry.checksum, data)
        self._size += len(data) + FRAME_HEADER_BYTES
        self._next += 1
        self._ended = entry.size != entry.frame_bytes

    def finish(self) -> Piece:
        """The piece."""
        return Piece(
            self._first,
            self._next - self._first,
            b"".join(self._parts),
            self._frame_bytes,
            self._key_id,
        )
