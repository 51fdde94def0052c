"""TicketIDs and ObjectIDs: bijective base 36 over ``0-9A-Z``, shorter first.

The sequence is ``0 … Z, 00 … ZZ, 000 …``: the IDs of *k* characters are the plain base 36
numbers of *k* digits, behind all shorter ones. On the wire a TicketID takes eight bytes:

```
offset  size  field
0       1..8  characters 0-9A-Z
…       0..7  NUL padding on the right
```

The vectorised functions work on whole ranges as columns of bytes, shape ``(count, 8)``.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

import numpy as np
import numpy.typing as npt

from common.errors import TicketInvalid

FIELD_BYTES: Final = 8
DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
BASE: Final = len(DIGITS)

# How many IDs have at most k characters, for k = 0 … 8: 0, 36, 36 + 36², …
_COUNT_UP_TO: Final[tuple[int, ...]] = tuple(
    (BASE ** (k + 1) - BASE) // (BASE - 1) for k in range(FIELD_BYTES + 1)
)
TICKETS_MAX: Final = _COUNT_UP_TO[FIELD_BYTES]

Fields = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]

_SPELL: Final[Fields] = np.frombuffer(DIGITS.encode(), np.uint8)
_PAIR: Final = BASE * BASE
_SPELL_PAIR: Final[Fields] = np.stack([np.repeat(_SPELL, BASE), np.tile(_SPELL, BASE)], axis=1)
_READ: Final[Numbers] = np.full(256, -1, np.int64)
_READ[_SPELL] = np.arange(BASE)
_WEIGHTS: Final[Numbers] = BASE ** np.arange(FIELD_BYTES - 1, -1, -1, dtype=np.int64)
_FEW: Final = 12
"""Up to so many fields, plain Python is faster than columns."""
_OTHER: Final = 1 << 63
"""Set in the keys of what is no ObjectID of a counter."""

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
    length = 1
    power = BASE
    while number >= power:
        number -= power
        power *= BASE
        length += 1
    digits = []
    for _ in range(length):
        number, digit = divmod(number, BASE)
        digits.append(DIGITS[digit])
    return "".join(reversed(digits))


def parse_id(text: str) -> int:
    """The number of an ID's text; the inverse of `format_id`.

    Raises:
        TicketInvalid: empty, or a character outside of ``0-9A-Z``.
    """
    if not text:
        raise TicketInvalid("an ID has at least one character of 0-9, A-Z")
    if not (text.isascii() and text.isalnum() and text == text.upper()):
        raise TicketInvalid(f"{text!r} is not base 36 (0-9, A-Z)")
    shorter: int = (BASE ** len(text) - BASE) // (BASE - 1)
    return int(text, BASE) + shorter


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


def object_key(object_id: str) -> int:
    """A number for an ObjectID: its own if it has one below 2⁶³, else a hash above; 0 for ""."""
    if not object_id:
        return 0
    try:
        number = parse_id(object_id) + 1
    except TicketInvalid:
        number = _OTHER
    if number < _OTHER:
        return number
    digest = blake2b(object_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") | _OTHER


def object_id_of(object_key: int) -> str:
    """The ObjectID of a key; "" where the key is a hash, or there is none."""
    return format_id(object_key - 1) if 0 < object_key < _OTHER else ""


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
        shorter = _COUNT_UP_TO[length - 1]
        at = first + start - shorter
        if length == 1:
            out[start:stop, 0] = _SPELL[at : at + stop - start]
            start = stop
            continue
        # What stands before the last two digits changes only every 1296 tickets.
        while start < stop:
            higher, low = divmod(at, _PAIR)
            some = min(stop - start, _PAIR - low)
            out[start : start + some, : length - 2] = _digits(higher, length - 2)
            out[start : start + some, length - 2 : length] = _SPELL_PAIR[low : low + some]
            start += some
            at += some
    return out


def _digits(value: int, length: int) -> Fields:
    """Plain base 36 with leading zeros, as bytes."""
    digits = bytearray(length)
    for column in range(length - 1, -1, -1):
        value, digit = divmod(value, BASE)
        digits[column] = _SPELL[digit]
    return np.frombuffer(digits, np.uint8)


def decode_fields(fields: Fields) -> Numbers:
    """The numbers in many fields.

    Args:
        fields: uint8, shape ``(count, 8)``; any strides.

    Returns:
        int64, shape ``(count,)``; -1 where a field is not a TicketID.
    """
    count = len(fields)
    if count > 1:  # most often they are a range: that is told by spelling it once more
        first = number_or_none(fields[0].tobytes())
        if (
            0 <= first <= TICKETS_MAX - count
            and number_or_none(fields[-1].tobytes()) == first + count - 1
            and np.array_equal(fields, encode_range(first, count))
        ):
            return np.arange(first, first + count, dtype=np.int64)
    if count <= _FEW:
        return np.array([number_or_none(row.tobytes()) for row in fields], np.int64)
    lengths = (fields != 0).sum(axis=1)
    numbers = np.full(count, -1, np.int64)
    # Not np.unique: its first call imports numpy.ma, in the middle of the traffic.
    for length in sorted(set(lengths[lengths > 0].tolist())):
        chosen = lengths == length
        digits = _READ[fields[chosen, :length]]
        values = digits @ _WEIGHTS[FIELD_BYTES - length :] + _COUNT_UP_TO[length - 1]
        # A digit is missing where NUL stands before a character, too.
        values[(digits < 0).any(axis=1)] = -1
        numbers[chosen] = values
    return numbers


def number_or_none(field: bytes) -> int:
    """The number in one eight-byte field; -1 where it is no TicketID."""
    text = field.rstrip(b"\0")
    if not text.isalnum() or text.upper() != text:
        return -1
    return int(text, BASE) + _COUNT_UP_TO[len(text) - 1]


def segments(numbers: Numbers, statuses: npt.NDArray[np.uint8]) -> list[tuple[int, int, int]]:
    """Maximal stretches of consecutive tickets that share one status.

    Args:
        numbers: int64, shape ``(count,)``.
        statuses: uint8, shape ``(count,)``.

    Returns:
        ``(first, count, status)`` in the order of the input.
    """
    if len(numbers) <= _FEW:
        return _few_segments(numbers.tolist(), statuses.tolist())
    breaks = np.flatnonzero((np.diff(numbers) != 1) | (np.diff(statuses) != 0)) + 1
    starts = [0, *breaks.tolist()]
    stops = [*breaks.tolist(), len(numbers)]
    return [(int(numbers[a]), b - a, int(statuses[a])) for a, b in zip(starts, stops, strict=True)]


def _few_segments(numbers: list[int], statuses: list[int]) -> list[tuple[int, int, int]]:
    out: list[tuple[int, int, int]] = []
    for number, status in zip(numbers, statuses, strict=True):
        if out:
            first, count, same = out[-1]
            if number == first + count and status == same:
                out[-1] = (first, count + 1, same)
                continue
        out.append((number, 1, status))
    return out
