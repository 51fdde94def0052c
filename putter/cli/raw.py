"""Raw tickets: those that frames without a session left on one putter.

They are a namespace of their own: no object has them, no counter knows them, so that only
whoever sent them can free them again.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Annotated, Final

import typer

from common.errors import NotFound, UsageError
from common.tickets import parse_ticket
from putter.cli.access import keyring

DEFAULT_PUTTER: Final = "127.0.0.1:5000"

Putter = Annotated[
    str,
    typer.Option(
        "--putter", envvar="PUTTER_ADDRESS", help="Frame port of a putter.", metavar="HOST:PORT"
    ),
]


def parse_address(text: str) -> tuple[str, int]:
    """Split ``host:port``.

    Raises:
        UsageError: no host, or no port in 1…65535.
    """
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) <= 65535:
        raise UsageError(f"{text!r} is not host:port", hint=f"like {DEFAULT_PUTTER}")
    return host, int(port)


def ranges_of(tickets: list[str]) -> list[tuple[int, int]]:
    """TicketIDs as ranges ``(first number, count)``, ascending, without doubles.

    Raises:
        TicketInvalid: one of them is no TicketID.
    """
    numbers = enumerate(sorted({parse_ticket(ticket) for ticket in tickets}))
    stretches = (list(pairs) for _, pairs in groupby(numbers, lambda pair: pair[1] - pair[0]))
    return [(pairs[0][1], len(pairs)) for pairs in stretches]


def free_tickets(tickets: list[str], putter: str, key_file: Path | None) -> None:
    """Free raw tickets on one putter.

    Raises:
        TicketInvalid: one of them is no TicketID.
        NotFound: the putter held fewer of them.
        Unavailable: the putter cannot be reached.
        NotAuthorised: the putter has another key.
    """
    from putter.client.session import free_raw

    ranges = ranges_of(tickets)
    host, port = parse_address(putter)
    freed = free_raw(host, port, keyring(key_file), ranges)
    wanted = sum(count for _, count in ranges)
    if freed < wanted:
        raise NotFound(f"{putter} held {freed} of {wanted} tickets; those are freed now")
