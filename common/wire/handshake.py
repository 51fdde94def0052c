"""The mutual greeting of a session: both sides show that they hold a common cluster key.

```
client                                   server
  ── PUTTER/1, Hello(challenge c) ──────▶
  ◀───── PUTTER/1, Welcome(challenge s, proof of the server over Hello and Welcome)
  ── Proof(of the client over both) ─────▶
  ◀──────────────────────────────── Ready
```

A proof is keyed BLAKE3, with the handshake subkey, over the role of its maker and both messages
(the Welcome without its proof), so neither can be replayed, reflected or altered. Under TLS the
digest of the server's certificate goes in as well, so that nobody can stand between the two and
pass the greeting on. Wrong, missing or unknown keys end in `Refused` with status 5.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from common.checksum import keyed_digest
from common.errors import NotAuthorised, ProtocolError, error_for_status
from common.keys import ClusterKey, Keyring
from common.limits import FRAME_DATA_BYTES_MAX, FRAME_DATA_BYTES_MIN
from common.wire.message import Message
from common.wire.session import (
    AnyMessage,
    Hello,
    Proof,
    Ready,
    Refused,
    Welcome,
    frame_bytes_agreed,
    transcript,
)

CHALLENGE_BYTES: Final = 16
_KEY_HINT: Final = "both sides need the same cluster key file (--key-file)"


@dataclass(frozen=True)
class Identity:
    """Who this process is.

    Attributes:
        node: identity; a putter's survives restarts.
        instance: new at each start.
        version: of the software.
        storage: engine of a putter.
    """

    node: str
    instance: str
    version: str = ""
    storage: str = ""


@dataclass(frozen=True)
class Peer:
    """What the greeting established.

    Attributes:
        hello: the client's first message.
        welcome: the server's answer.
        key: the key that both hold and use on this session.
        frame_bytes: data bytes of every frame but the last of a run.
    """

    hello: Hello
    welcome: Welcome
    key: ClusterKey

    @property
    def frame_bytes(self) -> int:
        """Data bytes of every frame but the last of a run."""
        return self.welcome.frame_bytes


class ClientHandshake:
    """The client's side. Send `hello`; then feed each message to `receive`.

    Attributes:
        channel: digest of the certificate that the server showed; empty without TLS.
    """

    def __init__(self, keyring: Keyring, hello: Hello) -> None:
        self.hello: Final = hello
        self.channel = b""
        self.peer: Peer | None = None
        self._keyring = keyring
        self._ready = False

    @property
    def complete(self) -> bool:
        """Whether the server said `Ready`."""
        return self._ready

    def receive(self, message: AnyMessage) -> Message | None:
        """Take the server's next message.

        Returns:
            What to send back, if anything.

        Raises:
            NotAuthorised: the server does not hold our key.
            PutterError: it refused us, for the reason it gives.
            ProtocolError: a message that does not belong here.
        """
        if isinstance(message, Refused):
            error = error_for_status(message.status, message.reason)
            error.hint = message.hint
            raise error
        if isinstance(message, Welcome) and self.peer is None:
            key = self._keyring.named(message.key_id)
            expected = _proof(key, b"server", self.hello, message, self.channel)
            if not hmac.compare_digest(expected, message.proof):
                raise NotAuthorised(
                    f"putter {message.node[:32]!r} does not hold our cluster key", hint=_KEY_HINT
                )
            self.peer = Peer(self.hello, message, key)
            return Proof(_proof(key, b"client", self.hello, message, self.channel))
        if isinstance(message, Ready) and self.peer is not None:
            self._ready = True
            return None
        raise ProtocolError(f"{type(message).__name__} does not belong into a greeting")


class ServerHandshake:
    """The server's side. Feed each message to `receive`, send what it returns.

    Args:
        keyring: the cluster keys.
        identity: of this side.
        challenge: random bytes, new for each connection.
        admit: looks at the client's `Hello`, and raises what it is refused with.

    Attributes:
        channel: digest of the certificate that was shown to the client; empty without TLS.
    """

    def __init__(
        self,
        keyring: Keyring,
        identity: Identity,
        challenge: bytes,
        admit: Callable[[Hello], None] = lambda _: None,
    ) -> None:
        self.peer: Peer | None = None
        self.channel = b""
        self._admit = admit
        self._keyring = keyring
        self._identity = identity
        self._challenge = challenge
        self._offer: Peer | None = None

    @property
    def complete(self) -> bool:
        """Whether the client has proved itself."""
        return self.peer is not None

    def receive(self, message: AnyMessage) -> Message:
        """Take the client's next message.

        Returns:
            What to send back.

        Raises:
            NotAuthorised: no common key, or a wrong proof.
            ProtocolError: a message that does not belong here.
            PutterError: the client is not admitted.
        """
        if isinstance(message, Hello) and self._offer is None:
            return self._welcome(message)
        if isinstance(message, Proof) and self._offer is not None:
            offer = self._offer
            expected = _proof(offer.key, b"client", offer.hello, offer.welcome, self.channel)
            if not hmac.compare_digest(expected, message.proof):
                raise NotAuthorised("wrong proof: the cluster keys differ", hint=_KEY_HINT)
            self.peer = offer
            return Ready()
        raise ProtocolError(f"{type(message).__name__} does not belong into a greeting")

    def _welcome(self, hello: Hello) -> Welcome:
        if len(hello.challenge) != CHALLENGE_BYTES:
            raise ProtocolError(f"a challenge has {CHALLENGE_BYTES} bytes")
        key = self._keyring.shared(hello.key_ids)
        if key is None:
            raise NotAuthorised("no cluster key in common", hint=_KEY_HINT)
        self._admit(hello)
        welcome = Welcome(
            node=self._identity.node,
            instance=self._identity.instance,
            frame_bytes=frame_bytes_agreed(
                hello.frame_bytes, FRAME_DATA_BYTES_MIN, FRAME_DATA_BYTES_MAX
            ),
            key_id=key.key_id,
            challenge=self._challenge,
            proof=b"",
            version=self._identity.version,
            storage=self._identity.storage,
        )
        proof = _proof(key, b"server", hello, welcome, self.channel)
        signed = msgspec.structs.replace(welcome, proof=proof)
        self._offer = Peer(hello, signed, key)
        return signed


def _proof(key: ClusterKey, maker: bytes, hello: Hello, welcome: Welcome, channel: bytes) -> bytes:
    unsigned = msgspec.structs.replace(welcome, proof=b"")
    greeting = transcript(hello)
    return keyed_digest(
        key.handshake,
        maker,
        len(greeting).to_bytes(4, "big"),
        greeting,
        transcript(unsigned),
        channel,
    )
