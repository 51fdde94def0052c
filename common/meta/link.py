"""The way to Redis: one round trip for many commands, and the names of what went wrong.

The one place where exceptions of the redis package are caught. A `Link` tries once; when and how
often to try again is decided in `common.meta.calls`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import hiredis
from redis import exceptions as redis_errors
from redis.asyncio import Connection, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.sentinel import SentinelManagedConnection, SentinelManagedSSLConnection
from redis.typing import EncodableT

from common.meta.scripts import Script

CLUSTER_COMMANDS_AT_ONCE_MAX: Final = 32
REPLY_TIMEOUT_MS: Final = 5_000
_PASSING_REPLIES: Final = ("BUSY", "LOADING", "MISCONF", "NOREPLICAS", "MASTERDOWN", "UNBLOCKED")

_pack: Final[Callable[[tuple[EncodableT, ...]], bytes]] = hiredis.pack_command  # type: ignore[assignment] # its stub knows tuples of one word only

Argument = bytes | str | int


@dataclass(frozen=True)
class Command:
    """One command, or one call of a script.

    Attributes:
        args: the words of a command; or of a script's call from the number of keys on.
        script: the script to call, or None.
    """

    args: tuple[Argument, ...]
    script: Script | None = None

    def words(self, *, with_source: bool = False) -> tuple[Argument, ...]:
        """As it is sent: a script by its name, or with its source where that is unknown."""
        if self.script is None:
            return self.args
        if with_source:
            return (b"EVAL", self.script.source, *self.args)
        return (b"EVALSHA", self.script.sha, *self.args)


@dataclass(frozen=True)
class Trouble:
    """Why there is no answer.

    Attributes:
        reason: one line without secrets.
        passing: it may be over soon: worth another try.
    """

    reason: str
    passing: bool


class _PackedInC(AbstractConnection):
    """Commands made into bytes by hiredis: a batch has thousands of words.

    A command's name is one word here, unlike in the package's own packer.
    """

    def pack_command(self, *args: EncodableT) -> list[bytes]:
        """The bytes of one command."""
        return [_pack(args)]

    def pack_commands(self, commands: Iterable[Iterable[EncodableT]]) -> list[bytes]:
        """The bytes of a pipeline."""
        return [b"".join([_pack(tuple(words)) for words in commands])]

    async def send_packed_command(
        self,
        command: bytes | str | Iterable[bytes],
        check_health: bool = True,  # noqa: FBT001, FBT002 - the package's signature
    ) -> None:
        """Send; to uvloop it is no error of the connection that it was lost the moment before."""
        try:
            await super().send_packed_command(command, check_health)
        except RuntimeError as error:
            if "closed" not in str(error):
                raise
            raise redis_errors.ConnectionError("the connection was closed") from error

    @property
    def usable(self) -> bool:
        """Whether the other side has not closed it."""
        return self._reader is not None and not self._reader.at_eof()

    def send_now(self, data: bytes) -> None:
        """Send, without a task and a timer for that: who waits for the answer has them."""
        if self._writer is None:
            raise redis_errors.ConnectionError("the connection is closed")
        try:
            self._writer.write(data)
        except RuntimeError as error:  # of uvloop: it was lost the moment before
            raise redis_errors.ConnectionError("the connection was closed") from error


class PlainConnection(_PackedInC, Connection):
    """To one server over TCP."""


class TlsConnection(_PackedInC, SSLConnection):
    """To one server over TCP with TLS."""


class UnixConnection(_PackedInC, UnixDomainSocketConnection):
    """To a socket of this machine."""


class MasterConnection(_PackedInC, SentinelManagedConnection):
    """To the master that Sentinel names."""


class TlsMasterConnection(_PackedInC, SentinelManagedSSLConnection):
    """To the master that Sentinel names, with TLS."""


class Link(Protocol):
    """A way to one Redis, whatever it is made of.

    Attributes:
        sharded: whether its keys are spread over several servers.
    """

    sharded: bool

    @property
    def address(self) -> str:
        """Where it leads, without password."""
        ...

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """One try: for each command its reply or a `Trouble`. Raises nothing of redis."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


