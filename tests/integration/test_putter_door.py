"""Bad input on port 5000 of a real putter: an answer in its own form, and nobody else disturbed."""

from __future__ import annotations

import os
import random
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest

from common.keys import ClusterKey, Keyring
from common.limits import RAW_DATA_BYTES, RAW_FRAME_BYTES
from common.wire.greeting import ClientGreeting
from common.wire.reader import MessageReader
from common.wire.session import (
    GREETING,
    Done,
    Ping,
    Refused,
    Stat,
    StatReply,
    encode,
)
from common.wire.status import Status
from tests.metadata_kit import ValkeyServer
from tests.node_kit import OTHER_KEY, OTHER_RING, acks_in, hello_of, raw_frame, raw_frames
from tests.store_kit import Cluster, Process, eventually

TIMEOUT_S = 30.0
IDLE_MS = 1_500
FULL = random.Random(1).randbytes(RAW_DATA_BYTES)
RESET = struct.pack("ii", 1, 0)


class Putter:
    """A running putter and its clients."""

    def __init__(self, store: Cluster, process: Process, port: int) -> None:
        self.process = process
        self.port = port
        self.ring: Keyring = store.keyring
        self.key: ClusterKey = self.ring.writing
        self._next = 1_000

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_S)

    def tickets(self, count: int = 1) -> int:
        """Numbers that no other test uses."""
        self._next += count
        return self._next - count

    def frames(self, first: int, data: bytes = FULL, key: ClusterKey | None = None) -> bytes:
        return raw_frames(first, data, key or self.key)

    def send(self, wire: bytes, *, slowly: bool = False) -> bytes:
        """Send everything, half-close, and give what comes back until the other side closes."""
        with self.connect() as client:
            deliver(client, wire, slowly=slowly)
            client.shutdown(socket.SHUT_WR)
            return everything(client)

    def holds(self, ticket: int) -> bool:
        """Whether a raw ticket is stored, asked in a session of its own."""
        with Session(self) as session:
            reply = session.ask(Stat(1, ticket, raw=True))
            assert isinstance(reply, StatReply)
            return reply.found


class Session:
    """A greeted session on a blocking socket."""

    def __init__(self, putter: Putter) -> None:
        self.socket = putter.connect()
        self.reader = MessageReader()
        greeting = ClientGreeting(putter.ring, hello_of(putter.ring, challenge=os.urandom(16)))
        self.socket.sendall(greeting.opening)
        while greeting.peer is None:
            data = self.socket.recv(4096)
            assert data, "closed during the greeting"
            self.socket.sendall(greeting.receive(data))

    def ask(self, message: Ping | Stat) -> object:
        self.socket.sendall(encode(message))
        return self.next()

    def next(self) -> object:
        while True:
            data = self.socket.recv(65_536)
            assert data, "closed without a word"
            for message, _ in self.reader.feed(data):
                return message

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def deliver(client: socket.socket, wire: bytes, *, slowly: bool) -> None:
    """In one piece, or byte by byte in segments of their own."""
    if not slowly:
        client.sendall(wire)
        return
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for at in range(len(wire)):
        client.sendall(wire[at : at + 1])


def everything(client: socket.socket) -> bytes:
    """What comes until the other side ends the connection, orderly or not."""
    out = b""
    try:
        while part := client.recv(65_536):
            out += part
    except ConnectionResetError:
        pass
    return out


def told(wire: bytes) -> list[object]:
    """The messages behind a greeting."""
    assert wire[:8] == GREETING
    return [message for message, _ in MessageReader().feed(wire[8:])]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory: Path = tmp_path_factory.mktemp("door")
    (directory / "valkey").mkdir()
    made = Cluster(directory, ValkeyServer(directory / "valkey"))
    _ = made.keyring
    try:
        made.valkey.start()
        yield made
    finally:
        made.stop()


def started(store: Cluster, *flags: str) -> Putter:
    process = store.add_putter("--storage", "memory", *flags)
    process.start()
    made = Putter(store, process, store.putter_ports[-1])

    def answers() -> None:
        assert process.alive, process.tail()
        assert " registered " in process.text(), "before that it serves nobody"
        try:
            made.connect().close()
        except OSError as error:
            raise AssertionError(process.tail()) from error

    eventually(answers)
    return made


