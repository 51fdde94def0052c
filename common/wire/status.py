"""The status byte of an ack."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """What became of one ticket; the second field of ``[8 B TicketID][1 B Status]``."""

    WRITTEN = 0
    CHECKSUM_MISMATCH = 1
    NO_SPACE = 2
    IO_ERROR = 3
    TICKET_TAKEN = 4
    NOT_AUTHORISED = 5
    SHUTTING_DOWN = 6
    MALFORMED = 7
