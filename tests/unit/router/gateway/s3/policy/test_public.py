"""Which policies S3 calls public."""

from __future__ import annotations

import json
from typing import Any

import pytest

from router.gateway.s3.policy.parsing import parse_policy
from router.gateway.s3.policy.public import is_public


def told(condition: dict[str, Any] | None = None, **changes: Any) -> bool:
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::b-1/*",
        "Condition": condition or {},
    }
    document = {"Version": "2012-10-17", "Statement": [statement | changes]}
    return is_public(parse_policy(json.dumps(document).encode(), "b-1"))


def test_whom_it_names() -> None:
    assert told()
    assert told(Principal={"AWS": ["ann", "*"]})
    assert not told(Principal={"AWS": "ann"})
    assert not told(Effect="Deny")


@pytest.mark.parametrize(
    ("condition", "public"),
    [
        ({"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}, False),
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, False),
        ({"ForAnyValue:IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}, False),
        ({"IpAddress": {"aws:SourceIp": ["203.0.113.0/24", "0.0.0.0/0"]}}, True),
        ({"IpAddress": {"aws:SourceIp": "0.0.0.0/1"}}, True),
        ({"IpAddress": {"aws:SourceIp": "2001:db8::/32"}}, False),
        ({"IpAddress": {"aws:SourceIp": "2001::/16"}}, True),
        ({"IpAddressIfExists": {"aws:SourceIp": "203.0.113.0/24"}}, True),
        ({"ForAllValues:IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}, True),
        ({"NotIpAddress": {"aws:SourceIp": "203.0.113.0/24"}}, True),
        ({"StringEquals": {"aws:username": "ann"}}, False),
        ({"StringLike": {"aws:username": "a*"}}, True),
        ({"StringLike": {"aws:username": "ann"}}, False),
        ({"StringEquals": {"aws:username": "${aws:username}"}}, True),
        ({"StringEquals": {"aws:Referer": "https://example.org/"}}, True),
        ({"Bool": {"aws:SecureTransport": "true"}}, True),
        ({"Null": {"aws:username": "false"}}, True),
    ],
)
def test_conditions(condition: dict[str, Any], public: bool) -> None:
    assert told(condition) is public
