"""Access keys behind a web door."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol, TypeVar
from urllib.parse import quote

import msgspec

from common.pairs import new_id
from putter.client.http import Answer, Exchange

_SAFE: Final = "-._"
_JSON: Final = {"Content-Type": "application/json"}
T = TypeVar("T")


class Told(Protocol):
    """Reads an answer."""

    def __call__(self, answer: Answer, kind: type[T], /) -> T:
        """What it tells."""


class KeyInfo(msgspec.Struct, frozen=True):
    """An access key without its secret.

    Attributes:
        access_key_id: its public half.
        owner: whose it is.
        read_only: whether it may change nothing.
        buckets: ``read`` or ``write`` by bucket; empty: all of them.
        changed_ms: when it was made or got its secret, milliseconds since 1970.
        version: of that change.
        sealed_with: id of the cluster key that its secret is encrypted with.
        old_secret_until_ms: until when the secret before this one counts, too; 0: it does not.
    """

    access_key_id: str
    owner: str
    read_only: bool
    buckets: dict[str, str]
    changed_ms: int
    version: str
    sealed_with: str
    old_secret_until_ms: int = 0


class IssuedKey(KeyInfo, frozen=True, kw_only=True):
    """The same with its secret, as it is told once.

    Attributes:
        secret_key: the secret.
    """

    secret_key: str


class KeyList(msgspec.Struct, frozen=True):
    """All keys, by id."""

    keys: tuple[KeyInfo, ...]


class Keys:
    """The access keys of a store.

    Args:
        exchange: the way there.
        told: reads an answer.
    """

    def __init__(self, exchange: Exchange, told: Told) -> None:
        self._exchange = exchange
        self._told = told

    def every(self) -> tuple[KeyInfo, ...]:
        """All of them, without their secrets."""
        return self._told(self._exchange.send("GET", "/keys"), KeyList).keys

    def create(
        self,
        access_key_id: str | None = None,
        *,
        secret_key: str | None = None,
        owner: str | None = None,
        read_only: bool = False,
        buckets: Mapping[str, str] | None = None,
    ) -> IssuedKey:
        """Make a key; when this returns, it is durable.

        Args:
            access_key_id: its public half; None: a random one.
            secret_key: the other; None: a random one.
            owner: whose it is; None: ``root``.
            read_only: it may change nothing.
            buckets: ``read`` or ``write`` by bucket; None: all of them.

        Raises:
            UsageError: it cannot be so.
            WriteConflict: there is one with this id.
        """
        given = {
            "secret_key": secret_key,
            "owner": owner,
            "read_only": read_only,
            "buckets": dict(buckets or {}),
        }
        wanted = {name: value for name, value in given.items() if value is not None}
        return self._put(_path(access_key_id or new_id()), wanted, IssuedKey)

    def rotate(
        self, access_key_id: str, secret_key: str | None = None, *, keep_old_s: int = 0
    ) -> IssuedKey:
        """Give a key another secret.

        Args:
            access_key_id: its public half.
            secret_key: the new one; None: a random one.
            keep_old_s: so long, in seconds, the old one counts, too; else nowhere after two.

        Raises:
            NotFound: there is no such key.
        """
        wanted: dict[str, object] = {"keep_old_s": keep_old_s} if keep_old_s else {}
        if secret_key is not None:
            wanted["secret_key"] = secret_key
        return self._put(f"{_path(access_key_id)}/secret", wanted, IssuedKey)

    def update(
        self,
        access_key_id: str,
        *,
        owner: str | None = None,
        read_only: bool | None = None,
        buckets: Mapping[str, str] | None = None,
    ) -> KeyInfo:
        """Change whose a key is and what it may; None stays, as its secret does.

        Args:
            access_key_id: its public half.
            owner: whose it is.
            read_only: it may change nothing.
            buckets: ``read`` or ``write`` by bucket; empty: all of them.

        Raises:
            UsageError: it cannot be so.
            NotFound: there is no such key.
        """
        given = {"owner": owner, "read_only": read_only, "buckets": buckets}
        wanted = {name: value for name, value in given.items() if value is not None}
        return self._put(f"{_path(access_key_id)}/rights", wanted, KeyInfo)

    def delete(self, access_key_id: str) -> None:
        """Take a key away; it counts nowhere after two seconds.

        Raises:
            NotFound: there is no such key.
        """
        self._exchange.text(self._exchange.send("DELETE", _path(access_key_id)), 1024)

    def _put(self, path: str, wanted: Mapping[str, object], kind: type[T]) -> T:
        body = msgspec.json.encode(wanted)
        return self._told(self._exchange.send("PUT", path, headers=_JSON, body=body), kind)


def _path(access_key_id: str) -> str:
    return f"/key/{quote(access_key_id, safe=_SAFE)}"
