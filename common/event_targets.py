"""Where events go: the targets that the operator names, as buckets and their rules know them. Pure.

```
NAME=https://[TOKEN@]host[:port]/path       a webhook: each event is a POST; the token is a bearer's
NAME=http://…                               the same, not encrypted
NAME=redis://[user:password@]host[:port][/db]?stream=KEY[&length=N]
                                            a stream of another Redis or Valkey (rediss, unix too)
NAME=redis:?stream=KEY[&length=N]           a stream of the store's own
```

A rule names a target by its ARN, ``arn:putter:sqs::NAME:webhook``, for a stream ``…:redis``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from common.errors import SettingInvalid
from common.meta.address import parse_address

STREAM_LENGTH: Final = 100_000
"""About how many entries a stream keeps if nothing else is said."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_STREAMS: Final = frozenset({"redis", "rediss", "unix"})
_OWN: Final = "redis:?"
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,8}")
_RESERVED: Final = "putter:"


@dataclass(frozen=True)
class EventTarget:
    """A target.

    Attributes:
        name: in its ARN.
        kind: ``webhook``, or ``redis``: a stream.
        url: of the webhook, or of the server with the stream; "": the store's own.
        token: of the webhook; "": none.
        stream: key of the stream.
        length_max: about how many entries it keeps.
    """

    name: str
    kind: Literal["webhook", "redis"]
    url: str = field(repr=False)
    token: str = field(default="", repr=False)
    stream: str = ""
    length_max: int = STREAM_LENGTH

    @property
    def arn(self) -> str:
        """How rules name it."""
        return f"arn:putter:sqs::{self.name}:{self.kind}"


def parse_targets(pairs: Iterable[str]) -> dict[str, EventTarget]:
    """The targets in a setting, by name.

    Raises:
        SettingInvalid: one cannot be; the message tells no URL.
    """
    found: dict[str, EventTarget] = {}
    for pair in pairs:
        name, equals, url = pair.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise _invalid("a target", "is NAME=URL, a name of letters, digits, - and _")
        if name in found:
            raise _invalid(f"target {name}", "is named twice")
        found[name] = _target(name, url)
    return found


def by_arn(targets: Mapping[str, EventTarget], arn: str) -> EventTarget | None:
    """The target of an ARN; None if there is none."""
    return next((each for each in targets.values() if each.arn == arn), None)


def _target(name: str, url: str) -> EventTarget:
    subject = f"target {name}"
    if not url or not url.isprintable():
        raise _invalid(subject, "has a URL")
    if url.startswith(_OWN):
        return _stream(name, "", url.removeprefix(_OWN))
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - it is refused here if it is none
    except ValueError:
        raise _invalid(subject, "has no URL that can be read") from None
    if parts.scheme in _STREAMS:
        place, _, query = url.partition("?")
        return _stream(name, place, query)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _invalid(subject, "has a URL with http, https, redis, rediss or unix")
    if parts.password is not None or parts.fragment:
        raise _invalid(subject, "has a token before the @, no password, and nothing behind a #")
    host = parts.netloc.rpartition("@")[2]
    plain = parts._replace(netloc=host).geturl()
    return EventTarget(name, "webhook", plain, unquote(parts.username or ""))


def _stream(name: str, url: str, query: str) -> EventTarget:
    subject = f"target {name}"
    told = parse_qs(query, keep_blank_values=True)
    stream = told.pop("stream", [""])[0]
    length = told.pop("length", [str(STREAM_LENGTH)])[0]
    if told or not stream or not _NUMBER.fullmatch(length):
        raise _invalid(subject, "has ?stream=KEY, and perhaps &length=NUMBER")
    if stream.startswith(_RESERVED):
        raise _invalid(subject, f"has a stream whose key does not begin with {_RESERVED}")
    if url:
        try:
            parse_address(url)
        except SettingInvalid:
            raise _invalid(subject, "has the URL of a Redis before its ?") from None
    return EventTarget(name, "redis", url, stream=stream, length_max=int(length))


def _invalid(subject: str, rule: str) -> SettingInvalid:
    return SettingInvalid(
        f"{subject} {rule}",
        hint="for example hook=https://host/path or log=redis:?stream=events",
    )
