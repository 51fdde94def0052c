"""Where Redis is."""

from __future__ import annotations

import pytest

from common.errors import SettingInvalid
from common.meta.address import RedisAddress, parse_address


@pytest.mark.parametrize(
    ("url", "address", "text"),
    [
        ("127.0.0.1:7000", RedisAddress("single", (("127.0.0.1", 7000),)), "127.0.0.1:7000"),
        ("coordinator", RedisAddress("single", (("coordinator", 6379),)), "coordinator:6379"),
        ("redis://c/", RedisAddress("single", (("c", 6379),)), "c:6379"),
        ("redis://c:1/3", RedisAddress("single", (("c", 1),), db=3), "c:1"),
        ("redis://[::1]:7", RedisAddress("single", (("::1", 7),)), "[::1]:7"),
        ("redis://[::1]", RedisAddress("single", (("::1", 6379),)), "[::1]:6379"),
        (
            "rediss://me:p%40ss%2Fword@c",
            RedisAddress("single", (("c", 6379),), tls=True, user="me", password="p@ss/word"),
            "c:6379",
        ),
        (
            "redis://:secret@c",
            RedisAddress("single", (("c", 6379),), password="secret"),
            "c:6379",
        ),
        (
            "unix:///run/redis.sock?db=2",
            RedisAddress("unix", path="/run/redis.sock", db=2),
            "/run/redis.sock",
        ),
        (
            "unix://:secret@/run/redis.sock",
            RedisAddress("unix", path="/run/redis.sock", password="secret"),
            "/run/redis.sock",
        ),
        (
            "redis+sentinel://:x@a:1,b/mymaster/4",
            RedisAddress(
                "sentinel",
                (("a", 1), ("b", 26379)),
                service="mymaster",
                db=4,
                password="x",
            ),
            "mymaster of Sentinel a:1,b:26379",
        ),
        (
            "rediss+cluster://a:1,b:2",
            RedisAddress("cluster", (("a", 1), ("b", 2)), tls=True),
            "a:1,b:2",
        ),
    ],
)
def test_urls(url: str, address: RedisAddress, text: str) -> None:
    assert parse_address(url) == address
    assert str(parse_address(url)) == text


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://c",
        "redis://",
        "redis://c:port",
        "redis://c:0",
        "redis://c:65536",
        "redis://c:²",
        "redis://c/db",
        "redis://c/1/2",
        "redis://a,b",
        "redis://c?timeout=1",
        "redis+sentinel://a:1",
        "redis+sentinel://a:1/",
        "redis+cluster://a:1/2",
        "redis+cluster://a:1,,b:2",
        "unix://run/redis.sock",
        "unix:///run/redis.sock?db=x",
    ],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(SettingInvalid, match="not the address"):
        parse_address(url)


@pytest.mark.parametrize(
    "url", ["redis://me:hunter2@c:port", "http://me:hunter2@c", "redis://:hunter2@a,b"]
)
def test_a_password_is_never_shown(url: str) -> None:
    with pytest.raises(SettingInvalid) as caught:
        parse_address(url)
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"
    address = parse_address("redis://me:hunter2@c")
    assert "hunter2" not in f"{address} {address!r}"
