"""The greeting as bytes: any split, any garbage, and never a word too early."""

from __future__ import annotations

import pytest

from common.errors import NotAuthorised, ProtocolError, PutterError, TooLarge, VersionUnknown
from common.keys import ClusterKey, Keyring
from common.limits import HELLO_BYTES_MAX
from common.wire.greeting import ClientGreeting, ServerGreeting
from common.wire.handshake import Identity
from common.wire.reader import MessageReader
from common.wire.session import (
    GREETING,
    Done,
    Hello,
    Ping,
    Proof,
    Ready,
    Refused,
    Welcome,
    encode,
)

RING = Keyring([ClusterKey.from_material(bytes([1]) * 32)])
OTHER_RING = Keyring([ClusterKey.from_material(bytes([2]) * 32)])


def client(ring: Keyring = RING) -> ClientGreeting:
    hello = Hello("router", "r", "i", 4096, tuple(ring.ids), b"c" * 16)
    return ClientGreeting(ring, hello)


def server(ring: Keyring = RING) -> ServerGreeting:
    return ServerGreeting(ring, Identity("putter-1", "i"), b"s" * 16)


def decoded(wire: bytes) -> list[object]:
    """A side's bytes: the greeting, then messages."""
    assert wire[:8] == GREETING
    return [message for message, _ in MessageReader().feed(wire[8:])]


@pytest.mark.parametrize("piece", [1, 2, 7, 8, 9, 100_000])
def test_both_sides_agree_however_the_bytes_are_cut(piece: int) -> None:
    one, other = client(), server()
    to_server, to_client = one.opening, b""
    turns = 0
    while one.peer is None or other.peer is None:
        turns += 1
        assert turns < 1000
        head, to_server = to_server[:piece], to_server[piece:]
        to_client += other.receive(head)
        head, to_client = to_client[:piece], to_client[piece:]
        to_server += one.receive(head)
    assert one.peer == other.peer
    assert to_server == to_client == b""


def test_each_side_sends_the_greeting_once() -> None:
    one, other = client(), server()
    assert one.opening[:8] == GREETING
    first = other.receive(one.opening)
    assert [type(message) for message in decoded(first)] == [Welcome]
    second = one.receive(first)
    assert not second.startswith(GREETING)
    last = other.receive(second)
    assert last == encode(Ready())
    assert one.receive(last) == b""
    assert one.peer is not None


def test_nobody_is_a_peer_before_the_proof() -> None:
    one, other = client(), server()
    proof = one.receive(other.receive(one.opening))
    assert (one.peer, other.peer) == (None, None)
    other.receive(proof)
    assert other.peer is not None
    assert one.peer is None


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "byte by byte"])
class TestNonsense:
    def told(self, side: ServerGreeting | ClientGreeting, wire: bytes, whole: bool) -> None:
        pieces = [wire] if whole else [wire[at : at + 1] for at in range(len(wire))]
        for piece in pieces:
            assert side.receive(piece) == b""

    @pytest.mark.parametrize("make", [server, client])
    def test_another_version(self, make: type[ServerGreeting], whole: bool) -> None:
        with pytest.raises(VersionUnknown, match="b'2'") as caught:
            self.told(make(), b"PUTTER/2", whole)
        assert "PUTTER/1" in caught.value.hint

    @pytest.mark.parametrize("make", [server, client])
    @pytest.mark.parametrize(
        "wire", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 64, b"PUTTERS!", b"P\xff"]
    )
    def test_no_session_at_all(self, make: type[ServerGreeting], wire: bytes, whole: bool) -> None:
        with pytest.raises(ProtocolError) as caught:
            self.told(make(), wire, whole)
        assert not isinstance(caught.value, VersionUnknown)

    @pytest.mark.parametrize("make", [server, client])
    def test_a_message_longer_than_greetings_are(
        self, make: type[ServerGreeting], whole: bool
    ) -> None:
        long = encode(Hello("r" * HELLO_BYTES_MAX, "n", "i", 0, (), b""))
        with pytest.raises(TooLarge):
            self.told(make(), GREETING + long, whole)

    @pytest.mark.parametrize("make", [server, client])
    def test_a_message_with_a_payload(self, make: type[ServerGreeting], whole: bool) -> None:
        with pytest.raises(TooLarge):
            self.told(make(), GREETING + encode(Ping(1), 1) + b"x", whole)

    def test_a_question_instead_of_a_hello(self, whole: bool) -> None:
        with pytest.raises(ProtocolError, match="Ping does not belong"):
            self.told(server(), GREETING + encode(Ping(1)), whole)


