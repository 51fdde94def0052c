"""Streams of another Redis or Valkey than the store's, to which events are added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from common.meta.link import Trouble
from common.meta.redis_outbox import additions
from common.meta.redis_store import link_to


class Streams:
    """A server with streams; nothing is sent before the first call.

    Args:
        url: of one server (see `common.meta.address`).

    Raises:
        SettingInvalid: not a URL of a Redis.
    """

    def __init__(self, url: str) -> None:
        self._link = link_to(url)

    async def add(
        self, stream: str, entries: Sequence[Mapping[str, bytes]], length_max: int
    ) -> str:
        """Add entries to a stream, in order.

        Args:
            stream: its key.
            entries: values by field.
            length_max: about how many entries the stream keeps.

        Returns:
            What went wrong; "" if all are there. If not, some may be.
        """
        replies = await self._link.run(additions(stream, entries, length_max))
        return next((each.reason for each in replies if isinstance(each, Trouble)), "")

    async def close(self) -> None:
        """Close all connections."""
        await self._link.close()
