"""Commit records: the self-describing description of a change, durable on the putters.

A record is one msgpack map with a field ``kind``. Everything that Redis knows about committed
names can be rebuilt from records alone: for each name the highest stamp wins. Kinds that this
version does not know are kept as they came and handed on (`Unknown`).

| kind | says |
|---|---|
| ``version`` | a version of a name was written: where each of its bytes is |
| ``tombstone`` | the name holds nothing from this stamp on |
| ``abort`` | a version was given up and must never become visible |
| ``bucket`` | this is how a bucket is kept from this stamp on |
| ``key`` | an access key is this from this stamp on, or is no more |
| ``members`` | these putters make up the cluster from this stamp on |
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from common.errors import IntegrityError
from common.locks import UNLOCKED, Lock, joined_locks

ANYONE: Final = "*"
"""In the place of a putter: any that does not hold it yet."""
KEYS_BUCKET: Final = "@keys"
"""Where access keys are kept, as if in a bucket; no bucket of files can have this name."""


class Extent(msgspec.Struct, frozen=True, array_like=True):
    """Consecutive tickets of one object on the same putters.

    Attributes:
        first: number of the first ticket.
        count: how many tickets.
        size: data bytes in them; every ticket but the object's last holds ``frame_bytes``.
        nodes: identities of the putters that hold all of it.
        owed: putters that should hold it too, and lack it: each with the one of ``nodes`` that
            holds it in its place, or "" if nobody does. `ANYONE` stands for a putter that is not
            chosen yet.
    """

    first: int
    count: int
    size: int
    nodes: tuple[str, ...]
    owed: dict[str, str] = {}


class StoredObject(msgspec.Struct, frozen=True, array_like=True):
    """An immutable sequence of extents.

    Attributes:
        object_id: ObjectID, base 36.
        size: data bytes.
        frame_bytes: data bytes of every ticket but the last.
        blake3: 32-byte BLAKE3 of all bytes.
        extents: in the order of the bytes.
    """

    object_id: str
    size: int
    frame_bytes: int
    blake3: bytes
    extents: tuple[Extent, ...]

    @property
    def tickets(self) -> int:
        """How many tickets the object has."""
        return sum(extent.count for extent in self.extents)


class Encryption(msgspec.Struct, frozen=True, array_like=True):
    """How the bytes of a version were encrypted before they were stored (`router.object_keys`).

    Attributes:
        key_id: id of the cluster key that its key comes from; "": its key comes from one that its
            client keeps, and gives with each request.
        salt: what makes the key one for this version alone, 16 bytes.
        proof: tells whether a client's key is the one, 32 bytes; empty for a cluster key.
        nonces: where counting begins in each of ``parts``, 8 bytes each; empty: at 0, in one.
    """

    key_id: str
    salt: bytes
    proof: bytes = b""
    nonces: bytes = b""


class Acl(msgspec.Struct, frozen=True, array_like=True):
    """Whom a version lets in beside those whom its bucket does.

    Attributes:
        name: one of the canned ACLs of S3 that let in others than the owner; "": nobody.
        stamp: 0, or that of its last change.
    """

    name: str = ""
    stamp: int = 0


NO_ACL: Final = Acl()


class Version(msgspec.Struct, frozen=True, tag="version", tag_field="kind", omit_defaults=True):
    """What a name holds from ``stamp`` on.

    Attributes:
        bucket: bucket name.
        key: key, UTF-8, 1…1024 bytes.
        stamp: the change's place in the total order of changes; also the version's ID.
        size: data bytes of all objects.
        etag: entity tag without quotes; "": it is a delete marker, and the name holds nothing.
        created_ms: wall clock, milliseconds since 1970.
        objects: the bytes; empty for a file without a byte.
        headers: what is given back with the bytes, such as ``content-type``.
        replicas: how many putters should hold each extent; fewer were alive if its nodes
            are fewer.
        revision: 0, or a stamp above those of all earlier descriptions of this version: it was
            found elsewhere than those say. Its place in the order of changes stays the same.
        checksums: what the sender had verified, by the name of the algorithm (``crc64nvme``), in
            Base64; one of the checksums of parts has ``-`` and their number behind it.
        upload: the upload in parts that it was made of, or the mark of the rename that it came of
            (`router.renames`); "" for none.
        parts: how many parts of how many bytes it came in, in their order.
        tags: what its users call it by, values by key.
        tagged: 0, or the stamp of the last change of ``tags``, above those of all earlier
            descriptions of this version. Like ``revision`` it leaves the order of changes as it is,
            and each of the two counts for its own (`joined`).
        digests: the checksums of its parts, in their order, one right behind the other: all of the
            algorithm of ``checksums``, as bytes; empty if not all parts had one.
        lock: what keeps it; the last changes of that have stamps of their own, likewise.
        encryption: how its bytes were encrypted before they were stored, or those of an upload in
            parts will be; None: they were not. ``size`` and ``checksums`` are of the plain bytes.
        acl: whom it lets in; the last change of that has a stamp of its own, like that of ``tags``.
    """

    bucket: str
    key: str
    stamp: int
    size: int
    etag: str
    created_ms: int
    objects: tuple[StoredObject, ...]
    headers: dict[str, str] = {}
    replicas: int = 1
    revision: int = 0
    checksums: dict[str, str] = {}
    upload: str = ""
    parts: tuple[tuple[int, int], ...] = ()
    tags: dict[str, str] = {}
    tagged: int = 0
    digests: bytes = b""
    lock: Lock = UNLOCKED
    encryption: Encryption | None = None
    acl: Acl = NO_ACL

    @property
    def is_marker(self) -> bool:
        """Whether it is a delete marker."""
        return not self.etag


class Tombstone(msgspec.Struct, frozen=True, tag="tombstone", tag_field="kind", omit_defaults=True):
    """The name holds nothing from ``stamp`` on.

    Attributes:
        bucket: bucket name.
        key: key.
        stamp: the change's place in the total order of changes.
        created_ms: wall clock, milliseconds since 1970.
        of: stamp of the one version that a deletion on a condition found there; 0 for one
            without a condition. It counts as if it had come right behind that version: whatever
            came later stays, also what came before ``stamp``.
    """

    bucket: str
    key: str
    stamp: int
    created_ms: int
    of: int = 0

    @property
    def since(self) -> int:
        """Versions up to this stamp are deleted."""
        return self.of or self.stamp


class Abort(msgspec.Struct, frozen=True, tag="abort", tag_field="kind"):
    """A version of this name was given up and must never become visible.

    Attributes:
        bucket: bucket name.
        key: key.
        stamp: of the abort itself.
        object_id: the object that was given up with it; "" if the version has none.
        aborted: stamp of the version.
    """

    bucket: str
    key: str
    stamp: int
    object_id: str
    aborted: int = 0


class BucketSettings(msgspec.Struct, frozen=True, tag="bucket", tag_field="kind"):
    """How a bucket is kept from ``stamp`` on; of several records the latest counts, as a whole.

    Attributes:
        bucket: bucket name.
        stamp: the change's place in the total order of changes.
        created_ms: wall clock, milliseconds since 1970.
        settings: values by name, of what msgpack knows. What is not there is as in the whole store;
            names that this version does not know are kept.
    """

    bucket: str
    stamp: int
    created_ms: int
    settings: dict[str, Any]


class AccessKey(msgspec.Struct, frozen=True, tag="key", tag_field="kind", omit_defaults=True):
    """An access key from ``stamp`` on; of several records of a key the latest counts, as a whole.

    Attributes:
        bucket: `KEYS_BUCKET`.
        key: the access key id.
        stamp: the change's place in the total order of changes.
        created_ms: wall clock, milliseconds since 1970.
        sealed: the secret, encrypted (see `common.sealing`); empty: there is no such key any more.
        sealed_with: id of the cluster key that it is encrypted with.
        owner: whose it is.
        read_only: whether it may change nothing.
        buckets: what it may with single buckets, ``read`` or ``write``; empty: with all of them.
        former: the secret before this one, encrypted; empty: it counts no more.
        former_with: id of the cluster key that it is encrypted with.
        former_until_ms: wall clock, milliseconds since 1970: until then it counts, too.
    """

    bucket: str
    key: str
    stamp: int
    created_ms: int
    sealed: bytes = b""
    sealed_with: str = ""
    owner: str = ""
    read_only: bool = False
    buckets: dict[str, str] = {}
    former: bytes = b""
    former_with: str = ""
    former_until_ms: int = 0


class Peer(msgspec.Struct, frozen=True, array_like=True):
    """A putter of the cluster: its identity, and where it was last."""

    node: str
    address: str


class Members(msgspec.Struct, frozen=True, tag="members", tag_field="kind", omit_defaults=True):
    """The putters that make up the cluster from ``stamp`` on.

    Every putter keeps it, so that a rebuild knows who else has to answer, and who must not.

    Attributes:
        stamp: of the list.
        peers: sorted by identity.
        decided: what the operator decided of putters (`common.membership.Decision`), by identity;
            they need not be among the peers.
    """

    stamp: int
    peers: tuple[Peer, ...]
    decided: dict[str, str] = {}


class Unknown(msgspec.Struct, frozen=True):
    """A record of a kind that this version does not know."""

    kind: str
    raw: bytes


Change = Version | Tombstone | Abort | BucketSettings | AccessKey
"""What a record can say of a name, of a bucket, or of an access key."""
Known = Change | Members
CommitRecord = Known | Unknown

KINDS: Final = frozenset({"version", "tombstone", "abort", "bucket", "key", "members"})

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final[msgspec.msgpack.Decoder[Known]] = msgspec.msgpack.Decoder(Known)
_version_decoder: Final = msgspec.msgpack.Decoder(Version)
# Text that is not UTF-8, and arrays nested a thousand deep, have errors of their own.
_NOT_MSGPACK: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class _Kind(msgspec.Struct):
    kind: str


class _Encrypted(msgspec.Struct):
    encryption: Encryption | None = None


_encrypted_decoder: Final = msgspec.msgpack.Decoder(_Encrypted)
_kind_decoder: Final = msgspec.msgpack.Decoder(_Kind)


def encode(record: CommitRecord) -> bytes:
    """The record's bytes; an unknown one comes back as it was read."""
    if isinstance(record, Unknown):
        return record.raw
    return _encoder.encode(record)


