"""Locks of versions: until when nobody deletes one for good, and who may all the same. Pure.

A version is kept until a time, by one of two modes, or for as long as somebody holds it; both stand
beside its bytes, and change after it was written (`common.records.Version.lock`). Times are
compared with stamps, which are microseconds of Redis's clock: so whoever reads the records alone
decides as those did who wrote them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from common.errors import UsageError

Mode = Literal["", "GOVERNANCE", "COMPLIANCE"]
Hold = Literal["", "ON", "OFF"]
SETTING: Final = "object_lock"
"""The setting of a bucket whose versions can be locked: what those get that say nothing."""
DAYS_MAX: Final = 36_500
YEARS_MAX: Final = 100
_DAY_MS: Final = 86_400_000
_STRENGTHS: Final[Mapping[str, int]] = {"": 0, "GOVERNANCE": 1, "COMPLIANCE": 2}


class Lock(msgspec.Struct, frozen=True, array_like=True):
    """What keeps a version.

    Attributes:
        mode: ``GOVERNANCE``: some may delete it before; ``COMPLIANCE``: nobody; "": until no time.
        until_ms: wall clock, milliseconds since 1970.
        retained: 0, or the stamp of the last change of these two.
        hold: ``ON``: it is kept, whatever the time; "": nothing was ever said of that.
        held: 0, or the stamp of the last change of the hold.
    """

    mode: Mode = ""
    until_ms: int = 0
    retained: int = 0
    hold: Hold = ""
    held: int = 0

    def keeps(self, now_ms: int, *, bypass: bool = False) -> bool:
        """Whether the version may not be deleted.

        Args:
            now_ms: milliseconds since 1970.
            bypass: whether this is somebody who may in spite of ``GOVERNANCE``.
        """
        return self.hold == "ON" or self.retains(now_ms, bypass=bypass)

    def retains(self, now_ms: int, *, bypass: bool = False) -> bool:
        """The same for its time alone."""
        counts = self.mode == "COMPLIANCE" or (self.mode == "GOVERNANCE" and not bypass)
        return counts and self.until_ms > now_ms

    def is_weaker_than(self, other: Lock) -> bool:
        """Whether it keeps a version for less long, or by a mode that lets more people delete."""
        return self.until_ms < other.until_ms or _STRENGTHS[self.mode] < _STRENGTHS[other.mode]


UNLOCKED: Final = Lock()


def joined_locks(one: Lock, other: Lock) -> Lock:
    """What two descriptions of the same version say of its lock, read together.

    The last change of the time counts, and the last one of the hold; but nothing that was changed
    while ``COMPLIANCE`` was in force makes that weaker: such a change was refused.
    """
    time = one if not _counts_over(other, one) else other
    hold = one if one.held >= other.held else other
    return Lock(time.mode, time.until_ms, time.retained, hold.hold, hold.held)


def _counts_over(one: Lock, other: Lock) -> bool:
    """Whether the time of the one counts and not that of the other. A total order."""
    if one.retained == other.retained:
        return other.is_weaker_than(one)
    older, newer = (one, other) if one.retained < other.retained else (other, one)
    stays = older.mode == "COMPLIANCE" and older.retains(newer.retained // 1000)
    return (stays and newer.is_weaker_than(older)) == (one is older)


class Default(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What the versions of a bucket get that say nothing of their lock themselves.

    Attributes:
        mode: "": nothing.
        days, years: for how long from when they are written; one of them is 0.
    """

    mode: Mode = ""
    days: Annotated[int, Meta(ge=0, le=DAYS_MAX)] = 0
    years: Annotated[int, Meta(ge=0, le=YEARS_MAX)] = 0

    def lock(self, created_ms: int) -> Lock:
        """The lock of a version.

        Args:
            created_ms: when it was written, milliseconds since 1970.
        """
        if not self.mode:
            return UNLOCKED
        return Lock(self.mode, _years_later(created_ms, self.years) + self.days * _DAY_MS)


NO_DEFAULT: Final = Default()


def default_of(settings: Mapping[str, Any]) -> Default | None:
    """What the settings of a bucket say of locks; None: its versions cannot be locked.

    Raises:
        UsageError: nothing that is known here.
    """
    told = settings.get(SETTING)
    try:
        return None if told is None else msgspec.convert(told, Default)
    except msgspec.ValidationError as error:
        raise UsageError(f"{SETTING} of a bucket: {error}") from error


def _years_later(ms: int, years: int) -> int:
    """The same moment of a later year; of a 29 February without its like, one day later."""
    if not years:
        return ms
    moment = datetime.fromtimestamp(ms // 1000, UTC)
    try:
        later = moment.replace(year=moment.year + years)
    except ValueError:
        later = moment.replace(year=moment.year + years, month=3, day=1)
    return int(later.timestamp()) * 1000 + ms % 1000
