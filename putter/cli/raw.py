"""Raw tickets: those that frames without a session left on one putter.

They are a namespace of their own: no object has them, no counter knows them, so that only
whoever sent them can free them again.
"""

from __future__ import annotations

import os
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from common.errors import NotFound, UsageError
from common.settings import variable_of
from common.tickets import parse_ticket
from putter.cli.access import keyring

if TYPE_CHECKING:
    from common.certificates import Certificates

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
    freed = free_raw(host, port, keyring(key_file), ranges, session_certificates())
    wanted = sum(count for _, count in ranges)
    if freed < wanted:
        raise NotFound(f"{putter} held {freed} of {wanted} tickets; those are freed now")


def session_certificates() -> Certificates | None:
    """Those that the variables of the settings name.

    Raises:
        SettingInvalid: they cannot be used.
    """
    names = [os.environ.get(variable_of(name)) for name in ("tls_cert", "tls_key", "tls_ca")]
    cert, key, ca = (Path(name) if name else None for name in names)
    if cert is None or key is None or ca is None:
        return None
    from common.certificates import Certificates

    return Certificates(cert, key, ca)