@pytest.fixture(scope="module")
def patient(store: Cluster) -> Putter:
    """Waits a minute for silent clients."""
    return started(store)


@pytest.fixture(scope="module")
def hasty(store: Cluster) -> Putter:
    """Waits for silent clients as short as it may."""
    return started(store, "--idle-timeout-ms", str(IDLE_MS))


@pytest.fixture
def putter(patient: Putter) -> Iterator[Putter]:
    """A putter with others at work on it, who notice nothing of the test."""
    with patient.connect() as sender, Session(patient) as session:
        first = patient.tickets(2)
        sender.sendall(patient.frames(first) + patient.frames(first + 1)[:700])
        assert acks_in(read(sender, 9)) == [(first, 0)]
        yield patient
        sender.sendall(patient.frames(first + 1)[700:])
        assert acks_in(read(sender, 9)) == [(first + 1, 0)]
        assert session.ask(Ping(1)) == Done(1, 0)
    assert "Traceback" not in patient.process.text()
    assert "Fatal error" not in patient.process.text()


def read(client: socket.socket, size: int) -> bytes:
    out = b""
    while len(out) < size:
        part = client.recv(size - len(out))
        assert part, f"ended after {out!r}"
        out += part
    return out


slowly_or_not = pytest.mark.parametrize("slowly", [False, True], ids=["whole", "byte by byte"])


