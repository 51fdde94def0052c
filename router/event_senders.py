"""How events reach their targets: a POST each to a webhook, an entry each in a stream.

A sender tries once; when and how often to try again is decided in `router.delivery`. Events of one
file are sent one after the other; one that does not get through keeps back those behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import aiohttp

from common.errors import PutterError
from common.event_targets import EventTarget
from common.limits import CONNECT_TIMEOUT_MS, KIB
from common.meta.interface import Metadata
from common.meta.streams import Streams
from router.event_messages import Message

_ANSWER_MS: Final = 10_000
_AT_ONCE: Final = 16
_ANSWER_BYTES_MAX: Final = 64 * KIB
_OK: Final = range(200, 300)


@dataclass
class Sent:
    """What became of messages.

    Attributes:
        done: the numbers of those that the target has.
        trouble: why the others did not get through; "": all did.
    """

    done: list[int] = field(default_factory=list)
    trouble: str = ""


class Sender(Protocol):
    """The way to one target."""

    async def send(self, messages: Sequence[Message]) -> Sent:
        """Try to send messages; those of one file in their order."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


class Webhook:
    """A URL that takes a POST for each event.

    An answer 2xx says that the event arrived. Redirections are not followed, so that the token goes
    where the operator wants it and nowhere else; of an answer only its status is looked at.

    Args:
        url: of it.
        token: bearer token; "": none.
        agent: what the sender calls itself.
    """

    def __init__(self, url: str, token: str, agent: str) -> None:
        self._url = url
        self._headers = {"Content-Type": "application/json", "User-Agent": agent}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._session: aiohttp.ClientSession | None = None

    async def send(self, messages: Sequence[Message]) -> Sent:
        """Try to send messages; those of one file in their order."""
        chains: dict[str, list[Message]] = {}
        for each in messages:
            chains.setdefault(each.subject, []).append(each)
        sent, places = Sent(), asyncio.Semaphore(_AT_ONCE)
        await asyncio.gather(*(self._chain(each, sent, places) for each in chains.values()))
        return sent

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    # -- inside ----------------------------------------------------------------------------

    async def _chain(
        self, messages: Sequence[Message], sent: Sent, places: asyncio.Semaphore
    ) -> None:
        async with places:
            for each in messages:
                if sent.trouble:
                    return  # one that is down is not asked a hundred times
                trouble = await self._post(each)
                if trouble:
                    sent.trouble = trouble
                    return
                sent.done.append(each.number)

    async def _post(self, message: Message) -> str:
        """Why a message did not arrive; "" if it did."""
        if self._session is None:
            timeout = aiohttp.ClientTimeout(
                total=_ANSWER_MS / 1000, connect=CONNECT_TIMEOUT_MS / 1000
            )
            jar = aiohttp.DummyCookieJar()
            self._session = aiohttp.ClientSession(timeout=timeout, cookie_jar=jar)
        try:
            async with self._session.post(
                self._url, data=message.body, headers=self._headers, allow_redirects=False
            ) as answer:
                # Read to its end, a short one leaves its connection for the next message.
                await answer.content.read(_ANSWER_BYTES_MAX)
                return "" if answer.status in _OK else f"it answers {answer.status}"
        except TimeoutError:
            return f"it does not answer within {_ANSWER_MS / 1000:.0f} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return _reason(error, self._url)


class Stream:
    """A stream of a Redis: each event is an entry.

    Its fields are ``event``, ``key`` (``bucket/key``) and ``message``.

    Args:
        add: adds entries and says what went wrong, "" if nothing did.
        close: closes the connections.
    """

    def __init__(
        self,
        add: Callable[[Sequence[Mapping[str, bytes]]], Awaitable[str]],
        close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._add = add
        self._close = close

    async def send(self, messages: Sequence[Message]) -> Sent:
        """Try to send messages, in their order."""
        trouble = await self._add(
            [
                {"event": each.name.encode(), "key": each.subject.encode(), "message": each.body}
                for each in messages
            ]
        )
        return Sent([], trouble) if trouble else Sent([each.number for each in messages])

    async def close(self) -> None:
        """Close all connections."""
        if self._close is not None:
            await self._close()


def sender_to(target: EventTarget, meta: Metadata, agent: str) -> Sender:
    """The way to a target.

    Args:
        target: as the operator named it.
        meta: the coordinator, for a stream of its own.
        agent: what the sender calls itself.

    Raises:
        SettingInvalid: its URL is not that of a Redis.
    """
    if target.kind == "webhook":
        return Webhook(target.url, target.token, agent)
    if target.url:
        streams = Streams(target.url)
        return Stream(
            lambda entries: streams.add(target.stream, entries, target.length_max), streams.close
        )

    async def add(entries: Sequence[Mapping[str, bytes]]) -> str:
        try:
            await meta.outbox.forward(target.stream, entries, target.length_max)
        except PutterError as error:
            return error.message
        return ""

    return Stream(add)


def _reason(error: Exception, url: str) -> str:
    """What went wrong, without the URL, which may have a secret in its path."""
    if isinstance(error, aiohttp.ClientResponseError):
        # Its text has the URL as it was sent, which is not always as the operator wrote it.
        return f"{type(error).__name__}: its answer cannot be read"
    return f"{type(error).__name__}: {error}".replace(url, "its URL")
