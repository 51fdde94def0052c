"""The base of all messages of a session, and their payloads cut into parts."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from common.errors import ProtocolError


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
