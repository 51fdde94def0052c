"""What an access key is, what it may, and what is asked for of one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from common.errors import UsageError
from common.names import check_bucket
from common.pairs import ROOT, check_id, check_owner, check_secret
from common.records import AccessKey

READ: Final = "read"
WRITE: Final = "write"
_BUCKETS_MAX: Final = 1_000


@dataclass(frozen=True)
class Key:
    """An access key, ready to verify a signature.

    Attributes:
        access_key_id: its public half.
        secret: what its owner signs with.
        owner: whose it is.
        read_only: whether it may change nothing.
        buckets: what it may with single buckets, ``read`` or ``write``; empty: with all of them.
        former: the secret before this one; "": it counts no more.
        former_until_ms: until when it counts, milliseconds since 1970.
    """

    access_key_id: str
    secret: str = field(repr=False)
    owner: str
    read_only: bool
    buckets: Mapping[str, str]
    former: str = field(default="", repr=False)
    former_until_ms: int = 0

    def secrets(self, now_ms: int) -> tuple[str, ...]:
        """The secrets that count at a moment, the newest first."""
        if self.former and now_ms < self.former_until_ms:
            return self.secret, self.former
        return (self.secret,)

    def may(self, bucket: str, *, write: bool) -> bool:
        """Whether it may read a bucket, or change it.

        Args:
            bucket: its name; "": what is about all of them.
            write: change it.
        """
        if write and self.read_only:
            return False
        if not self.buckets:
            return True
        right = self.buckets.get(bucket)
        return right == WRITE or (right == READ and not write)


@dataclass(frozen=True)
class Wanted:
    """What a new key shall be.

    Attributes:
        access_key_id: its public half.
        secret: the other; None: a random one.
        owner: whose it is.
        read_only: whether it may change nothing.
        buckets: ``read`` or ``write`` by bucket; empty: all of them.
    """

    access_key_id: str
    secret: str | None = field(default=None, repr=False)
    owner: str = ROOT
    read_only: bool = False
    buckets: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RightsChange:
    """What shall be different of a key; None stays.

    Attributes:
        owner: whose it is.
        read_only: whether it may change nothing.
        buckets: ``read`` or ``write`` by bucket; empty: all of them.
    """

    owner: str | None = None
    read_only: bool | None = None
    buckets: Mapping[str, str] | None = None

    def of(self, held: AccessKey) -> AccessKey:
        """A key with this change."""
        wanted = {"owner": self.owner, "read_only": self.read_only, "buckets": self.buckets}
        changed = {name: value for name, value in wanted.items() if value is not None}
        return msgspec.structs.replace(held, **changed)


@dataclass(frozen=True)
class Issued:
    """A key and its secret, to be shown once.

    Attributes:
        record: what was made durable.
        secret: in clear.
    """

    record: AccessKey
    secret: str = field(repr=False)


def check(wanted: Wanted) -> None:
    """Refuse what no key can be.

    Raises:
        UsageError: why.
    """
    check_id(wanted.access_key_id)
    if wanted.secret is not None:
        check_secret(wanted.secret)
    check_owner(wanted.owner)
    if len(wanted.buckets) > _BUCKETS_MAX:
        raise UsageError(f"a key names at most {_BUCKETS_MAX} buckets")
    for bucket, right in wanted.buckets.items():
        check_bucket(bucket)
        if right not in (READ, WRITE):
            raise UsageError(f"{right[:64]!a} is no right", hint="read or write")
