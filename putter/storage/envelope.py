"""Data keys of a node: random, wrapped with the cluster key, kept twice in the data directory.

The files ``data-keys`` and ``data-keys.copy`` are the same, little-endian:

```
offset  size  field
0       8     magic "PUTTRDKS"
8       4     version, 1
12      4     number of keys
16      88 n  the keys; the first one writes
…       8     first 8 bytes of the BLAKE3 of everything before

key     0     8     id
        8     8     id of the cluster key that it is wrapped with
        16    8     id of the cluster key that wrote when it was made
        24    4     zero
        28    12    nonce
        40    48    the key, encrypted with AES-256-GCM: 32 bytes and a tag
```

The wrapping key is derived from the cluster key. With each data key its id and the identity of the
node are authenticated. The format as a document is ``docs/formats/data-keys.md``.
"""

from __future__ import annotations

import logging
import secrets
import struct
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Final

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common.checksum import CHECKSUM_BYTES, KEY_BYTES
from common.errors import NotAuthorised, StorageError
from common.keys import Keyring
from putter.storage.disk import Disk
from putter.storage.segments.packing import key_id_of

MAIN: Final = "data-keys"
COPY: Final = "data-keys.copy"
_NEW: Final = "data-keys.new"
_MAGIC: Final = b"PUTTRDKS"
_VERSION: Final = 1
_HEAD: Final = struct.Struct("<8sII")
_KEY: Final = struct.Struct("<8s8s8s4x12s48s")
_NONCE_BYTES: Final = 12
_KEYS_MAX: Final = 10_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataKeys:
    """What a node encrypts with, and what it may have to decrypt.

    Attributes:
        writing: id of the key for new records.
        keys: all keys by their ids.
        files: where they are kept.
    """

    writing: bytes
    keys: Mapping[bytes, bytes] = field(repr=False)
    files: KeyFiles = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class _Wrapped:
    """One key of the file; see the module."""

    key_id: bytes
    cluster_key: str
    made_under: str
    nonce: bytes
    sealed: bytes = field(repr=False)


class _DamagedError(StorageError):
    """A file is not what was written."""


def open_data_keys(
    disk: Disk,
    identity: str,
    keyring: Keyring,
    *,
    encrypt: bool,
    expected: bool,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
) -> DataKeys | None:
    """The data keys of a node; made, wrapped anew and added to where that is due.

    Args:
        disk: its root is the data directory, which is locked.
        identity: of the node.
        keyring: of the cluster. If another key writes than before, all data keys are wrapped with
            that, and new records get a new data key.
        encrypt: new records will be encrypted.
        expected: there were data keys once.
        random_bytes: makes keys and nonces.

    Returns:
        None if there are none and none are needed.

    Raises:
        NotAuthorised: the key ring lacks the key that they are wrapped with.
        StorageError: both files are lost or damaged; nothing was changed.
    """
    envelope = _Envelope(disk, identity, keyring, random_bytes)
    wrapped, stale = _load(disk, expected=expected)
    if not wrapped and not encrypt:
        return None
    keys = {each.key_id: envelope.unwrap(each) for each in wrapped}
    current = envelope.rewrapped(wrapped, keys)
    if encrypt and (not current or current[0].made_under != keyring.writing.key_id):
        fresh = random_bytes(KEY_BYTES)
        current.insert(0, envelope.wrap(fresh, keyring.writing.key_id))
        keys[current[0].key_id] = fresh
    if stale or current != wrapped:
        envelope.save(current)
    files = KeyFiles(disk, current)
    keyring.listen(lambda: files.rewrap(envelope, keys))
    return DataKeys(current[0].key_id, keys, files)


class KeyFiles:
    """The two files while a node runs: verified, made again, and rid of keys that nobody needs.

    What is in memory is what was written, so it tells damage and makes it good. Any thread may
    call everything.

    Args:
        disk: its root is the data directory.
        wrapped: what both files hold.
    """

    def __init__(self, disk: Disk, wrapped: list[_Wrapped]) -> None:
        self._disk = disk
        self._wrapped = wrapped
        self._lock = Lock()

    @property
    def old_ids(self) -> frozenset[bytes]:
        """Ids of the keys that only read."""
        with self._lock:
            return frozenset(each.key_id for each in self._wrapped[1:])

    def damaged(self) -> list[tuple[str, str]]:
        """Which of the files are not what was written, and why."""
        found = []
        with self._lock:
            wanted = _encode(self._wrapped)
            for path in (MAIN, COPY):
                try:
                    data = self._disk.read(path)
                    reason = "it is gone" if data is None else "it is damaged"
                except StorageError as error:
                    data, reason = None, str(error)
                if data != wanted:
                    found.append((path, reason))
        return found

    def restore(self, path: str) -> None:
        """Write one of the files again; durable when it returns.

        Raises:
            NoSpace, StorageError: the file is as it was.
        """
        with self._lock:
            _replace(self._disk, path, _encode(self._wrapped))

    def rewrap(self, envelope: _Envelope, keys: Mapping[bytes, bytes]) -> None:
        """Wrap all of them with the cluster key that writes now; durable when it returns.

        New records go on with the data key that they had: a new one is made at the next start.

        Args:
            envelope: wraps.
            keys: all keys by their ids.

        Raises:
            NoSpace, StorageError: the files are as they were, or one of them is.
        """
        with self._lock:
            current = envelope.rewrapped(self._wrapped, keys)
            if current != self._wrapped:
                envelope.save(current)
                self._wrapped = current

    def prune(self, used: Collection[bytes]) -> list[bytes]:
        """Remove old keys from both files; durable when it returns.

        A crash in between leaves one file with all keys and one with fewer: the next start goes
        on with the first that is whole.

        Args:
            used: ids of keys that some record on the disk names; the first key stays in any case.

        Returns:
            The ids of the keys that are gone.

        Raises:
            NoSpace, StorageError: they may be gone, and may be there again after a start.
        """
        with self._lock:
            kept = [self._wrapped[0], *(each for each in self._wrapped[1:] if each.key_id in used)]
            gone = [each.key_id for each in self._wrapped if each not in kept]
            if gone:
                for path in (MAIN, COPY):
                    _replace(self._disk, path, _encode(kept))
                self._wrapped = kept
        return gone


