"""Where the scrub of a node is: what its note says."""

from __future__ import annotations

from typing import Final

import msgspec

from common.logs import get_logger

STOOD_MAX: Final = 64
"""How often a pass notes where it is and when: so finely it can be told when something was read."""
_FORMAT: Final = 1

_log = get_logger(__name__)


class Pass(msgspec.Struct):
    """The pass under way.

    Attributes:
        number: passes of a node are numbered.
        started_ms: when it began, milliseconds since 1970.
        demanded: somebody asked for it.
        rate: bytes/s; 0 as fast as can be. Of a pass that nobody asked for, not used.
        cursor: where it goes on.
        verified_bytes: so far.
        total_bytes: about how many there are; None if nobody knows.
        findings: damages so far.
        blocked: something could not be looked at as a whole.
        mended: of the damages, that were made again at once.
        stood: cursors, and when the pass went on from there; at most `STOOD_MAX`.
    """

    number: int
    started_ms: int
    demanded: bool
    rate: int
    cursor: str = ""
    verified_bytes: int = 0
    total_bytes: int | None = None
    findings: int = 0
    blocked: bool = False
    mended: int = 0
    stood: list[tuple[str, int]] = []


class LastPass(msgspec.Struct, frozen=True):
    """The last pass that came to its end.

    Attributes:
        stood: as of a `Pass`.
        end: what the engine calls its end; "" if it cannot tell what a pass looked at.
    """

    number: int
    started_ms: int
    ended_ms: int
    verified_bytes: int
    findings: int
    mended: int = 0
    stood: list[tuple[str, int]] = []
    end: str = ""


class Position(msgspec.Struct):
    """The note: where the scrub of a node is.

    Attributes:
        format: of the note.
        number: of the pass under way, or else of the newest.
        now: the pass under way.
        last: the last one that came to its end.
        held_ms: when a pass was stopped; the next begins a period later.
    """

    format: int = _FORMAT
    number: int = 0
    now: Pass | None = None
    last: LastPass | None = None
    held_ms: int = 0


def note_place(now: Pass, at_ms: int) -> None:
    """Note where a pass is, if it is time to: the longer it takes, the more rarely."""
    since_ms = now.stood[-1][1] if now.stood else now.started_ms
    if at_ms - since_ms < (at_ms - now.started_ms) / STOOD_MAX:
        return
    now.stood.append((now.cursor, at_ms))
    if len(now.stood) > STOOD_MAX:
        now.stood = now.stood[1::2]


def position_of(note: bytes | None) -> Position:
    """What a note says; the beginning if it says nothing."""
    if note is None:
        return Position()
    try:
        found = msgspec.json.decode(note, type=Position)
    except msgspec.MsgspecError as error:
        _log.warning("the position of the scrub is lost", reason=str(error))
        return Position()
    return found if found.format == _FORMAT else Position()
