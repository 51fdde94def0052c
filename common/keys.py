"""The cluster key: one file, one key a line, separate subkeys for each use.

The file holds 64 hex digits a line. The first key writes, all of them verify. From each key seven
subkeys are derived (BLAKE3 derive-key), so that no use can be played against another: frame
checksums, session proofs, the token of the web door, what the nodes wrap their data keys with,
digests of inventories, what the secrets of access keys are sealed with, and what the keys of single
objects come from. A key's id, which every record names, is derived as well and tells nothing about
the key.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from common.checksum import KEY_BYTES, derive_key
from common.errors import NotAuthorised, SettingInvalid

_CHECKSUM: Final = "data-putter 2026 frame checksum"
_HANDSHAKE: Final = "data-putter 2026 session handshake"
_TOKEN: Final = "data-putter 2026 web token"  # noqa: S105 - a public context string, not a secret
_ENVELOPE: Final = "data-putter 2026 data key envelope"
_DIGEST: Final = "data-putter 2026 inventory digest"
_ACCESS: Final = "data-putter 2026 access key secrets"
_OBJECTS: Final = "data-putter 2026 object keys"
_ID: Final = "data-putter 2026 key id"


@dataclass(frozen=True)
class ClusterKey:
    """One key and what is derived from it. Its representation shows the id only."""

    key_id: str
    checksum: bytes = field(repr=False)
    handshake: bytes = field(repr=False)
    token: str = field(repr=False)
    envelope: bytes = field(repr=False)
    digest: bytes = field(repr=False)
    access: bytes = field(repr=False)
    objects: bytes = field(repr=False)

    @classmethod
    def from_material(cls, material: bytes) -> ClusterKey:
        """Derive the subkeys.

        Args:
            material: the 32 bytes of a key line.

        Raises:
            SettingInvalid: not 32 bytes.
        """
        if len(material) != KEY_BYTES:
            raise SettingInvalid(f"a cluster key has {KEY_BYTES} bytes, not {len(material)}")
        return cls(
            key_id=derive_key(_ID, material)[:4].hex(),
            checksum=derive_key(_CHECKSUM, material),
            handshake=derive_key(_HANDSHAKE, material),
            token=derive_key(_TOKEN, material).hex(),
            envelope=derive_key(_ENVELOPE, material),
            digest=derive_key(_DIGEST, material),
            access=derive_key(_ACCESS, material),
            objects=derive_key(_OBJECTS, material),
        )


class Keyring:
    """The keys of a cluster in the order of their file: the first writes, all verify.

    A ring lives as long as its process; its keys may be replaced meanwhile, so whoever needs one
    asks for it each time. Any thread may ask.
    """

    def __init__(self, keys: list[ClusterKey]) -> None:
        if not keys:
            raise SettingInvalid("a key ring needs at least one key")
        self._keys = keys
        self._by_id = {key.key_id: key for key in keys}
        self._replaced: list[Callable[[], None]] = []

    def replace(self, other: Keyring) -> None:
        """Take the keys of another ring in place of the own ones, then tell all that `listen`.

        Raises:
            PutterError: somebody could not do what is due then; the keys are replaced all the same.
        """
        self._keys, self._by_id = other._keys, other._by_id
        for call in self._replaced:
            call()

    def listen(self, call: Callable[[], None]) -> None:
        """Have something called each time the keys were replaced."""
        self._replaced.append(call)

    @property
    def writing(self) -> ClusterKey:
        """The key that new frames and proofs use."""
        return self._keys[0]

    @property
    def keys(self) -> tuple[ClusterKey, ...]:
        """All keys, the writing one first."""
        return tuple(self._keys)

    @property
    def ids(self) -> list[str]:
        """The ids of all keys, the writing one first."""
        return [key.key_id for key in self._keys]

    def named(self, key_id: str) -> ClusterKey:
        """The key with this id.

        Raises:
            NotAuthorised: this ring does not hold it.
        """
        key = self._by_id.get(key_id)
        if key is None:
            raise NotAuthorised(
                f"key {key_id[:16]!r} is not in this key file",
                hint="copy the cluster key file of the other nodes here (--key-file)",
            )
        return key

    def shared(self, key_ids: Sequence[str]) -> ClusterKey | None:
        """The first key of the other side that we have too, or None."""
        return next((self._by_id[each] for each in key_ids if each in self._by_id), None)


def generate_key_line() -> str:
    """A fresh random key in the form of the key file."""
    return secrets.token_hex(KEY_BYTES)


def parse_key_file(text: str, origin: str) -> Keyring:
    """Read the text of a key file; empty lines and lines from ``#`` on are skipped.

    Args:
        text: the file's content.
        origin: its name, for messages; key material never appears in one.

    Raises:
        SettingInvalid: no key, or a line that is not 64 hex digits.
    """
    keys = []
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.split("#", 1)[0].strip()
        if not content:
            continue
        try:
            material = bytes.fromhex(content)
        except ValueError:
            material = b""
        if len(material) != KEY_BYTES:
            raise SettingInvalid(
                f"{origin}, line {number}: a cluster key is {2 * KEY_BYTES} hex digits",
                hint="restore the file from another node; a lost key makes its data unreadable",
            )
        keys.append(ClusterKey.from_material(material))
    if not keys:
        raise SettingInvalid(f"{origin} holds no key")
    return Keyring(keys)


def load_keyring(path: Path, *, create: bool) -> Keyring:
    """Read a key file, and make it first if it is not there.

    The file is created with mode 0600 and linked into place whole, so that two processes that
    start at once end up with the same key.

    Args:
        path: the key file.
        create: make a new key if there is no file.

    Raises:
        SettingInvalid: missing (without ``create``), unreadable, or malformed.
    """
    try:
        if create and not path.exists():
            _create(path)
        return parse_key_file(path.read_text("ascii"), str(path))
    except FileNotFoundError:
        raise SettingInvalid(
            f"there is no key file {path}",
            hint="copy the cluster key of the other nodes there, or name it with --key-file",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingInvalid(f"cannot read the key file {path}: {error}") from error


def readable_by_others(path: Path) -> bool:
    """Whether the file's mode lets group or others read the key."""
    return bool(path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(generate_key_line() + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)
        except FileExistsError:
            return
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    finally:
        fresh.unlink()
