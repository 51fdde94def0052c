"""Both sides of a session's beginning as byte machines around `common.wire.handshake`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from common.errors import ProtocolError, PutterError
from common.keys import Keyring
from common.limits import HELLO_BYTES_MAX
from common.wire.handshake import ClientHandshake, Identity, Peer, ServerHandshake
from common.wire.reader import MessageReader
from common.wire.session import (
    GREETING,
    AnyMessage,
    Hello,
    Refused,
    check_greeting,
    encode,
)


class _Greeting:
    """Eight greeting bytes, then short messages without payload."""

    def __init__(self) -> None:
        self._first = b""
        self._reader = MessageReader(header_bytes_max=HELLO_BYTES_MAX, payload_bytes_max=0)

    def _messages(self, data: bytes) -> Iterable[AnyMessage]:
        if len(self._first) < len(GREETING):
            missing = len(GREETING) - len(self._first)
            self._first += data[:missing]
            data = data[missing:]
            if len(self._first) < len(GREETING):
                if not GREETING.startswith(self._first[:7]):
                    check_greeting(self._first)
                return []
            check_greeting(self._first)
        return (message for message, _ in self._reader.feed(data))

    def _no_more(self) -> None:
        if not self._reader.idle:
            raise ProtocolError("bytes came before the greeting was over")


def refusal_of(error: PutterError) -> bytes:
    """What a server says to a client that it does not even listen to."""
    return GREETING + encode(Refused(error.status, error.message, error.hint))


class ServerGreeting(_Greeting):
    """The server's side: bytes in, bytes out, and `peer` once the client has proved itself.

    The arguments are those of `common.wire.handshake.ServerHandshake`.
    """

    def __init__(
        self,
        keyring: Keyring,
        identity: Identity,
        challenge: bytes,
        admit: Callable[[Hello], None] = lambda _: None,
    ) -> None:
        super().__init__()
        self._handshake = ServerHandshake(keyring, identity, challenge, admit)
        self._greeted = False
        self._unsent = b""

    def bind(self, channel: bytes) -> None:
        """Under TLS: the digest of the certificate that was shown to the client."""
        self._handshake.channel = channel

    @property
    def peer(self) -> Peer | None:
        """Who the client is, once it has proved itself."""
        return self._handshake.peer

    def receive(self, data: bytes) -> bytes:
        """Take the next bytes, give what to send.

        Raises:
            PutterError: refuse the client: send `refusal` of the error and close.
        """
        out = b""
        try:
            for message in self._messages(data):
                if self.peer is not None:
                    raise ProtocolError("bytes came before the greeting was over")
                answer = self._handshake.receive(message)
                if not self._greeted:
                    out += GREETING
                    self._greeted = True
                out += encode(answer)
            if self.peer is not None:
                self._no_more()
        except PutterError:
            self._unsent = out
            raise
        return out

    def refusal(self, error: PutterError) -> bytes:
        """The bytes that tell the client why it is not welcome."""
        greeting = b"" if self._greeted else GREETING
        self._greeted = True
        return self._unsent + greeting + encode(Refused(error.status, error.message, error.hint))


class ClientGreeting(_Greeting):
    """The client's side: send `opening`, then feed what comes back."""

    def __init__(self, keyring: Keyring, hello: Hello) -> None:
        super().__init__()
        self._handshake = ClientHandshake(keyring, hello)

    def bind(self, channel: bytes) -> None:
        """Under TLS: the digest of the certificate that the server showed."""
        self._handshake.channel = channel

    @property
    def opening(self) -> bytes:
        """The first bytes to send."""
        return GREETING + encode(self._handshake.hello)

    @property
    def peer(self) -> Peer | None:
        """What was agreed on, once the server said `Ready`."""
        return self._handshake.peer if self._handshake.complete else None

    def receive(self, data: bytes) -> bytes:
        """Take the next bytes, give what to send.

        Raises:
            PutterError: the server refused us, is not who it should be, or speaks nonsense.
        """
        out = b""
        for message in self._messages(data):
            if self.peer is not None:
                raise ProtocolError("bytes came before the greeting was over")
            answer = self._handshake.receive(message)
            if answer is not None:
                out += encode(answer)
        if self.peer is not None:
            self._no_more()
        return out
