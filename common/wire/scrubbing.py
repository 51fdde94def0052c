"""Session messages by which a putter is asked to verify its disk, and tells how far it is."""

from __future__ import annotations

from common.wire.message import Message


class Scrub(Message, tag="scrub", frozen=True):
    """Client → putter: verify the disk. ``action`` is ``start``, ``stop`` or ``status``.

    ``rate`` is in bytes/s: 0 as fast as can be, -1 as the putter likes. At most ``flaws`` of what
    is damaged are told.
    """

    request: int
    action: str = "status"
    rate: int = -1
    flaws: int = 0


class Flaw(Message, frozen=True):
    """One damage in a `ScrubReply`: tickets, or the number of a commit record, or a place."""

    part: str
    first: int
    count: int
    object_id: str
    place: str
    reason: str
    raw: bool = False


class ScrubReply(Message, tag="scrub-reply", frozen=True):
    """Putter → client: the pass under way, the last one that came to its end, what is damaged.

    Passes are numbered. ``total_bytes`` is -1 if nobody knows; times are milliseconds since 1970.
    """

    request: int
    number: int
    running: bool
    demanded: bool = False
    started_ms: int = 0
    verified_bytes: int = 0
    total_bytes: int = -1
    findings: int = 0
    last_number: int = 0
    last_started_ms: int = 0
    last_ended_ms: int = 0
    last_bytes: int = 0
    last_findings: int = 0
    damaged_tickets: int = 0
    damaged_others: int = 0
    flaws: tuple[Flaw, ...] = ()
    last_mended: int = 0