def decode(data: bytes) -> CommitRecord:
    """The record in these bytes.

    Raises:
        IntegrityError: not a commit record of any version.
    """
    try:
        return _decoder.decode(data)
    except _NOT_MSGPACK as error:
        try:
            kind = _kind_decoder.decode(data).kind
        except _NOT_MSGPACK:
            kind = ""
        if not kind or kind in KINDS:
            raise IntegrityError(f"not a commit record: {error}") from error
        return Unknown(kind=kind, raw=bytes(data))


def name_of(change: Change) -> str:
    """What a change is about, as placement and people name it: a file, or a bucket."""
    if isinstance(change, BucketSettings):
        return change.bucket
    return f"{change.bucket}/{change.key}"


def kept_under(record: Known) -> int:
    """The stamp under which putters keep a record: of versions their last description's."""
    if isinstance(record, Version):
        dates = (record.revision, record.tagged, record.lock.retained, record.lock.held)
        return max(record.stamp, *dates, record.acl.stamp)
    return record.stamp


def joined(one: Version, other: Version) -> Version:
    """Two descriptions of the same version, read together.

    Where its bytes are is true as the one with the higher ``revision`` says, its tags are those of
    the one with the higher ``tagged``, its ACL is that with the higher stamp, and its lock as
    `common.locks.joined_locks` has it: whoever
    changes the one undoes no change of the others, in whatever order the records are found. What is
    equal is taken from ``one``.
    """
    place = one if one.revision >= other.revision else other
    named = one if one.tagged >= other.tagged else other
    lock = joined_locks(one.lock, other.lock)
    acl = one.acl if one.acl.stamp >= other.acl.stamp else other.acl
    return msgspec.structs.replace(place, tags=named.tags, tagged=named.tagged, lock=lock, acl=acl)


def is_described_anew(version: Version) -> bool:
    """Whether other descriptions of this version were there before this one."""
    return kept_under(version) > version.stamp


def kind_of(data: bytes) -> str:
    """The kind of the record in these bytes; "" if it is none."""
    try:
        return _kind_decoder.decode(data).kind
    except _NOT_MSGPACK:
        return ""


def cluster_key_in(data: bytes) -> str:
    """The id of the cluster key that the bytes are encrypted with which a record describes.

    Returns:
        "" if they are not, or with another key, or these bytes are no record.
    """
    try:
        encryption = _encrypted_decoder.decode(data).encryption
    except _NOT_MSGPACK:
        return ""
    return encryption.key_id if encryption is not None else ""


def decode_version(data: bytes) -> Version:
    """A record that must be a version's.

    Raises:
        IntegrityError: it is not.
    """
    try:
        return _version_decoder.decode(data)
    except _NOT_MSGPACK as error:
        raise IntegrityError(f"not a version's commit record: {error}") from error
