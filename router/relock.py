"""How locks of versions may be changed. Pure.

A change is decided by its stamp, which is Redis's time: so whoever reads the records together finds
the same (`common.locks.joined_locks`).
"""

from __future__ import annotations

from msgspec.structs import replace

from common.errors import Locked
from common.locks import Hold, Mode
from common.names import format_name
from common.records import Version
from common.versions import plain_name


def retained(version: Version, mode: Mode, until_ms: int, stamp: int, *, bypass: bool) -> Version:
    """A version that is kept until another time; itself if it is already.

    Args:
        version: as it is described.
        mode: "": until no time.
        until_ms: milliseconds since 1970; 0 if until none.
        stamp: of the change.
        bypass: whether this is somebody who may in spite of ``GOVERNANCE``.

    Raises:
        Locked: it would be kept for less long than nobody can change.
    """
    held = version.lock
    if (held.mode, held.until_ms) == (mode, until_ms):
        return version
    lock = replace(held, mode=mode, until_ms=until_ms, retained=stamp)
    if held.retains(stamp // 1000, bypass=bypass) and lock.is_weaker_than(held):
        raise Locked(f"the lock of a version of {format_name(*plain_name(version))} stays")
    return replace(version, lock=lock)


def held(version: Version, hold: Hold, stamp: int) -> Version:
    """A version that is held, or not any more; itself if that is so already."""
    if version.lock.hold == hold:
        return version
    return replace(version, lock=replace(version.lock, hold=hold, held=stamp))
