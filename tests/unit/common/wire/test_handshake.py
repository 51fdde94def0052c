"""The mutual greeting: both sides prove that they hold the key, or nothing goes on."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from common.errors import NotAuthorised, ProtocolError, PutterError, ShuttingDown
from common.keys import ClusterKey, Keyring
from common.limits import FRAME_DATA_BYTES_DEFAULT
from common.wire.handshake import ClientHandshake, Identity, ServerHandshake
from common.wire.message import Message
from common.wire.session import Hello, Ping, Proof, Ready, Refused, Welcome

FIRST, SECOND, OTHER = (ClusterKey.from_material(bytes([n]) * 32) for n in (1, 2, 3))
RING = Keyring([FIRST, SECOND])
SERVER = Identity("putter-1", "start-9", "1.0", "tree")


def hello(ring: Keyring = RING, challenge: bytes = b"c" * 16, frame_bytes: int = 4096) -> Hello:
    return Hello("router", "router-1", "start-3", frame_bytes, tuple(ring.ids), challenge)


def client(ring: Keyring = RING, challenge: bytes = b"c" * 16) -> ClientHandshake:
    return ClientHandshake(ring, hello(ring, challenge))


def server(ring: Keyring = RING, challenge: bytes = b"s" * 16) -> ServerHandshake:
    return ServerHandshake(ring, SERVER, challenge)


def welcome_of(one: ClientHandshake, other: ServerHandshake) -> Welcome:
    answer = other.receive(one.hello)
    assert isinstance(answer, Welcome)
    return answer


def proof_of(one: ClientHandshake, welcome: Welcome) -> Proof:
    answer = one.receive(welcome)
    assert isinstance(answer, Proof)
    return answer


def _renamed(key: ClusterKey, key_id: str) -> ClusterKey:
    """A key that goes by the id of another."""
    return replace(key, key_id=key_id)


def test_both_sides_prove_themselves() -> None:
    one, other = client(), server()
    proof = proof_of(one, welcome_of(one, other))
    assert (one.complete, other.complete) == (False, False)
    ready = other.receive(proof)
    assert ready == Ready()
    assert other.complete
    assert not one.complete, "only once the server said so"
    assert one.receive(ready) is None
    assert one.complete
    assert one.peer == other.peer
    assert one.peer is not None
    assert one.peer.key is FIRST
    assert one.peer.frame_bytes == 4096
    assert one.peer.hello == one.hello
    told = one.peer.welcome
    assert (told.node, told.instance, told.version, told.storage) == (
        "putter-1",
        "start-9",
        "1.0",
        "tree",
    )


@pytest.mark.parametrize(
    ("asked", "agreed"), [(0, FRAME_DATA_BYTES_DEFAULT), (1, 1458), (2**40, 2**20)]
)
def test_the_server_bounds_the_frame_size(asked: int, agreed: int) -> None:
    other = server()
    answer = other.receive(hello(frame_bytes=asked))
    assert isinstance(answer, Welcome)
    assert answer.frame_bytes == agreed


class TestKeys:
    @pytest.mark.parametrize(
        ("ours", "theirs", "used"),
        [
            ([FIRST, SECOND], [SECOND], SECOND),
            ([SECOND], [FIRST, SECOND], SECOND),
            ([OTHER, SECOND], [FIRST, SECOND], SECOND),
            ([SECOND, FIRST], [FIRST, SECOND], SECOND),
        ],
        ids=["server has one", "client has one", "both have another first", "client's order"],
    )
    def test_any_common_key_of_the_rings_will_do(
        self, ours: list[ClusterKey], theirs: list[ClusterKey], used: ClusterKey
    ) -> None:
        one, other = client(Keyring(ours)), server(Keyring(theirs))
        one.receive(other.receive(proof_of(one, welcome_of(one, other))))
        assert one.peer is not None
        assert one.peer.key.key_id == used.key_id
        assert other.peer is not None
        assert other.peer.key is used

    def test_no_common_key(self) -> None:
        with pytest.raises(NotAuthorised, match="no cluster key in common") as caught:
            server(Keyring([OTHER])).receive(hello())
        assert "--key-file" in caught.value.hint

    def test_a_client_without_any_key_id(self) -> None:
        bare = msgspec.structs.replace(hello(), key_ids=())
        with pytest.raises(NotAuthorised):
            server().receive(bare)

    def test_a_server_that_only_claims_the_key(self) -> None:
        one = client()
        impostor = server(Keyring([_renamed(OTHER, FIRST.key_id)]))
        with pytest.raises(NotAuthorised, match="'putter-1' does not hold our cluster key"):
            one.receive(welcome_of(one, impostor))
        assert one.peer is None

    def test_a_client_that_only_claims_the_key(self) -> None:
        """It gets no proof past the server, even if it does not look at the server's."""
        other = server()
        impostor = client(Keyring([_renamed(OTHER, FIRST.key_id)]))
        welcome = welcome_of(impostor, other)
        forger = server(Keyring([_renamed(OTHER, FIRST.key_id)]))
        forged = proof_of(impostor, welcome_of(impostor, forger))
        assert welcome.proof != forged.proof
        with pytest.raises(NotAuthorised, match="wrong proof"):
            other.receive(forged)
        assert other.peer is None
        assert not other.complete

    def test_a_server_that_names_a_key_we_do_not_hold(self) -> None:
        one = client(Keyring([FIRST]))
        welcome = welcome_of(client(), server())
        with pytest.raises(NotAuthorised, match="is not in this key file"):
            one.receive(msgspec.structs.replace(welcome, key_id=OTHER.key_id))


