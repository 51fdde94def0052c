"""What a policy may ask of a request, beside what it is about. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from router.gateway.s3.canonical import ALGORITHM
from router.gateway.s3.policy.actions import LISTINGS, LISTS, ON_OBJECTS

_HEADERS: Final = {
    "aws:referer": "referer",
    "aws:useragent": "user-agent",
    "s3:x-amz-content-sha256": "x-amz-content-sha256",
}
_LISTED: Final = ("prefix", "delimiter", "max-keys")


@dataclass(frozen=True)
class Signature:
    """How a request is signed.

    Attributes:
        owner: of its access key.
        kind: ``REST-HEADER``, ``REST-QUERY-STRING`` or ``POST``.
        date: when, as it says.
    """

    owner: str
    kind: str
    date: datetime


@dataclass(frozen=True)
class Facts:
    """What is known of a request.

    Attributes:
        operation: what it is.
        headers: by names in lower case.
        parameters: of its query, decoded, as its operation reads them.
        acl: the canned ACL that it names; None: none.
        signature: which holds; None: it has none.
        peer: the address that it came from.
        secure: whether the connection is encrypted.
        now_ms: wall clock, milliseconds since 1970.
        encryption: from `router.gateway.s3.sse_headers.asked_for`.
    """

    operation: str
    headers: Mapping[str, Sequence[str]]
    parameters: Mapping[str, str]
    acl: str | None
    signature: Signature | None
    peer: str
    secure: bool
    now_ms: int
    encryption: Mapping[str, str] = field(default_factory=dict)

    def values(self, action: str, version: str | None) -> dict[str, list[str]]:
        """By the keys of conditions, in lower case.

        What only some operations read is there for those alone: nobody can put a parameter there
        to please a policy, and nothing else.

        Args:
            action: what is asked about, without ``s3:``.
            version: the version that it names, if it names one.
        """
        now = datetime.fromtimestamp(self.now_ms / 1000, UTC)
        values = {
            "aws:currenttime": [now.strftime("%Y-%m-%dT%H:%M:%SZ")],
            "aws:epochtime": [str(self.now_ms // 1000)],
            "aws:principaltype": ["Anonymous" if self.signature is None else "User"],
            "aws:securetransport": ["true" if self.secure else "false"],
        }
        if self.peer:
            values["aws:sourceip"] = [self.peer]
        for key, name in _HEADERS.items():
            if name in self.headers:
                values[key] = [", ".join(self.headers[name])]
        if self.signature is not None:
            age_ms = self.now_ms - int(self.signature.date.timestamp() * 1000)
            values["aws:username"] = [self.signature.owner]
            values["s3:authtype"] = [self.signature.kind]
            values["s3:signatureage"] = [str(max(0, age_ms))]
            values["s3:signatureversion"] = [ALGORITHM]
        if action in LISTS and self.operation in LISTINGS:
            for name in _LISTED:
                if name in self.parameters:
                    values[f"s3:{name}"] = [self.parameters[name]]
        if self.acl is not None:
            values["s3:x-amz-acl"] = [self.acl]
        if action == "PutObject":
            values |= {f"s3:{name}": [value] for name, value in self.encryption.items()}
        if action in ON_OBJECTS and version is not None:
            values["s3:versionid"] = [version]
        return values
