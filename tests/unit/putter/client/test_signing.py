"""The client signs as the S3 door reads it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from putter.client.signing import Signer
from router.gateway.s3.failures import S3Error
from router.gateway.s3.sigv4 import Payload, SignedRequest, parse, verify

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SECRET = "a/secret+of=tests"


@pytest.mark.parametrize(
    "target", ["/status", "/file/b/a%20b", "/file/b/%C3%A9%2F~", "/x?b=2&a=%2B+1&c"]
)
def test_what_it_signs_holds(target: str) -> None:
    signer = Signer("AK", SECRET)
    headers = signer.sign("PUT", target, "store:5004", NOW)
    path, _, query = target.partition("?")
    request = SignedRequest("PUT", path, query, [*headers.items(), ("Accept", "*/*")])
    claim = parse(request)
    assert claim is not None
    assert (claim.access_key_id, claim.payload) == ("AK", Payload.UNSIGNED)
    verify(claim, request, SECRET, NOW)
    other = SignedRequest("DELETE", path, query, request.headers)
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        verify(claim, other, SECRET, NOW)
    assert SECRET not in repr(signer)
