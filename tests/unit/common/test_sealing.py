"""Secrets of access keys at rest."""

from __future__ import annotations

import pytest

from common.errors import IntegrityError
from common.keys import ClusterKey
from common.sealing import seal, unseal

KEY = ClusterKey.from_material(bytes(range(32)))
OTHER = ClusterKey.from_material(bytes(range(1, 33)))


def test_what_is_sealed_comes_back() -> None:
    sealed = seal(KEY, "AK", "secret/ä")
    assert unseal(KEY, "AK", sealed) == "secret/ä"
    assert b"secret" not in sealed
    assert len(sealed) == 12 + len("secret/ä".encode()) + 16


def test_no_two_are_alike() -> None:
    assert seal(KEY, "AK", "secret") != seal(KEY, "AK", "secret")


@pytest.mark.parametrize("at", [0, 11, 12, -1])
def test_a_changed_one_is_noticed(at: int) -> None:
    sealed = bytearray(seal(KEY, "AK", "secret"))
    sealed[at] ^= 1
    with pytest.raises(IntegrityError, match="AK"):
        unseal(KEY, "AK", bytes(sealed))


def test_that_of_another_key_is_none() -> None:
    sealed = seal(KEY, "AK", "secret")
    with pytest.raises(IntegrityError):
        unseal(KEY, "AL", sealed)
    with pytest.raises(IntegrityError):
        unseal(OTHER, "AK", sealed)
    for short in (b"", sealed[:12], sealed[:20]):
        with pytest.raises(IntegrityError):
            unseal(KEY, "AK", short)


def test_the_subkey_is_no_other_one() -> None:
    subkeys = [KEY.checksum, KEY.handshake, KEY.envelope, KEY.digest, KEY.access]
    assert len({*subkeys, bytes.fromhex(KEY.token)}) == 6
    assert KEY.access.hex() not in repr(KEY)