class _Envelope:
    def __init__(
        self, disk: Disk, identity: str, keyring: Keyring, random_bytes: Callable[[int], bytes]
    ) -> None:
        self._disk = disk
        self._identity = identity.encode()
        self._keyring = keyring
        self._random_bytes = random_bytes

    def wrap(self, key: bytes, made_under: str) -> _Wrapped:
        key_id, nonce = key_id_of(key), self._random_bytes(_NONCE_BYTES)
        cluster = self._keyring.writing
        sealed = AESGCM(cluster.envelope).encrypt(nonce, key, self._bound(key_id))
        return _Wrapped(key_id, cluster.key_id, made_under, nonce, sealed)

    def unwrap(self, wrapped: _Wrapped) -> bytes:
        try:
            cluster = self._keyring.named(wrapped.cluster_key)
        except NotAuthorised as error:
            raise NotAuthorised(
                f"the data keys of this node are wrapped with cluster key {wrapped.cluster_key}, "
                f"which is not in the key file (it has {', '.join(self._keyring.ids)})",
                hint="add that key to the key file, below the one that writes, and start again",
            ) from error
        try:
            key = AESGCM(cluster.envelope).decrypt(
                wrapped.nonce, wrapped.sealed, self._bound(wrapped.key_id)
            )
        except InvalidTag as error:
            raise StorageError(
                f"data key {wrapped.key_id.hex()} in {MAIN} is not of this node, or was changed",
                hint=f"restore {MAIN} and {COPY}; they belong to the node of node.json",
            ) from error
        return key

    def rewrapped(self, wrapped: list[_Wrapped], keys: Mapping[bytes, bytes]) -> list[_Wrapped]:
        """All of them under the cluster key that writes; those that are stay as they are."""
        writing = self._keyring.writing.key_id
        current = []
        for each in wrapped:
            if each.cluster_key != writing:
                _log.info("data key %s is wrapped with cluster key %s", each.key_id.hex(), writing)
                current.append(self.wrap(keys[each.key_id], each.made_under))
            else:
                current.append(each)
        return current

    def save(self, wrapped: list[_Wrapped]) -> None:
        """Replace both files; durable when it returns."""
        for path in (MAIN, COPY):
            _replace(self._disk, path, _encode(wrapped))

    def _bound(self, key_id: bytes) -> bytes:
        return _MAGIC + key_id + self._identity


def _replace(disk: Disk, path: str, data: bytes) -> None:
    disk.unlink(_NEW)
    disk.sync_files([disk.create(_NEW, data, private=True)])
    disk.rename(_NEW, path)
    disk.sync_directories([""])


def _load(disk: Disk, *, expected: bool) -> tuple[list[_Wrapped], bool]:
    """The keys, and whether the two files have to be written anew."""
    found = [disk.read(path) for path in (MAIN, COPY)]
    if found == [None, None]:
        if expected:
            raise _lost(f"{MAIN} and {COPY} are gone")
        return [], False
    good: list[list[_Wrapped]] = []
    for path, data in zip((MAIN, COPY), found, strict=True):
        try:
            if data is not None:
                good.append(_decode(data))
        except _DamagedError as error:
            _log.error("%s in the data directory is damaged: %s", path, error)
    if not good:
        raise _lost(f"{MAIN} and {COPY} are damaged")
    if found[0] != found[1]:
        _log.warning("%s and %s differ: one is made again from the other", MAIN, COPY)
    return good[0], found[0] != found[1]


def _lost(what: str) -> StorageError:
    return StorageError(
        f"{what}: what this node encrypted cannot be read",
        hint=f"restore {MAIN} or {COPY} from a backup; else start with an empty data directory: "
        "the other replicas fill it",
    )


def _encode(wrapped: list[_Wrapped]) -> bytes:
    data = _HEAD.pack(_MAGIC, _VERSION, len(wrapped)) + b"".join(
        _KEY.pack(
            each.key_id,
            each.cluster_key.encode(),
            each.made_under.encode(),
            each.nonce,
            each.sealed,
        )
        for each in wrapped
    )
    return data + blake3(data).digest(CHECKSUM_BYTES)


def _decode(data: bytes) -> list[_Wrapped]:
    body = data[:-CHECKSUM_BYTES]
    if len(data) < _HEAD.size or blake3(body).digest(CHECKSUM_BYTES) != data[-CHECKSUM_BYTES:]:
        raise _DamagedError("its sum does not fit")
    magic, version, count = _HEAD.unpack_from(body)
    if magic != _MAGIC or version != _VERSION:
        raise _DamagedError("it is of another version")
    if not 0 < count <= _KEYS_MAX or len(body) != _HEAD.size + count * _KEY.size:
        raise _DamagedError(f"it should have {count} keys")
    return [
        _Wrapped(key_id, _text(cluster), _text(made), nonce, sealed)
        for key_id, cluster, made, nonce, sealed in _KEY.iter_unpack(body[_HEAD.size :])
    ]


def _text(field: bytes) -> str:
    return field.decode("ascii", "replace")


assert _KEY.size == 88
