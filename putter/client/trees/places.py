"""The two ends of a copy: ``putter:bucket/key`` is in the store, anything else on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from common.errors import UsageError
from common.names import check_bucket, check_key, format_name

SCHEME: Final = "putter:"
PIPE: Final = "-"


@dataclass(frozen=True)
class StorePlace:
    """A file of the store, or all files whose keys begin alike.

    Attributes:
        bucket: its bucket.
        key: key, or the beginning of keys; "" for the whole bucket.
    """

    bucket: str
    key: str = ""

    def __str__(self) -> str:
        """As it is written on the command line."""
        return SCHEME + format_name(self.bucket, self.key).removesuffix("/" if not self.key else "")

    @property
    def holds_many(self) -> bool:
        """Whether it cannot be one file: a bucket, or something with a slash at its end."""
        return not self.key or self.key.endswith("/")

    @property
    def directory(self) -> str:
        """What the keys of its files begin with: "", or something with a slash at its end."""
        return self.key if self.holds_many else f"{self.key}/"

    @property
    def name(self) -> str:
        """``bucket/key``."""
        return format_name(self.bucket, self.key)

    def below(self, name: str) -> StorePlace:
        """A file of the tree that begins here."""
        return StorePlace(self.bucket, self.directory + name)


Place = StorePlace | Path


def parse_place(text: str) -> Place:
    """What was written on the command line: ``putter:bucket``, ``putter:bucket/key`` or a path.

    A path that begins with ``putter:`` is written ``./putter:…``.

    Raises:
        NameInvalid: the bucket or the key is not valid.
        UsageError: there is nothing.
    """
    if text.startswith(SCHEME):
        bucket, _, key = text.removeprefix(SCHEME).partition("/")
        check_bucket(bucket)
        return StorePlace(bucket, check_key(key) if key else "")
    if not text:
        raise UsageError("an empty path", hint="write . for the working directory")
    return Path(text)


def store_place(text: str) -> StorePlace:
    """The same for what has to be in the store.

    Raises:
        NameInvalid: the bucket or the key is not valid.
        UsageError: it is a path.
    """
    place = parse_place(text)
    if not isinstance(place, StorePlace):
        raise UsageError(f"{text} is not in the store", hint="write putter:bucket/key")
    return place


def check_apart(source: StorePlace, target: StorePlace) -> None:
    """Refuse to copy a tree of the store into itself.

    Raises:
        UsageError: one of the two lies in the other.
    """
    one, other = source.directory, target.directory
    if source.bucket == target.bucket and (one.startswith(other) or other.startswith(one)):
        raise UsageError(f"{source} and {target} lie within each other")
