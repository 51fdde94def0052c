"""The base of all messages of a session, and their payloads cut into parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from common.errors import ProtocolError
from common.requests import REQUEST_ID_MAX

RequestId = Annotated[str, Meta(max_length=REQUEST_ID_MAX)]
"""The id of a client's request (`common.requests`), for the log of whoever works on it, or ""."""


class Message(msgspec.Struct, array_like=True, frozen=True):
    """One msgpack array, its first element the name of the message."""


def split_payload(payload: memoryview, lengths: Sequence[int]) -> list[memoryview]:
    """Cut a payload at announced lengths.

    Raises:
        ProtocolError: the lengths do not add up to the payload.
    """
    if sum(lengths) != len(payload) or (lengths and min(lengths) <= 0):
        raise ProtocolError(
            f"announced parts of {sum(lengths)} bytes in a payload of {len(payload)}"
        )
    parts = []
    position = 0
    for length in lengths:
        parts.append(payload[position : position + length])
        position += length
    return parts
