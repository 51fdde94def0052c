"""What went wrong on the way to Redis."""

from __future__ import annotations

from typing import Any

import fakeredis
import pytest
from redis import exceptions

from common.meta.link import Command, PlainConnection, SingleLink, Trouble, trouble_of
from common.meta.scripts import script


@pytest.mark.parametrize(
    "error",
    [
        exceptions.ConnectionError("Connection refused"),
        exceptions.TimeoutError("Timeout reading from socket"),
        exceptions.BusyLoadingError("loading the dataset in memory"),
        exceptions.ReadOnlyError("You can't write against a read only replica."),
        exceptions.ClusterDownError("The cluster is down"),
        exceptions.TryAgainError("Multiple keys request during rehashing of slot"),
        exceptions.MasterDownError("Link with MASTER is down"),
        exceptions.RedisClusterException("Redis Cluster cannot be connected."),
        exceptions.ResponseError("BUSY Redis is busy running a script."),
        exceptions.ResponseError("LOADING Redis is loading the dataset in memory"),
        exceptions.ResponseError("MISCONF Errors writing to the AOF file"),
        exceptions.MaxConnectionsError("Too many connections"),
        ConnectionResetError(104, "Connection reset by peer"),
        TimeoutError(),
    ],
)
def test_what_may_pass(error: Exception) -> None:
    trouble = trouble_of(error)
    assert trouble.passing
    assert trouble.reason


@pytest.mark.parametrize(
    "error",
    [
        exceptions.AuthenticationError("WRONGPASS invalid username-password pair"),
        exceptions.NoPermissionError("this user has no permissions to run the 'eval' command"),
        exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
        exceptions.ResponseError("WRONGTYPE Operation against a key"),
        exceptions.ResponseError("NOAUTH Authentication required."),
        exceptions.DataError("Invalid input of type"),
    ],
)
def test_what_does_not_pass(error: Exception) -> None:
    assert not trouble_of(error).passing


def test_a_reason_is_one_line() -> None:
    assert trouble_of(exceptions.ResponseError("one\ntwo\n")).reason == "one two"


async def test_a_script_that_the_server_does_not_know_is_sent_with_its_source() -> None:
    link = SingleLink(fakeredis.FakeAsyncRedis(server_type="valkey"), "here")
    acquire = Command((1, b"lease", b"me", 1000), script("acquire"))
    for _ in range(2):
        replies = await link.run([Command((b"PING",)), acquire, Command((b"GET", b"lease"))])
        assert replies[:2] == [b"PONG", 1]
    assert replies[2] == b"me"
    await link.close()


async def test_a_refused_command_leaves_the_others_alone() -> None:
    link = SingleLink(fakeredis.FakeAsyncRedis(server_type="valkey"), "here")
    replies: list[Any] = await link.run(
        [
            Command((b"SET", b"a", b"1")),
            Command((b"HGET", b"a", b"f")),
            Command((b"GET", b"a")),
        ]
    )
    assert replies[2] == b"1"
    assert isinstance(replies[1], Trouble)
    assert not replies[1].passing
    await link.close()


async def test_a_server_that_is_away_is_trouble_for_all() -> None:
    server = fakeredis.FakeServer(server_type="valkey")
    server.connected = False
    link = SingleLink(fakeredis.FakeAsyncRedis(server=server), "here")
    troubles = await link.run([Command((b"PING",))] * 3)
    assert len(troubles) == 3
    assert all(isinstance(each, Trouble) and each.passing for each in troubles)
    await link.close()


def test_commands_are_packed_as_the_protocol_wants() -> None:
    connection = PlainConnection()
    assert connection.pack_command("SET", b"\xff\0", "é", 17) == [
        b"*4\r\n$3\r\nSET\r\n$2\r\n\xff\0\r\n$2\r\n\xc3\xa9\r\n$2\r\n17\r\n"
    ]
    assert connection.pack_commands([("A",), (b"B", 1)]) == [
        b"*1\r\n$1\r\nA\r\n*2\r\n$1\r\nB\r\n$1\r\n1\r\n"
    ]


class _ClosedByUvloop:
    """A stream whose transport was closed; uvloop says so with a RuntimeError."""

    def __init__(self, reason: str = "unable to perform operation; the handler is closed") -> None:
        self._reason = reason

    def writelines(self, _data: object) -> None:
        raise RuntimeError(self._reason)

    def close(self) -> None:
        """Closed it is."""


async def test_a_connection_that_was_lost_the_moment_before_is_no_surprise() -> None:
    connection = PlainConnection()
    connection._reader = connection._writer = _ClosedByUvloop()
    with pytest.raises(exceptions.ConnectionError) as caught:
        await connection.send_packed_command([b"PING"], check_health=False)
    assert trouble_of(caught.value).passing


async def test_other_mistakes_on_the_way_are_not_hidden() -> None:
    connection = PlainConnection()
    connection._reader = connection._writer = _ClosedByUvloop("something else")
    with pytest.raises(RuntimeError, match="something else"):
        await connection.send_packed_command([b"PING"], check_health=False)
