"""TicketIDs and ObjectIDs: bijective base 36 over ``0-9A-Z``, shorter first.

The sequence is ``0 … Z, 00 … ZZ, 000 …``: number *n* is written like *n + 1* in bijective
base 36 with the digits 1…36 spelled ``0…Z``. On the wire a TicketID takes eight bytes:

```
offset  size  field
0       1..8  characters 0-9A-Z
…       0..7  NUL padding on the right
```

The vectorised functions work on whole ranges as columns of bytes, shape ``(count, 8)``.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from common.errors import TicketInvalid

FIELD_BYTES: Final = 8
DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
BASE: Final = len(DIGITS)

# How many IDs have at most k characters, for k = 0 … 8: 0, 36, 36 + 36², …
_COUNT_UP_TO: Final = tuple((BASE ** (k + 1) - BASE) // (BASE - 1) for k in range(FIELD_BYTES + 1))
TICKETS_MAX: Final = _COUNT_UP_TO[FIELD_BYTES]

Fields = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]

_VALUE: Final[dict[str, int]] = {digit: value for value, digit in enumerate(DIGITS, start=1)}
_SPELL: Final[Fields] = np.frombuffer(("\0" + DIGITS).encode(), np.uint8)
_READ: Final[Numbers] = np.full(256, -1, np.int64)
_READ[_SPELL] = np.arange(BASE + 1)

assert TICKETS_MAX == 2_901_713_047_668


def format_id(number: int) -> str:
    """The text of an ID number.

    Args:
        number: 0 ≤ number; tickets stay below `TICKETS_MAX`, ObjectIDs may grow longer.

    Raises:
        TicketInvalid: the number is negative.
    """
    if number < 0:
        raise TicketInvalid(f"an ID number is 0 or more, not {number}")
    left = number + 1
    digits: list[str] = []
    while left:
        left, digit = divmod(left - 1, BASE)
        digits.append(DIGITS[digit])
    return "".join(reversed(digits))


def parse_id(text: str) -> int:
    """The number of an ID's text; the inverse of `format_id`.

    Raises:
        TicketInvalid: empty, or a character outside of ``0-9A-Z``.
    """
    number = 0
    for char in text:
        value = _VALUE.get(char)
        if value is None:
            raise TicketInvalid(f"{text!r} is not base 36 (0-9, A-Z)")
        number = number * BASE + value
    if not text:
        raise TicketInvalid("an ID has at least one character of 0-9, A-Z")
    return number - 1


def parse_ticket(text: str) -> int:
    """The number of a TicketID's text.

    Raises:
        TicketInvalid: not base 36, or longer than eight characters.
    """
    if len(text) > FIELD_BYTES:
        raise TicketInvalid(f"{text[:32]!r} is longer than {FIELD_BYTES} characters")
    return parse_id(text)


def successor(text: str) -> str:
    """The TicketID that follows.

    Raises:
        TicketInvalid: not a TicketID, or the last one (``ZZZZZZZZ``).
    """
    number = parse_ticket(text) + 1
    if number >= TICKETS_MAX:
        raise TicketInvalid(f"{text!r} is the last ticket")
    return format_id(number)


def encode_field(number: int) -> bytes:
    """The eight bytes of one ticket number.

    Raises:
        TicketInvalid: the number is not in 0 ≤ number < `TICKETS_MAX`.
    """
    if not 0 <= number < TICKETS_MAX:
        raise TicketInvalid(f"ticket number {number} is outside of 0…{TICKETS_MAX - 1}")
    return format_id(number).encode().ljust(FIELD_BYTES, b"\0")


def decode_field(field: bytes) -> int:
    """The number in one eight-byte field.

    Raises:
        TicketInvalid: wrong length, not base 36, or NUL before a character.
    """
    if len(field) != FIELD_BYTES:
        raise TicketInvalid(f"a ticket field has {FIELD_BYTES} bytes, not {len(field)}")
    try:
        return parse_ticket(field.rstrip(b"\0").decode("ascii"))
    except UnicodeDecodeError as error:
        raise TicketInvalid(f"{field!r} is not base 36 (0-9, A-Z)") from error


def encode_range(first: int, count: int) -> Fields:
    """The fields of ``count`` consecutive tickets.

    Returns:
        uint8, shape ``(count, 8)``, writable, C order.

    Raises:
        TicketInvalid: a part of the range is outside of 0…`TICKETS_MAX` - 1.
    """
    if count < 0 or first < 0 or first + count > TICKETS_MAX:
        raise TicketInvalid(f"tickets {first} + {count} are outside of 0…{TICKETS_MAX - 1}")
    out = np.zeros((count, FIELD_BYTES), np.uint8)
    start = 0
    while start < count:
        length = len(format_id(first + start))
        stop = min(count, _COUNT_UP_TO[length] - first)
        left = np.arange(first + start + 1, first + stop + 1, dtype=np.int64)
        for column in range(length - 1, -1, -1):
            left, digit = np.divmod(left - 1, BASE)
            out[start:stop, column] = _SPELL[digit + 1]
        start = stop
    return out


def decode_fields(fields: Fields) -> Numbers:
    """The numbers in many fields.

    Args:
        fields: uint8, shape ``(count, 8)``; any strides.

    Returns:
        int64, shape ``(count,)``; -1 where a field is not a TicketID.
    """
    values = _READ[fields]
    numbers = np.zeros(len(fields), np.int64)
    for column in range(FIELD_BYTES):
        value = values[:, column]
        numbers = np.where(value > 0, numbers * BASE + value, numbers)
    empty = values == 0
    bad = (values < 0).any(axis=1) | empty[:, 0] | (empty[:, :-1] & ~empty[:, 1:]).any(axis=1)
    numbers -= 1
    numbers[bad] = -1
    return numbers


def segments(numbers: Numbers, statuses: npt.NDArray[np.uint8]) -> list[tuple[int, int, int]]:
    """Maximal stretches of consecutive tickets that share one status.

    Args:
        numbers: int64, shape ``(count,)``.
        statuses: uint8, shape ``(count,)``.

    Returns:
        ``(first, count, status)`` in the order of the input.
    """
    if len(numbers) == 0:
        return []
    breaks = np.flatnonzero((np.diff(numbers) != 1) | (np.diff(statuses) != 0)) + 1
    starts = [0, *breaks.tolist()]
    stops = [*breaks.tolist(), len(numbers)]
    return [
        (int(numbers[a]), b - a, int(statuses[a])) for a, b in zip(starts, stops, strict=True)
    ]
