"""What conditions compare, beyond what the property tests do."""

from __future__ import annotations

import pytest

from router.gateway.s3.policy.conditions import address, condition_of


def holds(operator: str, key: str, wanted: str, *values: str) -> bool:
    condition = condition_of(operator, key, [wanted], variables=True)
    return condition.holds({key.lower(): values} if values else {})


@pytest.mark.parametrize(
    ("operator", "wanted", "value", "told"),
    [
        ("DateLessThan", "2030-01-01T00:00:00Z", "2029-12-31T23:59:59Z", True),
        ("DateLessThan", "2030-01-01T00:00:00Z", "2030-01-01T00:00:00Z", False),
        ("DateLessThanEquals", "2030-01-01", "2030-01-01T00:00:00Z", True),
        ("DateGreaterThan", "2030-01-01T01:00:00+01:00", "2030-01-01T00:00:01Z", True),
        ("DateGreaterThanEquals", "1893456000", "2030-01-01T00:00:00Z", True),
        ("DateEquals", "2030-01-01T00:00:00.5Z", "2030-01-01T00:00:00.500Z", True),
        ("DateNotEquals", "2030-01-01T00:00:00Z", "soon", True),
        ("DateEquals", "2030-01-01T00:00:00Z", "soon", False),
    ],
)
def test_dates(operator: str, wanted: str, value: str, told: bool) -> None:
    assert holds(operator, "aws:CurrentTime", wanted, value) is told


@pytest.mark.parametrize(
    ("operator", "wanted", "value", "told"),
    [
        ("NumericLessThan", "10", "9.5", True),
        ("NumericLessThanEquals", "10", "10.0", True),
        ("NumericGreaterThan", "10", "010", False),
        ("NumericGreaterThanEquals", "-1", "0", True),
        ("NumericEquals", "10", "ten", False),
        ("NumericNotEquals", "10", "ten", True),
        ("NumericEquals", "10", "１０", False),
    ],
)
def test_numbers(operator: str, wanted: str, value: str, told: bool) -> None:
    assert holds(operator, "s3:max-keys", wanted, value) is told


@pytest.mark.parametrize(
    ("wanted", "value", "told"),
    [
        ("10.0.0.0/8", "10.255.0.1", True),
        ("10.0.0.7/8", "10.1.1.1", True),
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.0/8", "::ffff:10.0.0.1", True),
        ("::ffff:10.0.0.0/104", "10.0.0.1", True),
        ("2001:db8::/32", "2001:db8:1::", True),
        ("fe80::/10", "fe80::1%eth0", True),
        ("0.0.0.0/0", "::1", False),
        ("10.0.0.0/8", "nowhere", False),
        ("10.0.0.0/8", "", False),
    ],
)
def test_addresses(wanted: str, value: str, told: bool) -> None:
    assert holds("IpAddress", "aws:SourceIp", wanted, value) is told
    assert holds("NotIpAddress", "aws:SourceIp", wanted, value) is not told


def test_truth() -> None:
    assert holds("Bool", "aws:SecureTransport", "True", "true")
    assert not holds("Bool", "aws:SecureTransport", "false", "true")
    assert not holds("Bool", "aws:SecureTransport", "false")
    assert holds("BoolIfExists", "aws:SecureTransport", "false")


def test_an_address_of_version_4_is_one_however_it_is_written() -> None:
    assert address("::ffff:1.2.3.4") == address("1.2.3.4")
    assert address("unix:") is None
