"""Who is behind a change, for those that are told of it.

It is bound to the task of a request, like its id (`common.requests`). Doors that know who asks bind
it at each request; where none did, nobody is named.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Origin:
    """Who is behind a change.

    Attributes:
        principal: the owner of the access key; "": nobody is known.
        address: where the request came from; "": from nowhere.
        request: its id.
        expiry: whether a lifecycle rule of the bucket is behind it.
    """

    principal: str = ""
    address: str = ""
    request: str = ""
    expiry: bool = False


NOBODY: Final = Origin()
_CURRENT: Final[ContextVar[Origin]] = ContextVar("origin", default=NOBODY)


def bind_origin(origin: Origin) -> None:
    """From now on this task works for somebody."""
    _CURRENT.set(origin)


def current_origin() -> Origin:
    """For whom this task works."""
    return _CURRENT.get()
