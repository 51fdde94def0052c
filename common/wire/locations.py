"""Session messages that tell where tickets lie, for who can read the putter's files itself.

A router on the putter's machine reads runs of large objects from the segment files, and asks the
putter only where they are. What it reads counts only if it fits TicketIDs and checksums: a place
may hold something else by then.
"""

from __future__ import annotations

from common.wire.message import Message


class Locate(Message, tag="locate", frozen=True):
    """Client → putter: where do these tickets lie? At most ``limit`` spots are told."""

    request: int
    first: int
    count: int
    limit: int


class SegmentFile(Message, frozen=True):
    """A file of the putter: its absolute path, and what tells that it is this one."""

    path: str
    device: int
    inode: int


class Spot(Message, frozen=True):
    """Frames of consecutive tickets, one after the other in a file, as on the wire.

    Attributes:
        first: number of the first ticket.
        count: how many tickets.
        frame_bytes: data bytes of every frame but the last.
        key_id: which cluster key the checksums use.
        file: which of the files of the answer.
        offset: of the first frame in the file.
        length: of all of them.
    """

    first: int
    count: int
    frame_bytes: int
    key_id: str
    file: int
    offset: int
    length: int


class Spots(Message, tag="spots", frozen=True):
    """Putter → client: the answer to `Locate`, in the order of the tickets.

    Tickets below ``until`` that no spot has cannot be read that way: they are not there, marked as
    damaged, not durable yet, compressed or encrypted.
    """

    request: int
    until: int
    files: tuple[SegmentFile, ...] = ()
    spots: tuple[Spot, ...] = ()
