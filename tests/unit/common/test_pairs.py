"""Access key pairs: what they may look like."""

from __future__ import annotations

import re

import pytest

from common.errors import UsageError
from common.pairs import Pair, check_id, check_owner, check_secret, is_id, new_id, new_secret


def test_random_pairs_are_valid_and_all_different() -> None:
    ids, secrets = {new_id() for _ in range(200)}, {new_secret() for _ in range(200)}
    assert len(ids) == len(secrets) == 200
    assert all(re.fullmatch(r"PK[A-Z2-7]{18}", check_id(each)) for each in ids)
    assert all(re.fullmatch(r"[A-Za-z0-9]{40}", check_secret(each)) for each in secrets)


@pytest.mark.parametrize("text", ["abc", "AKIAIOSFODNN7EXAMPLE", "a.b_c-D", "x" * 128])
def test_ids(text: str) -> None:
    assert check_id(text) == text


@pytest.mark.parametrize("text", ["", "ab", "a/b", "a b", "äää", "abc\n", "x" * 129, "@keys"])
def test_what_is_no_id(text: str) -> None:
    assert not is_id(text)
    with pytest.raises(UsageError, match="access key id"):
        check_id(text)


@pytest.mark.parametrize(
    "text", ["", "seven77", "with blank", "späte-nacht", "new\nline", "x" * 129]
)
def test_what_is_no_secret_is_not_shown(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_secret(text)
    assert not text or text not in str(caught.value) + caught.value.hint


@pytest.mark.parametrize("text", ["root", "ann@example.org", "a+b", "x" * 64])
def test_owners(text: str) -> None:
    assert check_owner(text) == text


@pytest.mark.parametrize("text", ["", "two words", "a/b", "<b>", "x" * 65])
def test_what_is_no_owner(text: str) -> None:
    with pytest.raises(UsageError, match="owner"):
        check_owner(text)


def test_a_pair_does_not_show_its_secret() -> None:
    assert repr(Pair("PKONE", "very-secret")) == "Pair('PKONE')"
