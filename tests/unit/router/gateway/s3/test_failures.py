"""The error of the S3 door."""

from __future__ import annotations

import pytest

from router.gateway.s3.failures import TABLE, S3Error


def test_an_error_has_the_status_and_the_words_of_its_code() -> None:
    error = S3Error("NoSuchKey")
    assert (error.code, error.status, error.fields) == ("NoSuchKey", 404, {})
    assert error.message == TABLE["NoSuchKey"][1]
    assert str(error) == f"NoSuchKey: {error.message}"


def test_an_error_may_say_more() -> None:
    error = S3Error("InvalidArgument", "no", status=404, ArgumentName="x", ArgumentValue="y")
    assert (error.message, error.status) == ("no", 404)
    assert list(error.fields.items()) == [("ArgumentName", "x"), ("ArgumentValue", "y")]


def test_a_code_that_nobody_knows_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError):
        S3Error("NoSuchCode")


@pytest.mark.parametrize("code", sorted(TABLE))
def test_each_code_has_a_status_of_http_and_a_message(code: str) -> None:
    status, message = TABLE[code]
    assert 300 <= status < 600
    assert message
