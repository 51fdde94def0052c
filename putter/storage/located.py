"""Where tickets lie in files that others on this machine can read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Whereabouts:
    """A file of this machine.

    Attributes:
        path: absolute.
        device, inode: of the file that had this path a moment ago.
    """

    path: str
    device: int
    inode: int


@dataclass(frozen=True)
class Location:
    """Frames of consecutive tickets, durable and plain, one after the other in a file.

    Attributes:
        first: number of the first ticket.
        count: how many tickets.
        frame_bytes: data bytes of every frame but the last.
        key_id: which cluster key the checksums use.
        file: that they lie in.
        offset: of the first frame in the file.
        length: of all of them.
    """

    first: int
    count: int
    frame_bytes: int
    key_id: str
    file: Whereabouts
    offset: int
    length: int


@dataclass(frozen=True)
class Located:
    """Where tickets of a range lie.

    Attributes:
        locations: in the order of the tickets, up to a limit.
        until: tickets below this were looked for.
    """

    locations: tuple[Location, ...]
    until: int