class TestTooEarly:
    """Before the server said ready, nothing but the greeting may be under way."""

    def test_a_request_right_behind_the_proof(self) -> None:
        one, other = client(), server()
        proof = one.receive(other.receive(one.opening))
        with pytest.raises(ProtocolError, match="before the greeting was over"):
            other.receive(proof + encode(Ping(1)))

    @pytest.mark.parametrize("size", [1, 8, 9])
    def test_a_part_of_a_request_right_behind_the_proof(self, size: int) -> None:
        one, other = client(), server()
        proof = one.receive(other.receive(one.opening))
        with pytest.raises(ProtocolError, match="before the greeting was over"):
            other.receive(proof + encode(Ping(1))[:size])

    def test_an_answer_right_behind_ready(self) -> None:
        one, other = client(), server()
        ready = other.receive(one.receive(other.receive(one.opening)))
        with pytest.raises(ProtocolError, match="before the greeting was over"):
            one.receive(ready + encode(Done(1, 0)))

    @pytest.mark.parametrize("size", [1, 8, 9])
    def test_a_part_of_an_answer_right_behind_ready(self, size: int) -> None:
        """It would be swallowed, and the rest of it be taken for the beginning of a message."""
        one, other = client(), server()
        ready = other.receive(one.receive(other.receive(one.opening)))
        with pytest.raises(ProtocolError, match="before the greeting was over"):
            one.receive(ready + encode(Done(1, 0))[:size])

    def test_anything_once_the_greeting_is_over(self) -> None:
        one, other = client(), server()
        one.receive(other.receive(one.receive(other.receive(one.opening))))
        with pytest.raises(ProtocolError):
            other.receive(encode(Ping(1)))
        with pytest.raises(ProtocolError):
            one.receive(encode(Done(1, 0)))


class TestRefusal:
    def test_before_the_greeting_it_brings_its_own(self) -> None:
        other = server()
        with pytest.raises(PutterError) as caught:
            other.receive(b"PUTTER/9")
        wire = other.refusal(caught.value)
        (refused,) = decoded(wire)
        assert refused == Refused(7, caught.value.message, caught.value.hint)

    def test_after_the_greeting_it_is_only_a_message(self) -> None:
        one, other = client(), server()
        sent = other.receive(one.opening)
        with pytest.raises(NotAuthorised) as caught:
            other.receive(encode(Proof(bytes(32))))
        wire = sent + other.refusal(caught.value)
        assert [type(message) for message in decoded(wire)] == [Welcome, Refused]

    def test_what_was_answered_to_the_same_bytes_goes_first(self) -> None:
        """However the client's bytes were cut, it reads the same."""
        one, other, third = client(), server(), server()
        wire = one.opening + encode(Ping(1))
        with pytest.raises(ProtocolError) as caught:
            other.receive(wire)
        sent = third.receive(one.opening)
        with pytest.raises(ProtocolError):
            third.receive(encode(Ping(1)))
        refusal = other.refusal(caught.value)
        assert refusal == sent + third.refusal(caught.value)
        assert [type(message) for message in decoded(refusal)] == [Welcome, Refused]

    def test_the_client_hears_why(self) -> None:
        one, other = client(OTHER_RING), server()
        with pytest.raises(NotAuthorised) as refused:
            other.receive(one.opening)
        with pytest.raises(NotAuthorised, match="no cluster key in common") as heard:
            one.receive(other.refusal(refused.value))
        assert heard.value.hint == refused.value.hint != ""
        assert one.peer is None
