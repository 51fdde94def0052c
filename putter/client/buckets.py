"""What ``/bucket`` and ``/buckets`` tell of buckets and their settings."""

from __future__ import annotations

import msgspec


class BucketPolicy(msgspec.Struct, frozen=True):
    """N, W, R and consistency, as they count.

    Attributes:
        replicas: putters that should hold each extent (N).
        write_quorum: of them, on how many a write is durable before it is answered (W).
        read_quorum: replicas that are verified before a read gives bytes out (R).
        consistency: ``available`` or ``strict``.
    """

    replicas: int
    write_quorum: int
    read_quorum: int
    consistency: str


class OwnSettings(msgspec.Struct, frozen=True):
    """The same as far as a bucket says it itself; None: as the store.

    Attributes:
        replicas, write_quorum, read_quorum, consistency: as in `BucketPolicy`.
        quota_bytes: how many bytes it may hold in all versions; None: any number.
        quota_files: how many files, each version counted; None: any number.
    """

    replicas: int | None = None
    write_quorum: int | None = None
    read_quorum: int | None = None
    consistency: str | None = None
    quota_bytes: int | None = None
    quota_files: int | None = None


class Used(msgspec.Struct, frozen=True):
    """How much a bucket holds.

    Attributes:
        bytes: of all versions of its files.
        files: how many versions, delete markers left out.
        upload_bytes: in parts of open uploads.
    """

    bytes: int
    files: int
    upload_bytes: int = 0


class BucketInfo(msgspec.Struct, frozen=True):
    """A bucket and its settings.

    Attributes:
        bucket: its name.
        settings: what it says itself.
        policy: what counts for it.
        version: of the last change; None if there was none.
        changed_ms: when that was, milliseconds since 1970.
        followed: whether the files that were there before all follow it by now.
        others: names of settings that the router does not know.
        used: how much it holds; None if the answer does not tell.
    """

    bucket: str
    settings: OwnSettings
    policy: BucketPolicy
    version: str | None = None
    changed_ms: int | None = None
    followed: bool = True
    others: tuple[str, ...] = ()
    used: Used | None = None


class BucketList(msgspec.Struct, frozen=True):
    """All buckets.

    Attributes:
        store: what counts where a bucket says nothing itself.
        buckets: by name.
    """

    store: BucketPolicy
    buckets: tuple[BucketInfo, ...]