class TestForgeries:
    def test_the_servers_own_proof_is_not_the_clients(self) -> None:
        other = server()
        welcome = welcome_of(client(), other)
        with pytest.raises(NotAuthorised):
            other.receive(Proof(welcome.proof))

    def test_a_reflected_challenge_does_not_help(self) -> None:
        """A keyless client asks the server itself for a proof, in a second session."""
        first = server(challenge=b"1" * 16)
        first.receive(hello())
        second = server(challenge=b"2" * 16)
        reflected = second.receive(hello(challenge=b"1" * 16))
        assert isinstance(reflected, Welcome)
        with pytest.raises(NotAuthorised):
            first.receive(Proof(reflected.proof))

    def test_a_proof_of_an_earlier_session(self) -> None:
        """Same client, same hello, same server: only the server's challenge is new."""
        one = client()
        old = proof_of(one, welcome_of(one, server(challenge=b"1" * 16)))
        other = server(challenge=b"2" * 16)
        other.receive(hello())
        with pytest.raises(NotAuthorised):
            other.receive(old)

    def test_a_welcome_of_an_earlier_session(self) -> None:
        """Same server: only the client's challenge is new."""
        earlier = client(challenge=b"1" * 16)
        old = welcome_of(earlier, server())
        with pytest.raises(NotAuthorised):
            client(challenge=b"2" * 16).receive(old)

    @pytest.mark.parametrize(
        "change",
        [
            {"role": "acks"},
            {"node": "router-2"},
            {"instance": "start-4"},
            {"frame_bytes": 8192},
            {"key_ids": tuple(Keyring([FIRST]).ids)},
            {"challenge": b"d" * 16},
            {"ack_host": "evil"},
            {"ack_port": 666},
            {"version": "0.1"},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_a_hello_altered_on_its_way(self, change: dict[str, object]) -> None:
        one, other = client(), server()
        welcome = other.receive(msgspec.structs.replace(one.hello, **change))
        with pytest.raises(NotAuthorised):
            one.receive(welcome)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "change",
        [
            {"node": "putter-2"},
            {"instance": "start-1"},
            {"frame_bytes": 1458},
            {"key_id": SECOND.key_id},
            {"challenge": b"t" * 16},
            {"proof": b""},
            {"proof": bytes(32)},
            {"version": "0.1"},
            {"storage": "memory"},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_a_welcome_altered_on_its_way(self, change: dict[str, object]) -> None:
        one = client()
        welcome = welcome_of(one, server())
        with pytest.raises(NotAuthorised):
            one.receive(msgspec.structs.replace(welcome, **change))

    @pytest.mark.parametrize("flip", [0, 31])
    def test_a_proof_altered_on_its_way(self, flip: int) -> None:
        one, other = client(), server()
        proof = bytearray(proof_of(one, welcome_of(one, other)).proof)
        proof[flip] ^= 1
        for forged in (bytes(proof), bytes(proof[:16]), b""):
            with pytest.raises(NotAuthorised):
                other.receive(Proof(forged))
        assert not other.complete


class TestOrder:
    @pytest.mark.parametrize("message", [Proof(b"p" * 32), Ready(), Ping(1)], ids=str)
    def test_the_client_begins_with_hello(self, message: Message) -> None:
        with pytest.raises(ProtocolError, match="does not belong into a greeting"):
            server().receive(message)  # type: ignore[arg-type]

    def test_a_second_hello(self) -> None:
        other = server()
        other.receive(hello())
        with pytest.raises(ProtocolError):
            other.receive(hello())

    def test_a_server_that_says_ready_without_a_proof(self) -> None:
        one = client()
        with pytest.raises(ProtocolError):
            one.receive(Ready())
        assert not one.complete

    def test_a_second_welcome(self) -> None:
        one, other = client(), server()
        welcome = welcome_of(one, other)
        one.receive(welcome)
        with pytest.raises(ProtocolError):
            one.receive(welcome)

    @pytest.mark.parametrize("challenge", [b"", b"c" * 15, b"c" * 17])
    def test_a_challenge_of_another_length(self, challenge: bytes) -> None:
        with pytest.raises(ProtocolError, match="16 bytes"):
            server().receive(hello(challenge=challenge))


@pytest.mark.parametrize(
    ("status", "error"), [(5, NotAuthorised), (6, ShuttingDown), (7, ProtocolError)]
)
def test_a_refusal_is_the_error_that_it_names(status: int, error: type[PutterError]) -> None:
    with pytest.raises(error, match="because of this") as caught:
        client().receive(Refused(status, "because of this", "do that"))
    assert caught.value.hint == "do that"


@pytest.mark.parametrize("status", [0, 8, 2**63])
def test_a_refusal_with_a_status_of_a_later_release(status: int) -> None:
    with pytest.raises(ProtocolError, match="because of this"):
        client().receive(Refused(status, "because of this"))


def test_a_client_may_be_refused_by_what_it_says_of_itself() -> None:
    def admit(who: Hello) -> None:
        if who.role != "acks":
            raise ProtocolError(f"no door for a {who.role}")

    other = ServerHandshake(RING, SERVER, b"s" * 16, admit)
    with pytest.raises(ProtocolError, match="no door for a router"):
        other.receive(hello())
    assert not other.complete
    with pytest.raises(ProtocolError):
        other.receive(Proof(bytes(32)))
    other = ServerHandshake(RING, SERVER, b"s" * 16, admit)
    with pytest.raises(NotAuthorised):
        other.receive(hello(Keyring([OTHER])))
    assert isinstance(other.receive(msgspec.structs.replace(hello(), role="acks")), Welcome)