class SingleLink:
    """A single server, or the master that Sentinel names: all commands in one pipeline.

    Args:
        client: the server.
        address: where it is, without password.
        sentinels: who was asked where it is; closed with it.
    """

    sharded = False

    def __init__(self, client: Redis, address: str, sentinels: Sequence[Redis] = ()) -> None:
        self._client = client
        self._address = address
        self._sentinels = sentinels
        self._idle: list[_PackedInC] = []
        self._failures = 0

    @property
    def address(self) -> str:
        """Where it leads, without password."""
        return self._address

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """One try: for each command its reply or a `Trouble`."""
        failures = self._failures
        try:
            replies = await self._pipeline([command.words() for command in commands])
            unknown = [
                n
                for n, reply in enumerate(replies)
                if isinstance(reply, redis_errors.NoScriptError)
            ]
            if unknown:
                with_source = [commands[n].words(with_source=True) for n in unknown]
                for n, reply in zip(unknown, await self._pipeline(with_source), strict=True):
                    replies[n] = reply
        except (redis_errors.RedisError, OSError) as error:
            self._failures += 1
            await self._forget_idle()
            return [trouble_of(error)] * len(commands)
        if self._failures != failures:
            # Asked before a call failed: another server may be the master since, and this one may
            # have been frozen meanwhile, and not know it.
            await self._forget_idle()
            return [Trouble("a call beside it failed", passing=True)] * len(commands)
        if any(isinstance(reply, redis_errors.ReadOnlyError) for reply in replies):
            self._failures += 1
            await self._forget_idle()
        return [trouble_of(r) if isinstance(r, Exception) else r for r in replies]

    async def close(self) -> None:
        """Close all connections."""
        for client in (self._client, *self._sentinels):
            await client.aclose()

    async def _pipeline(self, commands: list[tuple[Argument, ...]]) -> list[Any]:
        connection = await self._take()
        packed = connection.pack_commands(commands)
        replies: list[Any] = []
        try:
            async with asyncio.timeout(REPLY_TIMEOUT_MS / 1000):
                if isinstance(connection, _PackedInC):
                    connection.send_now(packed[0])
                else:
                    await connection.send_packed_command(packed)
                for _ in commands:
                    try:
                        replies.append(await connection.read_response(timeout=math.inf))
                    except redis_errors.ResponseError as error:
                        replies.append(error)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        finally:
            await self._give(connection)
        return replies

    async def _take(self) -> AbstractConnection:
        """A connection; the pool's own checks of one take longer than a round trip."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
            await connection.disconnect(nowait=True)
            await self._client.connection_pool.release(connection)
        pool = self._client.connection_pool
        made: AbstractConnection = await pool.get_connection()  # type: ignore[no-untyped-call] # a decorator of the package loses its types
        return made

    async def _give(self, connection: AbstractConnection) -> None:
        if isinstance(connection, _PackedInC) and connection.usable:
            self._idle.append(connection)
        else:
            await self._client.connection_pool.release(connection)

    async def _forget_idle(self) -> None:
        """Another server may be the master by now, and one that comes back does not know it yet."""
        while self._idle:
            connection = self._idle.pop()
            await connection.disconnect(nowait=True)
            await self._client.connection_pool.release(connection)


class ClusterLink:
    """A cluster: each command goes to the node that owns its keys, several at the same time."""

    sharded = True

    def __init__(self, client: RedisCluster, address: str) -> None:
        self._client: Any = client
        self._address = address
        self._turns = asyncio.Semaphore(CLUSTER_COMMANDS_AT_ONCE_MAX)

    @property
    def address(self) -> str:
        """Where it leads, without password."""
        return self._address

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """One try: for each command its reply or a `Trouble`."""
        try:
            # Without the map of slots the client would send commands anywhere.
            await self._client.initialize()
        except (redis_errors.RedisError, redis_errors.RedisClusterException, OSError) as error:
            return [trouble_of(error)] * len(commands)
        return list(await asyncio.gather(*(self._one(command) for command in commands)))

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def _one(self, command: Command) -> Any:
        async with self._turns:
            try:
                try:
                    return await self._client.execute_command(*_named(command.words()))
                except redis_errors.NoScriptError:
                    words = command.words(with_source=True)
                    return await self._client.execute_command(*_named(words))
            except (redis_errors.RedisError, redis_errors.RedisClusterException, OSError) as error:
                return trouble_of(error)
            except RuntimeError as error:  # of uvloop: the connection was lost the moment before
                return Trouble(str(error), passing=True)
            except AttributeError:
                # When the client learns of a new map it drops all connections, also of commands
                # under way, which then miss their stream.
                return Trouble("the cluster's slots have moved", passing=True)


def _named(words: tuple[Argument, ...]) -> tuple[Argument, ...]:
    """The cluster client finds the node by the command's name, which it wants as str."""
    name = words[0]
    return (name.decode() if isinstance(name, bytes) else name, *words[1:])


def trouble_of(error: Exception) -> Trouble:
    """What an exception of the redis package (or of the socket) means to us."""
    reason = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, (redis_errors.AuthenticationError, redis_errors.AuthorizationError)):
        return Trouble(f"it refused the password: {reason}", passing=False)
    if isinstance(error, (redis_errors.TimeoutError, TimeoutError)):
        return Trouble(f"no answer in time: {reason}", passing=True)
    if isinstance(error, (redis_errors.ConnectionError, OSError)):
        return Trouble(reason, passing=True)
    if isinstance(
        error,
        (
            redis_errors.ClusterError,
            redis_errors.MovedError,
            redis_errors.ReadOnlyError,
            redis_errors.RedisClusterException,
            redis_errors.TryAgainError,
        ),
    ):
        return Trouble(reason, passing=True)
    if isinstance(error, redis_errors.ResponseError):
        return Trouble(reason, passing=reason.startswith(_PASSING_REPLIES))
    return Trouble(reason, passing=False)
