"""Signs the requests of a client with an access key, so that its secret never travels.

Signature Version 4 as S3 has it, in the ``Authorization`` header, with a body that is not signed:
the client compares what the router received with what it sent anyway.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final
from urllib.parse import quote, unquote, unquote_plus

from common.errors import UsageError

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_REGION: Final = "us-east-1"
_UNSIGNED: Final = "UNSIGNED-PAYLOAD"
_SAFE: Final = "-._~"


@dataclass(frozen=True)
class Signer:
    """An access key that signs.

    Attributes:
        access_key_id: its public half.
        secret_key: the other.
    """

    access_key_id: str
    secret_key: str = field(repr=False)

    def sign(
        self,
        method: str,
        target: str,
        host: str,
        now: datetime,
        also: Mapping[str, str] | None = None,
    ) -> Mapping[str, str]:
        """The header fields that a request is to have.

        Args:
            method: of the request.
            target: path and query, percent-encoded.
            host: what its Host header says.
            now: the time, with its zone.
            also: further fields that it has and that have to be signed, such as what is copied.
        """
        path, _, query = target.partition("?")
        stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        fields = {"host": host, "x-amz-content-sha256": _UNSIGNED, "x-amz-date": stamp}
        signed = dict(sorted((fields | {n.lower(): v for n, v in (also or {}).items()}).items()))
        names = ";".join(signed)
        lines = [method, quote(unquote(path), safe=f"/{_SAFE}"), _canonical(query)]
        lines += [f"{name}:{value}" for name, value in signed.items()]
        canonical = "\n".join([*lines, "", names, _UNSIGNED])
        scope = f"{stamp[:8]}/{_REGION}/s3/aws4_request"
        digest = sha256(canonical.encode()).hexdigest()
        text = f"{_ALGORITHM}\n{stamp}\n{scope}\n{digest}"
        key = f"AWS4{self.secret_key}".encode()
        for step in scope.split("/"):
            key = hmac.digest(key, step.encode(), sha256)
        fields["authorization"] = (
            f"{_ALGORITHM} Credential={self.access_key_id}/{scope}, SignedHeaders={names}, "
            f"Signature={hmac.digest(key, text.encode(), sha256).hex()}"
        )
        return fields


def signer_of(access_key_id: str | None, secret_key: str | None) -> Signer | None:
    """What signs with this access key; None without one.

    Raises:
        UsageError: one half is missing.
    """
    if access_key_id is None and secret_key is None:
        return None
    if access_key_id is None or secret_key is None:
        raise UsageError("an access key needs both its id and its secret")
    return Signer(access_key_id, secret_key)


def _canonical(query: str) -> str:
    pairs = []
    for item in filter(None, query.split("&")):
        name, _, value = item.partition("=")
        pairs.append(f"{_again(name)}={_again(value)}")
    return "&".join(sorted(pairs))


def _again(text: str) -> str:
    return quote(unquote_plus(text), safe=_SAFE)
