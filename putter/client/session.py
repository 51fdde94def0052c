"""A short session with one putter, for the command line: raw tickets, and keys."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from functools import partial

from common.buffers import BufferPool
from common.certificates import Certificates
from common.errors import ProtocolError, error_for_status
from common.keys import Keyring
from common.records import cluster_key_in
from common.sessions import ClientSession, open_session
from common.tls_ports import node_network
from common.transport import Network, TcpNetwork
from common.wire.handshake import CHALLENGE_BYTES
from common.wire.inventory import HoldingList, ListHoldings
from common.wire.message import split_payload
from common.wire.session import Done, Free, Hello, ListRecords, RecordList

_CALL_MS = 60_000
_PAGE = 2_000
_RECORDS = 500


def free_raw(
    host: str,
    port: int,
    keyring: Keyring,
    ranges: Sequence[tuple[int, int]],
    certificates: Certificates | None = None,
) -> int:
    """Remove raw tickets from a putter.

    Args:
        host: where the putter listens.
        port: its port of frames and sessions.
        keyring: the cluster keys.
        ranges: ``(first ticket, count)``.
        certificates: the session is encrypted with; None: it is not.

    Returns:
        How many tickets were there and are removed now, durably.

    Raises:
        Unavailable: it cannot be reached.
        NotAuthorised: the keys differ.
        PutterError: it could not remove them.
    """
    network = node_network(TcpNetwork(), certificates)
    return asyncio.run(free_raw_tickets(network, host, port, keyring, ranges))


def keys_needed(
    host: str, port: int, keyring: Keyring, certificates: Certificates | None = None
) -> list[str]:
    """The ids of the cluster keys that what a putter holds is verified and opened with.

    It looks through all of its tickets but raw ones, and through its commit records.

    Args:
        host: where the putter listens.
        port: its port of frames and sessions.
        keyring: the cluster keys.
        certificates: the session is encrypted with; None: it is not.

    Raises:
        Unavailable: it cannot be reached.
        NotAuthorised: the keys differ.
        PutterError: its disk refused.
    """
    network = node_network(TcpNetwork(), certificates)
    return asyncio.run(keys_named(network, host, port, keyring))


async def keys_named(network: Network, host: str, port: int, keyring: Keyring) -> list[str]:
    """The same over any network; see `keys_needed`."""
    session = await _open(network, host, port, keyring)
    found: set[str] = set()
    cursor, walked = "", False
    try:
        while cursor or not walked:
            ask = partial(ListHoldings, cursor=cursor, limit=_PAGE)
            answers = await session.call(ask, timeout_ms=_CALL_MS)
            reply = answers[-1][0]
            if isinstance(reply, Done):
                raise error_for_status(reply.status, f"{host}:{port}: {reply.reason}")
            if not isinstance(reply, HoldingList):
                raise ProtocolError(f"{host}:{port} answered something else")
            found.update(reply.keys)
            cursor, walked = reply.cursor, True
        found |= await _keys_of_files(session, f"{host}:{port}")
    finally:
        session.close()
    return sorted(found - {""})


async def _keys_of_files(session: ClientSession, putter: str) -> set[str]:
    """The cluster keys that files are encrypted with whose records a putter holds."""
    found: set[str] = set()
    after, walked = 0, False
    while after or not walked:
        ask = partial(ListRecords, after=after, limit=_RECORDS, kinds=("version",))
        answers = await session.call(ask, timeout_ms=_CALL_MS)
        reply, payload = answers[-1]
        if not isinstance(reply, RecordList):
            raise ProtocolError(f"{putter} answered something else")
        bodies = split_payload(payload, [length for _, length in reply.records])
        found |= {cluster_key_in(bytes(body)) for body in bodies}
        after, walked = reply.last, True
    return found


async def free_raw_tickets(
    network: Network, host: str, port: int, keyring: Keyring, ranges: Sequence[tuple[int, int]]
) -> int:
    """The same over any network; see `free_raw`."""
    session = await _open(network, host, port, keyring)
    try:
        answers = await session.call(
            lambda request: Free(request, tuple(ranges), raw=True), timeout_ms=_CALL_MS
        )
    finally:
        session.close()
    reply = answers[-1][0]
    if not isinstance(reply, Done):
        raise ProtocolError(f"{host}:{port} answered something else")
    if reply.status:
        raise error_for_status(reply.status, f"{host}:{port}: {reply.reason}")
    return reply.count


async def _open(network: Network, host: str, port: int, keyring: Keyring) -> ClientSession:
    rng = random.SystemRandom()
    hello = Hello(
        role="client",
        node="command-line",
        instance=rng.randbytes(6).hex(),
        frame_bytes=0,
        key_ids=tuple(keyring.ids),
        challenge=rng.randbytes(CHALLENGE_BYTES),
    )
    session, _ = await open_session(
        network, host, port, lambda: ClientSession(keyring, hello, BufferPool())
    )
    return session
