r"""How the worker processes of one router ask each other, so that any of them answers for all.

They share their ports, and a client cannot choose among them. So each listens on a unix socket of
its own too, ``<number>.sock`` in a directory that nobody else can enter, and answers questions
there. A question is one line. The answer is its length as 4 bytes, big-endian, and so many bytes:

```
ready\n  ──►
         ◄──  00 00 00 00                nothing is wrong
```

A worker that died has a socket on which nobody listens: it takes no connection of clients either.
One that takes the question and gives no answer in time is another matter.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

from common.errors import Unavailable
from common.limits import SIBLING_ANSWER_BYTES_MAX, SIBLING_ANSWER_MS, SIBLING_QUESTION_BYTES_MAX
from common.logs import get_logger

_log = get_logger(__name__)
_LENGTH_BYTES: Final = 4

Answers = Mapping[str, Callable[[], Awaitable[bytes]]]
"""By question; each makes the answer anew."""


def socket_path(directory: Path, number: int) -> Path:
    """The socket of a worker."""
    return directory / f"{number}.sock"


class Siblings(Protocol):
    """The workers of one router, as one of them sees them."""

    @property
    def number(self) -> int:
        """Of this one, from 0."""
        ...

    @property
    def count(self) -> int:
        """How many there are, this one included."""
        ...

    async def start(self, answers: Answers) -> None:
        """Answer the others.

        Raises:
            Unavailable: the socket cannot be made.
        """
        ...

    async def stop(self) -> None:
        """Answer no more."""
        ...

    async def ask(self, question: str) -> dict[int, bytes | None]:
        """What the others that live answer, by number; None: no answer in time."""
        ...


async def ask_socket(path: Path, question: str, timeout_ms: int = SIBLING_ANSWER_MS) -> bytes:
    """The answer of the worker behind a socket.

    Raises:
        Unavailable: nobody listens, or it ended before its answer.
        TimeoutError: it gave none in time.
    """
    try:
        async with asyncio.timeout(timeout_ms / 1000):
            return await _exchange(path, question)
    except TimeoutError:
        raise
    except (OSError, EOFError) as error:
        raise Unavailable(f"{path.name} does not answer: {error}") from error


async def _exchange(path: Path, question: str) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        writer.write(question.encode() + b"\n")
        length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
        if length > SIBLING_ANSWER_BYTES_MAX:
            raise EOFError(f"an answer of {length} bytes")
        return await reader.readexactly(length)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


class UnixSiblings:
    """Workers of one machine.

    Args:
        directory: of their sockets; only their user may enter it.
        number: of this one.
        count: of all.
    """

    def __init__(self, directory: Path, number: int, count: int) -> None:
        self.number: Final = number
        self.count: Final = count
        self._directory = directory
        self._answers: Answers = {}
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, answers: Answers) -> None:
        """See `Siblings.start`."""
        self._answers = answers
        path = socket_path(self._directory, self.number)
        try:
            path.unlink(missing_ok=True)  # of the process that had this number before
            self._server = await asyncio.start_unix_server(
                self._serve, str(path), limit=SIBLING_QUESTION_BYTES_MAX
            )
        except OSError as error:
            raise Unavailable(f"cannot listen on {path}: {error}") from error

    async def stop(self) -> None:
        """See `Siblings.stop`."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def ask(self, question: str) -> dict[int, bytes | None]:
        """See `Siblings.ask`."""
        others = [number for number in range(self.count) if number != self.number]
        answers = await asyncio.gather(*(self._ask(number, question) for number in others))
        return {
            number: answer for number, (lives, answer) in zip(others, answers, strict=True) if lives
        }

    async def _ask(self, number: int, question: str) -> tuple[bool, bytes | None]:
        """Whether a worker lives, and its answer."""
        try:
            return True, await ask_socket(socket_path(self._directory, number), question)
        except TimeoutError:
            _log.warning("a worker gives no answer", asked=number, question=question)
            return True, None
        except Unavailable:
            return False, None  # its parent starts it again, and says so

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            async with asyncio.timeout(SIBLING_ANSWER_MS / 1000):
                await self._answer(reader, writer)
        except (OSError, ValueError) as error:  # a time-out, too
            _log.debug("a question was not answered", reason=str(error))
        except Exception:  # noqa: BLE001 - who asked sees the end, the log has the trace
            _log.exception("a question could not be answered")
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        question = (await reader.readline()).decode(errors="replace").rstrip("\n")
        make = self._answers.get(question)
        if make is None:
            _log.warning("a question that no worker answers", question=question)
            return
        answer = await make()
        writer.write(len(answer).to_bytes(_LENGTH_BYTES, "big") + answer)
        await writer.drain()
