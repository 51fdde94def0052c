"""Keys of objects: the format, written down a second time, and who may open what."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from common.checksum import Buffer
from common.errors import IntegrityError, KeyNeeded, NotAuthorised
from common.keys import ClusterKey, Keyring
from common.records import Encryption, Version
from router.object_keys import (
    ObjectKey,
    customer_key,
    encrypted,
    joined,
    key_of,
    opened_by,
    own_key,
)

FIRST, SECOND = (ClusterKey.from_material(bytes([n]) * 32) for n in (1, 2))
SECRET = bytes(range(32))
PLAIN = bytes(range(256)) * 5 + b"end"


def as_documented(plain: bytes, context: str, material: bytes, nonce: bytes = bytes(8)) -> bytes:
    """What docs/formats/commit-records.md says is stored, block by block."""
    key = blake3(material, derive_key_context=context).digest()
    block_cipher = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    stored = b""
    for number in range(-(-len(plain) // 16)):
        pad = block_cipher.update(nonce + number.to_bytes(8, "big"))
        block = plain[16 * number : 16 * number + 16]
        stored += bytes(one ^ other for one, other in zip(block, pad, strict=False))
    return stored


def test_the_format() -> None:
    own, customers = own_key(Keyring([FIRST, SECOND])), customer_key(SECRET)
    subkey = blake3(bytes([1]) * 32, derive_key_context="data-putter 2026 object keys").digest()
    for key, secret, whose in ((own, subkey, "cluster"), (customers, SECRET, "customer")):
        salt = key.encryption.salt
        assert len(salt) == 16
        context = f"data-putter 2026 object of a {whose} key"
        found = key.transform().bytes_of(PLAIN)
        assert found == as_documented(PLAIN, context, salt + secret)
        part = key.of_part()
        nonce = part.encryption.nonces
        assert len(nonce) == 8
        assert part.transform().bytes_of(PLAIN) == as_documented(
            PLAIN, context, salt + secret, nonce
        )
    assert (own.encryption.key_id, own.encryption.proof) == (FIRST.key_id, b"")
    proof = blake3(
        customers.encryption.salt + SECRET,
        derive_key_context="data-putter 2026 proof of a customer key",
    ).digest()
    assert (customers.encryption.key_id, customers.encryption.proof) == ("", proof)


def test_who_opens_what() -> None:
    own, customers = own_key(Keyring([FIRST])), customer_key(SECRET)
    assert key_of(Keyring([SECOND, FIRST]), own.encryption) == own
    with pytest.raises(NotAuthorised):
        key_of(Keyring([SECOND]), own.encryption)
    with pytest.raises(KeyNeeded):
        key_of(Keyring([FIRST]), customers.encryption)
    assert opened_by(SECRET, customers.encryption) == customers
    assert opened_by(SECRET[::-1], customers.encryption) is None
    assert opened_by(SECRET, own.encryption) is None
    assert SECRET.hex() not in repr(customers)
    assert "key=" not in repr(customers)


def test_no_two_objects_and_no_two_parts_are_encrypted_alike() -> None:
    ring = Keyring([FIRST])
    keys = [own_key(ring), own_key(ring), customer_key(SECRET), customer_key(SECRET)]
    keys += [keys[0].of_part(), keys[0].of_part()]
    assert len({key.transform().bytes_of(bytes(64)) for key in keys}) == len(keys)


async def test_a_stream_is_closed_with_what_is_made_of_it() -> None:
    closed = []

    async def chunks() -> AsyncGenerator[Buffer, None]:
        try:
            yield b"one"
            yield b"two"
        finally:
            closed.append(True)

    key = customer_key(SECRET)
    stream = encrypted(chunks(), key)
    first = await anext(stream)
    assert key.transform().bytes_of(first) == b"one"
    await stream.aclose()
    assert closed == [True]


def test_parts_of_another_upload_are_not_joined() -> None:
    one, other = customer_key(SECRET), customer_key(SECRET)

    def part(key: ObjectKey | None) -> Version:
        encryption = None if key is None else key.of_part().encryption
        return Version("b", "k", 1, 3, "e", 0, (), encryption=encryption)

    both = [part(one), part(one)]
    nonces = b"".join(each.encryption.nonces for each in both if each.encryption is not None)
    salt, proof = one.encryption.salt, one.encryption.proof
    assert joined(one.encryption, both) == Encryption("", salt, proof, nonces)
    for stranger in (other, None):
        with pytest.raises(IntegrityError):
            joined(one.encryption, [part(one), part(stranger)])
