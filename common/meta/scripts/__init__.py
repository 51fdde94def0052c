"""The scripts that change Redis, each one atomic and idempotent.

Every script is a file ``<name>.lua`` beside this one. A script of a bucket is put behind
``_bucket.lua`` and, unless it brings the bucket up to date, behind ``_served.lua``; one of the
counters behind ``_epoch.lua``. Scripts that change a surplus start with ``_surplus.lua``, those
that change which records putters lack with ``_missing.lua``, those of a bucket's settings with
``_settings.lua``, those of access keys with ``_access.lua``, those that may post an event with
``_events.lua``, those that look at a bucket and at its versions at once with ``_versions.lua``,
those that count what a bucket holds with ``_use.lua``.
They use core Lua, ``redis.call`` and ``TIME`` only, so that they run on every server the store
supports.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

_SERVED: Final = frozenset(
    {
        "amend",
        "announce",
        "anything",
        "begin",
        "claim",
        "commit",
        "configure",
        "debts",
        "delete",
        "described",
        "fail",
        "find",
        "first",
        "followed",
        "forget",
        "freed",
        "given",
        "held",
        "history",
        "hold",
        "keyed",
        "known",
        "latest",
        "miss",
        "missed",
        "missing",
        "owed",
        "page",
        "post",
        "postpone",
        "progress",
        "queues",
        "reach",
        "rekey",
        "release",
        "resolve",
        "sent",
        "settings",
        "stale",
        "surplus",
        "trash",
        "unclaim",
        "underway",
        "use",
        "withdraw",
    }
)
_BUCKET: Final = frozenset({"correct", "restore", "serve"})
_SURPLUS: Final = frozenset({"amend", "correct", "freed", "reach", "restore"})
_SETTINGS: Final = frozenset({"configure", "followed", "restore"})
_ACCESS: Final = frozenset({"rekey", "restore"})
_USE: Final = frozenset({"commit", "delete", "restore", "use"})
_MISSING: Final = frozenset({"given", "miss"})
_EVENTS: Final = frozenset({"amend", "commit", "correct", "delete", "post"})
_VERSIONS: Final = frozenset(
    {"anything", "claim", "commit", "delete", "history", "latest", "page", "resolve"}
)
_SOURCES: Final = {"correct": "amend"}
"""Scripts that are another one, to be used before the bucket is up to date."""
_COUNTERS: Final = frozenset(
    {
        "admit",
        "attempt",
        "complete",
        "establish",
        "lease",
        "mark",
        "raise",
        "registered",
        "seen",
        "standing",
    }
)


@dataclass(frozen=True)
class Script:
    """A script and the name under which a server keeps it.

    Attributes:
        name: for error messages.
        source: Lua.
        sha: SHA-1 of the source in hexadecimal, the argument of EVALSHA.
    """

    name: str
    source: bytes
    sha: bytes


@cache
def script(name: str) -> Script:
    """The script ``<name>.lua`` with what it is put behind."""
    source = _read(_SOURCES.get(name, name))
    if name in _SURPLUS:
        source = _read("_surplus") + source
    if name in _SETTINGS:
        source = _read("_settings") + source
    if name in _ACCESS:
        source = _read("_access") + source
    if name in _MISSING:
        source = _read("_missing") + source
    if name in _EVENTS:
        source = _read("_events") + source
    if name in _VERSIONS:
        source = _read("_versions") + source
    if name in _USE:
        source = _read("_use") + source
    if name in _SERVED:
        source = _read("_bucket") + _read("_run") + _read("_served") + source
    elif name in _BUCKET:
        source = _read("_bucket") + _read("_run") + source
    elif name in _COUNTERS:
        source = _read("_epoch") + source
    sha = hashlib.sha1(source, usedforsecurity=False).hexdigest()
    return Script(name=name, source=source, sha=sha.encode())


def _read(name: str) -> bytes:
    return resources.files(__name__).joinpath(f"{name}.lua").read_bytes()
