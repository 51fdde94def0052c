"""Where redirects of a website lead: the value of ``Location``. Pure.

Whatever a visitor sends becomes part of a path, percent-encoded, and nothing else: never a host,
never a line of its own. Hosts are those that the bucket's owner named, or the website's own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from router.gateway.s3.failures import S3Error
from router.gateway.s3.website.model import Redirect, Rule

HEADER: Final = "x-amz-website-redirect-location"
"""Of a request that writes an object: where the website sends whoever asks for the object."""
_LOCATION_BYTES_MAX: Final = 2 * 1024
_BEGINNINGS: Final = ("/", "http://", "https://")
_URL_SAFE: Final = "!#$%&'()*+,/:;=?@[]-._~"
"""What stands for itself in a URL that somebody wrote down: also what is encoded already."""
_PATH_SAFE: Final = "/!$&'()*+,;=:@-._~"
_PORT: Final = re.compile(r":([0-9]{1,5})$")


@dataclass(frozen=True)
class Visit:
    """What of a request redirects are made of.

    Attributes:
        host: the website's own host, without a port.
        port: of that host as the visitor knows it; "": that of the protocol.
        protocol: ``http`` or ``https``.
        key: that is asked for.
    """

    host: str
    port: str
    protocol: str
    key: str


def visit_of(host: str, key: str, *, encrypted: bool) -> Visit:
    """A visit.

    Args:
        host: the Host header; what is before the port names a bucket of the website domain.
        key: that is asked for.
        encrypted: whether the connection is.
    """
    port = _PORT.search(host)
    name = host.rpartition(":")[0] or host
    return Visit(name.lower(), port[1] if port else "", "https" if encrypted else "http", key)


def of_everything(redirect: Redirect, visit: Visit) -> str:
    """Where a website sends a visitor that redirects everything."""
    return _absolute(redirect, visit, visit.key)


def of_rule(rule: Rule, visit: Visit) -> str:
    """Where a rule sends a visitor."""
    redirect, key = rule.redirect, visit.key
    if redirect.key is not None:
        key = redirect.key
    elif redirect.prefix is not None:
        key = redirect.prefix + key[len(rule.prefix or "") :]
    if not (redirect.host or redirect.protocol):
        return path_of(key)
    return _absolute(redirect, visit, key)


def path_of(key: str) -> str:
    """A key as the path of a URL; one that begins with ``/`` does not become a host."""
    if key.startswith("/"):
        return f"/%2F{_encoded(key[1:])}"
    return f"/{_encoded(key)}"


def of_object(value: str) -> str:
    """Where an object sends a visitor, from what is kept with it."""
    return quote(value, safe=_URL_SAFE)


def checked(value: str) -> str:
    """Where an object shall send visitors.

    Raises:
        S3Error: ``InvalidRedirectLocation``, or it is longer than S3 keeps.
    """
    if not value.startswith(_BEGINNINGS) or any(c < " " or c == "\x7f" for c in value):
        raise S3Error("InvalidRedirectLocation")
    if len(value.encode("utf-8", "surrogateescape")) > _LOCATION_BYTES_MAX:
        raise S3Error(
            "InvalidArgument",
            f"The length of {HEADER} cannot exceed {_LOCATION_BYTES_MAX} bytes.",
            ArgumentName=HEADER,
        )
    return value


def _absolute(redirect: Redirect, visit: Visit, key: str) -> str:
    protocol = redirect.protocol or visit.protocol
    host = redirect.host
    if not host:
        same = protocol == visit.protocol and visit.port
        host = f"{visit.host}:{visit.port}" if same else visit.host
    return f"{protocol}://{host}{path_of(key)}"


def _encoded(key: str) -> str:
    return quote(key, safe=_PATH_SAFE)
