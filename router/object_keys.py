"""Keys of single objects: what their bytes are encrypted with before they are stored.

```
key         BLAKE3 derive-key of the salt and a secret      32 bytes, for this version alone
proof       the same with another context                   32 bytes, kept where the secret is not
stored      AES-256-CTR of the plain bytes: as many, and each range can be opened alone
```

The secret is the subkey ``objects`` of a cluster key, or the key of a client, which is used and
forgotten. What counting begins with:

```
offset  size  field
0       8     nonce: 0; of an object in parts each part's own, random
8       8     number of the 16-byte block from the beginning of the part, big endian
```

That the bytes are the right ones is not this module's business: every frame has a keyed checksum.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

import msgspec
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

from common.checksum import Buffer, derive_key
from common.errors import IntegrityError, KeyNeeded
from common.keys import Keyring
from common.records import Encryption, Version

SETTING: Final = "encryption"
"""The setting of a bucket that says with what its files are encrypted; whatever it is, they are."""
CUSTOMER_KEY_BYTES: Final = 32
TRANSFORM_ROOM_BYTES: Final = 15
"""What older versions of the library want behind the bytes that it writes."""
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 8
_BLOCK_BYTES: Final = 16
_OWN: Final = "data-putter 2026 object of a cluster key"
_CUSTOMER: Final = "data-putter 2026 object of a customer key"
_PROOF: Final = "data-putter 2026 proof of a customer key"

Parts = tuple[tuple[int, int], ...]
"""As `common.records.Version.parts`."""


@dataclass(frozen=True)
class ObjectKey:
    """What a version is encrypted with. Its representation does not show the key.

    Attributes:
        encryption: what is kept of it in the version.
        key: for AES-256.
    """

    encryption: Encryption
    key: bytes = field(repr=False)

    def transform(self, parts: Parts = (), start: int = 0) -> Transform:
        """What makes stored bytes of plain ones, and the other way round.

        Args:
            parts: of the version.
            start: the first byte.
        """
        return Transform(self, parts, start)

    def like(self, part: Version) -> ObjectKey:
        """The same for a part that was written."""
        assert part.encryption is not None
        return ObjectKey(part.encryption, self.key)

    def of_part(self) -> ObjectKey:
        """The same for a part that is written now: it counts from a place of its own."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return ObjectKey(msgspec.structs.replace(self.encryption, nonces=nonce), self.key)


class Transform:
    """Encrypts, or opens, consecutive bytes of one version.

    Args:
        key: of the version.
        parts: of the version.
        start: the first byte.
    """

    def __init__(self, key: ObjectKey, parts: Parts, start: int) -> None:
        self._algorithm = algorithms.AES(key.key)
        self._spans = _spans(key.encryption.nonces, parts)
        nonce, size = next(self._spans)
        while size is not None and size <= start:
            start -= size
            nonce, size = next(self._spans)
        self._left = None if size is None else size - start
        self._context = self._at(nonce, start)

    def into(self, data: Buffer, room: memoryview) -> None:
        """Transform the next bytes.

        Args:
            data: the bytes.
            room: where to; `TRANSFORM_ROOM_BYTES` longer at the least.
        """
        view = memoryview(data)
        position = 0
        while position < len(view):
            size = self._take(len(view) - position)
            self._context.update_into(view[position : position + size], room[position:])
            position += size

    def bytes_of(self, data: Buffer) -> bytes:
        """Transform the next bytes into memory of their own."""
        if self._left is None:
            return self._context.update(data)
        room = memoryview(bytearray(len(data) + TRANSFORM_ROOM_BYTES))
        self.into(data, room)
        return bytes(room[: len(data)])

    def _take(self, size: int) -> int:
        """How many of these bytes the present part still has."""
        while self._left == 0:
            nonce, self._left = next(self._spans)
            self._context = self._at(nonce, 0)
        if self._left is None:
            return size
        size = min(size, self._left)
        self._left -= size
        return size

    def _at(self, nonce: bytes, offset: int) -> CipherContext:
        block, within = divmod(offset, _BLOCK_BYTES)
        counter = nonce + block.to_bytes(_BLOCK_BYTES - _NONCE_BYTES, "big")
        context = Cipher(self._algorithm, modes.CTR(counter)).encryptor()
        context.update(bytes(within))
        return context


def own_key(keyring: Keyring) -> ObjectKey:
    """A new key for an object, from the cluster key that writes."""
    writing = keyring.writing
    return _own(writing.objects, Encryption(writing.key_id, secrets.token_bytes(_SALT_BYTES)))


def customer_key(secret: bytes) -> ObjectKey:
    """A new key for an object, from a key of `CUSTOMER_KEY_BYTES` that its client keeps."""
    salt = secrets.token_bytes(_SALT_BYTES)
    encryption = Encryption("", salt, derive_key(_PROOF, salt + secret))
    return ObjectKey(encryption, derive_key(_CUSTOMER, salt + secret))


def key_of(keyring: Keyring, encryption: Encryption) -> ObjectKey:
    """The key of what is encrypted with one of ours.

    Raises:
        KeyNeeded: its client keeps the key.
        NotAuthorised: the cluster key is not here.
    """
    if not encryption.key_id:
        raise KeyNeeded(
            "this file is encrypted with a key that its owner keeps",
            hint="read it over S3, with the key (SSE-C)",
        )
    return _own(keyring.named(encryption.key_id).objects, encryption)


def opened_by(secret: bytes, encryption: Encryption) -> ObjectKey | None:
    """The key of a version that its client keeps the key of; None: this is not the one.

    Args:
        secret: what the client says is the key.
        encryption: of the version.
    """
    proof = derive_key(_PROOF, encryption.salt + secret)
    if encryption.key_id or not hmac.compare_digest(proof, encryption.proof):
        return None
    return ObjectKey(encryption, derive_key(_CUSTOMER, encryption.salt + secret))


def joined(of: Encryption, parts: Iterable[Version]) -> Encryption:
    """How an object is encrypted that has the stored bytes of the parts of an upload.

    Args:
        of: the upload.
        parts: in their order.

    Raises:
        IntegrityError: one is encrypted otherwise.
    """
    nonces = []
    for part in parts:
        if part.encryption is None or msgspec.structs.replace(part.encryption, nonces=b"") != of:
            raise IntegrityError(f"part {part.key!r} is not encrypted as its upload is")
        nonces.append(part.encryption.nonces)
    return msgspec.structs.replace(of, nonces=b"".join(nonces))


async def encrypted(
    chunks: AsyncGenerator[Buffer, None], key: ObjectKey
) -> AsyncGenerator[Buffer, None]:
    """The bytes of a stream as they are to be stored."""
    transform = key.transform()
    async with aclosing(chunks):
        async for chunk in chunks:
            yield transform.bytes_of(chunk)


def _own(secret: bytes, encryption: Encryption) -> ObjectKey:
    return ObjectKey(encryption, derive_key(_OWN, encryption.salt + secret))


def _spans(nonces: bytes, parts: Parts) -> Iterator[tuple[bytes, int | None]]:
    """Where counting begins, and for how many bytes; None: for all that follow."""
    if len(nonces) <= _NONCE_BYTES:
        yield nonces or bytes(_NONCE_BYTES), None
        return
    sizes = (size for count, size in parts for _ in range(count))
    for index, size in enumerate(sizes):
        yield nonces[index * _NONCE_BYTES : (index + 1) * _NONCE_BYTES], size
    yield bytes(_NONCE_BYTES), None  # behind the last byte
