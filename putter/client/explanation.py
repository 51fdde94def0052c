"""What ``/explain`` tells of a file."""

from __future__ import annotations

import msgspec

from putter.client.buckets import BucketPolicy


class Replica(msgspec.Struct, frozen=True):
    """A putter that holds some of a file.

    Attributes:
        node: its identity.
        link: ``up`` or ``down``, as the router sees it.
        extents, bytes, tickets: what it should hold of the file.
        held: how many of these tickets it says it holds; None if it cannot be asked.
        verified: whether a verification of its disk has read all of it since it was written there,
            and found it whole; None if the putter cannot tell.
        verified_ms: since when all of it is; milliseconds since 1970.
        disk_verified_ms: end of the last whole verification of its disk; the same.
    """

    node: str
    link: str
    extents: int
    bytes: int
    tickets: int
    held: int | None = None
    verified: bool | None = None
    verified_ms: int | None = None
    disk_verified_ms: int | None = None


class Missing(msgspec.Struct, frozen=True):
    """What a putter should hold of a file and does not.

    Attributes:
        node: the putter; ``any`` for one that is not chosen yet.
        held_by: who holds it in its place.
        bytes: how many.
    """

    node: str
    held_by: str | None
    bytes: int


class Loss(msgspec.Struct, frozen=True):
    """What becomes of a file if a putter is lost.

    Attributes:
        copies_left: of each byte, at the least.
        lost_bytes: bytes that nobody else holds.
        copied_again: whether the others make further copies by themselves.
    """

    copies_left: int
    lost_bytes: int
    copied_again: bool


class Explanation(msgspec.Struct, frozen=True):
    """Where each replica of a file is.

    Attributes:
        bucket, key, size, version: the file.
        replicas_wanted: N, as it counts for the bucket now.
        replicas: putters that hold some of it.
        owed: putters that should hold some of it too.
        if_lost: by putter.
        policy: what counts for the bucket.
        record_owed: of a file without a byte: putters that lack its commit record.
    """

    bucket: str
    key: str
    size: int
    version: str
    replicas_wanted: int
    replicas: tuple[Replica, ...]
    owed: tuple[Missing, ...]
    if_lost: dict[str, Loss]
    record_owed: tuple[str, ...] = ()
    policy: BucketPolicy | None = None
