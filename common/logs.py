"""Logging: structlog on standard error, one event a line, secrets masked.

Lines of the standard library's ``logging`` (aiohttp, asyncio, redis) pass through the same
processors, so that a log has one form whoever wrote the line. Standard output belongs to data.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Final, Literal, TextIO, cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from common.requests import FIELD, current_request

SECRET_NAMES: Final = frozenset({"key", "token", "proof", "secret", "password", "authorization"})
"""Fields whose values are masked, alone or as the last word of a name (``web_token``).

So a file's name is logged as ``name=``, never as ``key=``.
"""
MASK: Final = "***"

_ACCOUNT: Final = re.compile(r"://[^/@\s]+@")
"""User and password in a URL."""
_QUIET: Final = ("aiohttp.access",)
"""Libraries that log each request: only their warnings are of interest."""


def configure(
    *,
    form: Literal["console", "json"] = "console",
    level: str = "info",
    stream: TextIO | None = None,
) -> None:
    """Set up logging for this process; may be called again.

    Args:
        form: ``console`` for people, ``json`` for machines: one object a line.
        level: the least important level that is logged: debug, info, warning, error.
        stream: where the lines go; standard error if None.
    """
    out = stream or sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        add_request_id,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        mask_secrets,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        # A cached logger would keep the configuration that it was first used under.
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(form, colors=out.isatty()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)


def add_request_id(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Say which request a line is about, if it is about one."""
    request_id = current_request()
    if request_id:
        event.setdefault(FIELD, request_id)
    return event


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module; events are short phrases, everything else is a field.

    Args:
        name: the module's name, for example ``router.links``.
    """
    return structlog.stdlib.get_logger(name)


class Repeats:
    """Keeps a warning that would be repeated to one a period for each subject.

    Args:
        period_s: between two of them.
        subjects_max: kept in mind; beyond, the one that was let through longest ago is forgotten.
    """

    def __init__(self, period_s: float = 60.0, subjects_max: int = 256) -> None:
        self._period_s = period_s
        self._subjects_max = subjects_max
        self._seen: dict[str, tuple[float, int]] = {}

    def due(self, subject: str, now_s: float) -> dict[str, int] | None:
        """Whether a warning is to be logged.

        Args:
            subject: what it is about.
            now_s: of a clock that only goes forward.

        Returns:
            Fields to log with it: ``held_back``, how many were since the last one, if any. None:
            hold it back.
        """
        last_s, held_back = self._seen.get(subject, (now_s - self._period_s, 0))
        if now_s - last_s < self._period_s:
            self._seen[subject] = (last_s, held_back + 1)
            return None
        self._seen.pop(subject, None)
        if len(self._seen) >= self._subjects_max:
            del self._seen[next(iter(self._seen))]
        self._seen[subject] = (now_s, 0)
        return {"held_back": held_back} if held_back else {}


def mask_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A structlog processor: replace the values of secret fields, however deep they lie."""
    return cast("EventDict", _masked(event))


def _masked(value: object) -> object:
    if isinstance(value, Mapping):
        masked: MutableMapping[object, object] = {
            name: MASK if _is_secret(name, entry) else _masked(entry)
            for name, entry in value.items()
        }
        return masked
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        return type(value)(_masked(entry) for entry in value)
    if isinstance(value, str):
        return _ACCOUNT.sub(f"://{MASK}@", value)
    return value


def _is_secret(name: object, value: object) -> bool:
    if value is None or not isinstance(name, str):
        return False
    return name.lower().replace("-", "_").rpartition("_")[2] in SECRET_NAMES


def _renderers(form: str, *, colors: bool) -> list[Processor]:
    # Tracebacks without local variables: those hold keys.
    if form == "json":
        frames = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        return [
            structlog.processors.ExceptionRenderer(frames),
            structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
        ]
    return [
        structlog.dev.ConsoleRenderer(
            colors=colors, pad_event_to=32, exception_formatter=structlog.dev.plain_traceback
        )
    ]
