"""Canned ACLs of S3: what each lets whom do, and how a request names it. Pure.

```
private, bucket-owner-read, bucket-owner-full-control   the owner everything
public-read                                             everybody READ
public-read-write                                       everybody READ and WRITE
authenticated-read                                      whoever has an access key READ
```

READ of a bucket is to list it, WRITE to put objects into it. READ of an object is to read it; it
belongs to its bucket's owner here, whoever wrote it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from router.gateway.s3.failures import S3Error
from router.gateway.s3.policy.actions import LISTS

PRIVATE: Final = "private"
HEADER: Final = "x-amz-acl"
_GRANT: Final = "x-amz-grant-"
_OWNERS: Final = frozenset({PRIVATE, "bucket-owner-read", "bucket-owner-full-control"})
"""What leaves everything with the owner."""
_FOR_SERVICES: Final = frozenset({"aws-exec-read", "log-delivery-write"})
"""What S3 has beside, for services that are not here."""
ALWAYS: Final = frozenset({PRIVATE, "bucket-owner-full-control"})
"""What can be asked for even where there are no ACLs: it is so anyway."""
_EVERYBODY: Final = "http://acs.amazonaws.com/groups/global/AllUsers"
_WITH_KEY: Final = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers"

READS: Final = frozenset({"GetObject", "GetObjectVersion"})
"""What READ of an object lets somebody do."""

GRANTS: Final[Mapping[str, frozenset[tuple[str, str]]]] = {
    PRIVATE: frozenset(),
    "public-read": frozenset({(_EVERYBODY, "READ")}),
    "public-read-write": frozenset({(_EVERYBODY, "READ"), (_EVERYBODY, "WRITE")}),
    "authenticated-read": frozenset({(_WITH_KEY, "READ")}),
}
"""Beside the owner's ``FULL_CONTROL``: group and permission."""
_ALLOWED: Final[Mapping[str, frozenset[str]]] = {
    "READ": LISTS,
    "WRITE": frozenset({"PutObject"}),
}


def is_public(acl: str) -> bool:
    """Whether S3 calls an ACL public: it grants anything to a group."""
    return bool(GRANTS.get(acl))


def allows(acl: str, action: str, *, with_key: bool) -> bool:
    """Whether the ACL of a bucket lets somebody do something who is not its owner.

    Args:
        acl: its name.
        action: of the policy language.
        with_key: whether he has an access key.
    """
    return any(
        action in _ALLOWED[permission] and (with_key or group == _EVERYBODY)
        for group, permission in GRANTS.get(acl, ())
    )


def lets_read(acl: str, action: str, *, with_key: bool) -> bool:
    """The same of the ACL of an object.

    Args:
        acl: its name.
        action: of the policy language.
        with_key: whether he has an access key.
    """
    return action in READS and any(
        permission == "READ" and (with_key or group == _EVERYBODY)
        for group, permission in GRANTS.get(acl, ())
    )


def asked_acl(headers: Mapping[str, str], parameters: Mapping[str, str]) -> str | None:
    """The canned ACL that a request names: in a header, or in a presigned URL.

    Args:
        headers: of the request, by names in any case.
        parameters: of its query.

    Raises:
        S3Error: there is none of that name, or a grant to somebody is asked for.
    """
    named = {headers[HEADER]} if HEADER in headers else set()
    for name, value in parameters.items():
        if name.lower().startswith(_GRANT):
            raise S3Error("NotImplemented", Header=name.lower())
        if name.lower() == HEADER:
            named.add(value)
    if not named:
        return None
    if len(named) > 1 or not named <= _OWNERS | GRANTS.keys() | _FOR_SERVICES:
        raise S3Error("InvalidArgument", ArgumentName=HEADER, ArgumentValue=" ".join(sorted(named)))
    return named.pop()


def kept(acl: str) -> str:
    """What is kept of this ACL: those that leave all with the owner are one.

    Raises:
        S3Error: ``NotImplemented``: it is for services that are not here.
    """
    if acl in _FOR_SERVICES:
        raise S3Error("NotImplemented", Header=HEADER)
    return PRIVATE if acl in _OWNERS else acl


def kept_of_object(acl: str | None) -> str:
    """What an object with this ACL keeps; "" if it leaves all with the owner, or none is named.

    Raises:
        S3Error: ``NotImplemented``: it is for services that are not here.
    """
    found = PRIVATE if acl is None else kept(acl)
    return "" if found == PRIVATE else found
