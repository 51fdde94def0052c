"""What a write is asked for, and what it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from msgspec.structs import replace

from common.errors import (
    IntegrityError,
    ObjectGone,
    PreconditionFailed,
    PutterError,
    ShuttingDown,
    Unavailable,
)
from common.locks import NO_DEFAULT, UNLOCKED, Default, Lock
from common.meta.interface import Commit, Outcome
from common.names import format_name
from common.records import NO_ACL, Acl, Encryption, StoredObject, Version
from common.versions import plain_name, version_name, versions_of
from router.events import PUT

VISIBLE: Final = frozenset({Outcome.PUBLISHED, Outcome.SUPERSEDED})
"""Outcomes of a commit that count as written; the second one was overwritten at once."""
SEND_AGAIN: Final = "send it again"


@dataclass(frozen=True)
class Sealed:
    """What a door says of a stream that has ended.

    Attributes:
        etag: entity tag without quotes.
        checksums, upload, parts, digests: kept in the version, as `common.records.Version` has
            them.
    """

    etag: str
    checksums: dict[str, str] = field(default_factory=dict)
    upload: str = ""
    parts: tuple[tuple[int, int], ...] = ()
    digests: bytes = b""


@dataclass(frozen=True)
class Target:
    """What a stream becomes.

    Attributes:
        bucket: bucket name.
        key: key; "" names the file after its ObjectID.
        headers: given back with the bytes.
        if_match: publish only if the name's present etag is this; ``"*"``: only if it holds
            anything; ``""``: only if it holds nothing; None: always.
        empty_allowed: whether a stream without a byte is a file.
        tags: what its users call it by.
        seal: asked once the stream has ended; without it the entity tag is made of the BLAKE3.
        lock: what shall keep it; without a time it gets that of its bucket.
        acl: whom it lets in beside those whom its bucket does; "": nobody.
        versioned: whether it becomes a version beside the null one.
        encryption: how what streams in was encrypted; None: it was not.
        size: how many bytes will come; None: nobody said so.
        upload: the upload in parts that it is made of; "" if it comes in one piece.
        default: what its bucket has for those that say nothing.
        event: what those are told who are told of it.
    """

    bucket: str
    key: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    if_match: str | None = None
    empty_allowed: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    seal: Callable[[], Sealed] | None = None
    lock: Lock = UNLOCKED
    acl: str = ""
    versioned: bool = False
    encryption: Encryption | None = None
    size: int | None = None
    upload: str = ""
    default: Default = NO_DEFAULT
    event: str = PUT

    @property
    def place(self) -> str:
        """The bucket that it is written to."""
        return versions_of(self.bucket) if self.versioned else self.bucket

    def name(self, stamp: int, object_id: str = "") -> str:
        """The name that it has there.

        Args:
            stamp: taken once it was clear that it comes; later ones do not change its name.
            object_id: its ObjectID.
        """
        key = self.key or object_id
        return version_name(key, stamp) if self.versioned else key

    def version(
        self,
        name: str,
        stamp: int,
        created_ms: int,
        replicas: int,
        digest: bytes,
        objects: tuple[StoredObject, ...],
    ) -> Version:
        """The version that it becomes, once all bytes have come.

        Args:
            name: from `name`.
            stamp: the change's.
            created_ms: wall clock.
            replicas: how many putters should hold it.
            digest: BLAKE3 of its bytes.
            objects: the bytes.
        """
        sealed = Sealed(etag_of(digest)) if self.seal is None else self.seal()
        return Version(
            bucket=self.place,
            key=name,
            stamp=stamp,
            size=sum(stored.size for stored in objects),
            etag=sealed.etag,
            created_ms=created_ms,
            objects=objects,
            headers=self.headers,
            replicas=replicas,
            checksums=sealed.checksums,
            upload=sealed.upload,
            parts=sealed.parts,
            digests=sealed.digests,
            tags=self.tags,
            acl=Acl(self.acl) if self.acl else NO_ACL,
            encryption=self.encryption,
            lock=self._locked(created_ms),
        )

    def _locked(self, created_ms: int) -> Lock:
        if self.lock.mode or not self.default.mode:
            return self.lock
        return replace(self.default.lock(created_ms), hold=self.lock.hold)


class Changes(Protocol):
    """Who is told what writes through this router have changed, once that is visible."""

    def holds(self, version: Version) -> None:
        """A name holds this version, or a newer one."""
        ...

    def deleted(self, bucket: str, key: str, stamp: int) -> None:
        """A name holds nothing that is older than this."""
        ...


@dataclass(frozen=True)
class Written:
    """A write that is durable and visible.

    Attributes:
        object_id: ObjectID; "" for a file without a byte.
        version: the record.
        digest: 32-byte BLAKE3 of all bytes.
        holders: putters that hold every byte, at the least.
    """

    object_id: str
    version: Version
    digest: bytes
    holders: int

    @property
    def degraded(self) -> bool:
        """Whether fewer putters hold it than should."""
        return self.holders < self.version.replicas


def object_id_of(version: Version) -> str:
    """The object that a version consists of; "" for a file without a byte."""
    return version.objects[0].object_id if version.objects else ""


class VersioningChangedError(Unavailable):
    """A bucket keeps versions in another way since a moment ago: nothing was changed."""


def refusal(commit: Commit, outcome: Outcome) -> PutterError:
    """What it means that a version was not published."""
    version = commit.version
    if outcome is Outcome.REFUSED:
        return PreconditionFailed(f"{format_name(*plain_name(version))} holds another version")
    if outcome is Outcome.ELSEWHERE:
        bucket, _ = plain_name(version)
        return VersioningChangedError(
            f"the versioning of bucket {bucket!r} was changed a moment ago", hint=SEND_AGAIN
        )
    if outcome is Outcome.GONE:
        return ObjectGone(f"object {object_id_of(version)} was given up meanwhile", hint=SEND_AGAIN)
    return IntegrityError(
        f"object {object_id_of(version)}: {commit.acked} of {commit.tickets} tickets are written"
    )


def as_putter_error(error: BaseException) -> PutterError:
    """The error to tell others; a cancellation means that this process stops."""
    if isinstance(error, PutterError):
        return error
    if isinstance(error, asyncio.CancelledError):
        return ShuttingDown("the write was cancelled")
    return PutterError(f"{type(error).__name__}: {error}")


def etag_of(digest: bytes) -> str:
    """The entity tag of bytes without an MD5: 32 hex digits of their BLAKE3 and ``-1``."""
    return f"{digest[:16].hex()}-1"
