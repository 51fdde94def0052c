"""Where Redis is: the URLs that the store accepts.

```
redis://[user:password@]host[:port][/db]      one server        (rediss:// with TLS)
unix://[user:password@]/path/to.sock[?db=n]   one server on this machine
redis+sentinel://[…@]host:port,host:port/service[/db]   the master that Sentinel names
redis+cluster://[…@]host:port,host:port       a cluster         (rediss+… with TLS)
host:port                                     as in REDIS_HOSTPORT
```

User and password are the server's own; Sentinels are asked without. If there is ``@``, ``:``,
``/`` or ``%`` in one, it is percent-encoded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qs, unquote

from common.errors import SettingInvalid

PORT_DEFAULT: Final = 6379
SENTINEL_PORT_DEFAULT: Final = 26379
_KINDS: Final = {"redis": "single", "redis+sentinel": "sentinel", "redis+cluster": "cluster"}


@dataclass(frozen=True)
class RedisAddress:
    """A parsed URL. Its text shows no password.

    Attributes:
        kind: ``single``, ``unix``, ``sentinel`` or ``cluster``.
        hosts: host and port of each server to ask first; empty for ``unix``.
        path: of the socket, for ``unix``.
        service: the master's name, for ``sentinel``.
        db: number of the database.
        tls: whether connections are encrypted.
        user: user name, or None.
        password: password, or None.
    """

    kind: str
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    service: str = ""
    db: int = 0
    tls: bool = False
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        if self.kind == "unix":
            return self.path
        hosts = ",".join(_host_text(host, port) for host, port in self.hosts)
        if self.kind == "sentinel":
            return f"{self.service} of Sentinel {hosts}"
        return hosts


def parse_address(url: str) -> RedisAddress:
    """Read a URL or ``host:port``.

    Raises:
        SettingInvalid: it is neither; the message does not repeat a password.
    """
    scheme, separator, rest = url.strip().partition("://")
    if not separator:
        scheme, rest = "redis", url.strip()
    credentials, at, place = rest.rpartition("@")
    user, _, password = credentials.partition(":")
    access = (unquote(user) or None, unquote(password) or None) if at else (None, None)
    place, _, query = place.partition("?")

    if scheme == "unix":
        if not place.startswith("/"):
            raise _invalid(scheme, place, "the path of the socket begins with /")
        db = parse_qs(query).get("db", ["0"])[0]
        return RedisAddress(
            "unix",
            path=unquote(place, errors="surrogateescape"),
            db=_number(scheme, place, db),
            user=access[0],
            password=access[1],
        )
    tls = scheme.startswith("rediss")
    kind = _KINDS.get(scheme.replace("rediss", "redis", 1) if tls else scheme)
    if kind is None:
        raise _invalid(
            scheme, place, "known are redis, rediss, unix, redis+sentinel, redis+cluster"
        )
    if query:
        raise _invalid(scheme, place, "settings behind ? are not known here")
    netloc, *path = place.rstrip("/").split("/")
    service = ""
    if kind == "sentinel":
        if not path or not path[0]:
            raise _invalid(scheme, place, "the master's name is missing: …/service")
        service = unquote(path.pop(0))
    if len(path) > 1 or (path and kind == "cluster"):
        raise _invalid(scheme, place, "there is more behind the last / than expected")
    default = SENTINEL_PORT_DEFAULT if kind == "sentinel" else PORT_DEFAULT
    hosts = tuple(_host(scheme, place, each, default) for each in netloc.split(","))
    if kind == "single" and len(hosts) > 1:
        raise _invalid(scheme, place, "several hosts want redis+sentinel:// or redis+cluster://")
    return RedisAddress(
        kind,
        hosts=hosts,
        service=service,
        db=_number(scheme, place, path[0]) if path else 0,
        tls=tls,
        user=access[0],
        password=access[1],
    )


def _host(scheme: str, place: str, text: str, default_port: int) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, ""
    host = host.removeprefix("[").removesuffix("]")
    if not host:
        raise _invalid(scheme, place, "a host is missing")
    number = _number(scheme, place, port) if port else default_port
    if not 0 < number < 65_536:
        raise _invalid(scheme, place, f"{number} is not a port")
    return host, number


def _host_text(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _number(scheme: str, place: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise _invalid(scheme, place, f"{text!r} is not a number")
    return int(text)


def _invalid(scheme: str, place: str, reason: str) -> SettingInvalid:
    return SettingInvalid(
        f"{scheme}://{place} is not the address of a Redis: {reason}",
        hint="for example redis://127.0.0.1:6379 or 127.0.0.1:6379",
    )
