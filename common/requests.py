"""Which request a log line is about.

Each request of a client has an id, and so has each round of work that a router does by itself. It
is bound to the task that works on it, and tasks that this one starts inherit it: every line that
they log has it as ``request_id`` (`common.logs`). Work that is done for many requests at once has
none. Putters hear of the ids with the runs, records and reads that routers send them.

An id is made of one that is this process's alone, and a number. A client may bring one of its own.
"""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

REQUEST_ID_HEADER: Final = "X-Request-Id"
"""Of HTTP requests that bring one, and of all answers."""
FIELD: Final = "request_id"
REQUEST_ID_MAX: Final = 64
"""Characters."""

_CURRENT: Final[ContextVar[str]] = ContextVar(FIELD, default="")
_ACCEPTED: Final = re.compile(rf"[0-9A-Za-z._-]{{1,{REQUEST_ID_MAX}}}")
_PROCESS: Final = secrets.token_hex(4)
_NUMBERS: Final = itertools.count(1)


def new_request_id() -> str:
    """One that no other request of any process has, as far as chance allows."""
    return f"{_PROCESS}-{next(_NUMBERS):x}"


def bind_request(given: str | None = None) -> str:
    """Begin a request in this task.

    Args:
        given: the id that the client brought; one that is too long, or has other characters than
            letters, digits, ``.``, ``_`` and ``-``, is replaced.

    Returns:
        The id that counts.
    """
    request_id = given if given and _ACCEPTED.fullmatch(given) else new_request_id()
    _CURRENT.set(request_id)
    return request_id


@contextmanager
def about_request(request_id: str) -> Iterator[None]:
    """Inside, this is about a request that began elsewhere; "" for none."""
    token = _CURRENT.set(request_id)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def resume_request(request_id: str) -> None:
    """Go on with a request that another task has begun; "" for none."""
    _CURRENT.set(request_id)


def current_request() -> str:
    """The id of the request that this task works on; "" if there is none."""
    return _CURRENT.get()