class TestFrames:
    @slowly_or_not
    @pytest.mark.parametrize("size", [1474, 3000, 5 * 1474])
    def test_garbage(self, putter: Putter, size: int, slowly: bool) -> None:
        garbage = b"GET / HTTP/1.1\r\n" + random.Random(size).randbytes(size - 16)
        found = acks_in(putter.send(garbage, slowly=slowly))
        assert found[0] == (-1, Status.MALFORMED)
        assert len(found) == -(-size // RAW_FRAME_BYTES)
        assert not {status for _, status in found} & {Status.WRITTEN}

    @slowly_or_not
    @pytest.mark.parametrize("size", [17, 18, 700, 1473])
    def test_a_last_short_frame(self, putter: Putter, size: int, slowly: bool) -> None:
        first = putter.tickets(2)
        wire = putter.frames(first, FULL + FULL[: size - 16])
        assert acks_in(putter.send(wire, slowly=slowly)) == [(first, 0), (first + 1, 0)]
        assert putter.holds(first + 1)

    @pytest.mark.parametrize("size", range(1, 17))
    def test_bytes_left_over(self, putter: Putter, size: int) -> None:
        first = putter.tickets(2)
        wire = putter.frames(first) + putter.frames(first + 1)[:size]
        answer = putter.send(wire)
        whole = putter.frames(first)[:8] + bytes([Status.WRITTEN])
        field = putter.frames(first + 1)[: min(8, size)].ljust(8, b"\0")
        rest = field + bytes([Status.MALFORMED])
        assert answer in (whole + rest, rest + whole), "the rest need not wait for the disk"
        assert not putter.holds(first + 1)

    @slowly_or_not
    def test_a_truncated_frame(self, putter: Putter, slowly: bool) -> None:
        first = putter.tickets()
        wire = putter.frames(first)[:1000]
        assert acks_in(putter.send(wire, slowly=slowly)) == [(first, Status.CHECKSUM_MISMATCH)]
        assert not putter.holds(first)

    @slowly_or_not
    def test_an_oversized_frame(self, putter: Putter, slowly: bool) -> None:
        """Its end is read as the beginning of the next: nothing of it is stored."""
        first = putter.tickets()
        wire = raw_frame(putter.frames(first)[:8], FULL + b"too much" * 10, putter.key)
        found = acks_in(putter.send(wire, slowly=slowly))
        assert [status for _, status in found] == [Status.CHECKSUM_MISMATCH, Status.MALFORMED]
        assert found[0][0] == first
        assert not putter.holds(first)

    @pytest.mark.parametrize(
        "field", [b"abcdefgh", b"A/B\0\0\0\0\0", b"\0A\0\0\0\0\0\0", b"\0" * 8, b"\xff" * 8]
    )
    def test_a_ticket_that_is_not_base_36(self, putter: Putter, field: bytes) -> None:
        first = putter.tickets()
        wire = raw_frame(field, FULL, putter.key) + putter.frames(first)
        answer = putter.send(wire)
        assert answer[:9] == field + bytes([Status.MALFORMED])
        assert acks_in(answer[9:]) == [(first, 0)], "the connection goes on"

    def test_another_key(self, putter: Putter) -> None:
        first = putter.tickets(2)
        wire = putter.frames(first, key=OTHER_KEY) + putter.frames(first + 1)
        found = acks_in(putter.send(wire))
        assert found == [(first, Status.CHECKSUM_MISMATCH), (first + 1, Status.WRITTEN)]
        assert not putter.holds(first)

    @pytest.mark.parametrize("at", [3, 8, 15, 16, 1473])
    def test_one_flipped_bit(self, putter: Putter, at: int) -> None:
        first = putter.tickets(2)
        wire = bytearray(putter.frames(first) + putter.frames(first + 1))
        wire[at] ^= 0x10
        statuses = [status for _, status in acks_in(putter.send(bytes(wire)))]
        assert statuses[0] in (Status.CHECKSUM_MISMATCH, Status.MALFORMED)
        assert statuses[1] == Status.WRITTEN

    def test_the_same_again_and_other_bytes(self, putter: Putter) -> None:
        first = putter.tickets()
        once = putter.frames(first)
        assert acks_in(putter.send(once)) == [(first, Status.WRITTEN)]
        assert acks_in(putter.send(once)) == [(first, Status.WRITTEN)]
        other = putter.frames(first, FULL[::-1])
        assert acks_in(putter.send(other)) == [(first, Status.TICKET_TAKEN)]
        assert acks_in(putter.send(other + once)) == [
            (first, Status.TICKET_TAKEN),
            (first, Status.WRITTEN),
        ]

    def test_nothing_at_all(self, putter: Putter) -> None:
        assert putter.send(b"") == b""

    def test_a_reset_in_the_middle_of_a_frame(self, putter: Putter) -> None:
        first = putter.tickets(2)
        client = putter.connect()
        client.sendall(putter.frames(first))
        assert acks_in(read(client, 9)) == [(first, 0)]
        client.sendall(putter.frames(first + 1)[:800])
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.close()
        assert putter.holds(first)
        assert not putter.holds(first + 1)


class TestSessions:
    def refused(self, answer: bytes) -> Refused:
        refused = told(answer)[-1]
        assert isinstance(refused, Refused)
        return refused

    @slowly_or_not
    def test_an_unknown_version(self, putter: Putter, slowly: bool) -> None:
        with putter.connect() as client:
            deliver(client, b"PUTTER/2", slowly=slowly)
            refused = self.refused(everything(client))
        assert refused.status == Status.MALFORMED
        assert "version b'2' is unknown" in refused.reason
        assert "PUTTER/1" in refused.hint

    @slowly_or_not
    def test_another_key(self, putter: Putter, slowly: bool) -> None:
        greeting = ClientGreeting(OTHER_RING, hello_of(OTHER_RING))
        with putter.connect() as client:
            deliver(client, greeting.opening, slowly=slowly)
            refused = self.refused(everything(client))
        assert refused.status == Status.NOT_AUTHORISED
        assert refused.reason == "no cluster key in common"
        assert "--key-file" in refused.hint

    @pytest.mark.parametrize(
        ("nonsense", "reason"),
        [
            (bytes(8), "without a header"),
            (b"\xff" * 8, "are allowed here"),
            (b"\0\0\0\1\0\0\0\0\xc1", "not a session message"),
            (b"\0\0\x0f\xa7\0\0\0\0\x93\xa4ping\x01" + b"\x91" * 4000, "not a session message"),
            (b"\0\0\0\x0a\0\0\0\0\x93\xa4find\x01\xa2\xff\xfe", "not a session message"),
            (encode(Ping(1)), "Ping does not belong"),
        ],
        ids=["zeros", "ones", "msgpack", "depth", "text", "no hello"],
    )
    @slowly_or_not
    def test_nonsense_of_a_stranger(
        self, putter: Putter, nonsense: bytes, reason: str, slowly: bool
    ) -> None:
        with putter.connect() as client:
            deliver(client, GREETING + nonsense, slowly=slowly)
            assert reason in self.refused(everything(client)).reason

    @pytest.mark.parametrize("nonsense", [bytes(8), b"\xff" * 8, b"\0\0\0\1\0\0\0\0\xc1"])
    def test_nonsense_of_a_member(self, putter: Putter, nonsense: bytes) -> None:
        with Session(putter) as session:
            assert session.ask(Ping(1)) == Done(1, 0)
            session.socket.sendall(nonsense)
            assert isinstance(session.next(), Refused)
            assert everything(session.socket) == b""


class TestSilence:
    @pytest.mark.parametrize(
        ("word", "answer"),
        [
            (b"", b""),
            (b"PUTT", b""),
            (b"PUTTER/1", b"PUTTER/1"),
            (b"half a frame" * 20, b"half a f\x07"),
        ],
        ids=["nothing", "stem", "greeting", "half"],
    )
    def test_a_client_that_says_no_more_is_told_and_closed(
        self, hasty: Putter, word: bytes, answer: bytes
    ) -> None:
        began = time.monotonic()
        heard = b""
        with hasty.connect() as client, hasty.connect() as busy:
            client.sendall(word)
            first = hasty.tickets(100)
            client.settimeout(0.2)
            number = 0
            while True:
                busy.sendall(hasty.frames(first + number))
                assert acks_in(read(busy, 9)) == [(first + number, 0)]
                number += 1
                assert time.monotonic() - began < TIMEOUT_S
                try:
                    part = client.recv(1_000)
                except TimeoutError:
                    continue
                if not part:
                    break
                heard += part
        assert heard[: len(answer)] == answer
        assert bool(heard) == bool(answer)
        assert time.monotonic() - began > 0.9 * IDLE_MS / 1000
        assert "closed a silent connection" in hasty.process.text()

    def test_a_session_may_be_silent(self, hasty: Putter) -> None:
        with Session(hasty) as session, hasty.connect() as witness:
            assert everything(witness) == b""  # closed: the time is over
            assert session.ask(Ping(1)) == Done(1, 0)


def test_two_thousand_idle_connections_disturb_nobody(putter: Putter) -> None:
    before = putter.process.memory_bytes()
    with ExitStack() as idle:
        for number in range(2_000):
            client = idle.enter_context(putter.connect())
            if number % 2:
                client.sendall(b"PUTT")
        first = putter.tickets(2_000)
        began = time.monotonic()
        data = random.Random(2).randbytes(2_000 * RAW_DATA_BYTES)
        answer = putter.send(putter.frames(first, data))
        assert acks_in(answer) == [(first + n, 0) for n in range(2_000)]
        assert time.monotonic() - began < TIMEOUT_S / 2
        with Session(putter) as session:
            assert session.ask(Ping(1)) == Done(1, 0)
        assert putter.process.memory_bytes() - before < 200 * 1024 * 1024
    eventually(lambda: _connections(putter) < 100)


def _connections(putter: Putter) -> int:
    return len(list(Path(f"/proc/{putter.process.pid}/fd").iterdir()))


def test_one_connection_too_many_is_turned_away(store: Cluster) -> None:
    small = started(store, "--connections-max", "5")
    with ExitStack() as others:
        clients = [others.enter_context(small.connect()) for _ in range(5)]
        for number, client in enumerate(clients):
            client.sendall(small.frames(number))
            assert acks_in(read(client, 9)) == [(number, 0)]
        with small.connect() as late:
            assert everything(late) == b""
        clients[0].sendall(small.frames(100))
        assert acks_in(read(clients[0], 9)) == [(100, 0)]
    eventually(lambda: small.send(small.frames(200)) != b"")
    assert "this port serves 5 connections at a time" in small.process.text()


def test_it_ends_in_order_with_clients_of_all_kinds(store: Cluster) -> None:
    putter = started(store)
    with putter.connect() as silent, putter.connect() as half, Session(putter) as session:
        first = putter.tickets(2)
        half.sendall(putter.frames(first) + putter.frames(first + 1)[:700])
        assert acks_in(read(half, 9)) == [(first, 0)]
        began = time.monotonic()
        assert putter.process.stop() == 0
        assert time.monotonic() - began < 5
        assert everything(silent) == everything(half) == everything(session.socket) == b""
    assert "putter stopped" in putter.process.text()
