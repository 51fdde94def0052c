"""What the processes `router` and `server` have in common: identity, limits, signals."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.metadata
import os
import resource
import secrets
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final

from common.certificates import Certificates, certificates_of
from common.errors import PutterError
from common.keys import Keyring, load_keyring, readable_by_others
from common.limits import CONNECTIONS_MAX
from common.logs import get_logger
from common.settings import Settings

_log = get_logger(__name__)
_CANCEL_S: Final = 1.0
_GARBAGE_THRESHOLD: Final = 20_000
_FILES_WANTED: Final = 2 * CONNECTIONS_MAX + 256


def version() -> str:
    """Of the installed software."""
    try:
        return importlib.metadata.version("data-putter")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def new_instance() -> str:
    """A name for this start of the process: 12 hex digits."""
    return secrets.token_hex(6)


def raise_file_limit() -> None:
    """Allow as many open files as the limits of connections need, where the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES_WANTED if hard == resource.RLIM_INFINITY else min(_FILES_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < _FILES_WANTED:
        _log.warning("few open files are allowed", limit=wanted, wanted=_FILES_WANTED)


def open_keyring(settings: Settings) -> Keyring:
    """The cluster key, made now if there is none and the default place is used.

    Raises:
        SettingInvalid: no key at the place that was named, or an unreadable one.
    """
    path = settings.key_path
    fresh = not path.exists()
    keyring = load_keyring(path, create=settings.key_file is None)
    if fresh:
        _log.info("made a cluster key: other nodes need a copy of this file", file=str(path))
    elif settings.key_file is None and readable_by_others(path):
        _log.warning("the key file can be read by others: chmod 600", file=str(path))
    return keyring


def open_certificates(settings: Settings, signals: Signals) -> Certificates | None:
    """What connections are encrypted with, if anything; read again when SIGHUP comes.

    Raises:
        SettingInvalid: the files cannot be used.
    """
    certificates = certificates_of(settings)
    if certificates is None:
        return None

    def again() -> None:
        try:
            certificates.reload()
        except PutterError as error:
            _log.error("the TLS certificate was not replaced", reason=str(error), hint=error.hint)
        else:
            _log.info("read the TLS certificate again", file=str(settings.tls_cert))

    signals.on_hangup.append(again)
    return certificates


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a process on uvloop where there is one, else on asyncio's own loop.

    The garbage collector looks less often: the data path leaves no cycles behind.
    """
    try:
        gc.set_threshold(_GARBAGE_THRESHOLD, 20, 50)
        if sys.platform == "win32":
            asyncio.run(main)
            return
        import uvloop

        uvloop.run(main)
    finally:
        main.close()  # Ctrl-C may come before it has begun


class Signals:
    """Turns SIGINT and SIGTERM into an awaitable; a second one ends the process at once.

    SIGHUP makes the process read its files again. If it comes because the terminal of the process
    is gone, it is a signal to stop.

    Attributes:
        listening: set by whoever has started up and waits for the signal itself.
        on_hangup: called when SIGHUP comes.
    """

    def __init__(self) -> None:
        self.listening = False
        self.on_hangup: list[Callable[[], None]] = []
        self._had_terminal = _has_terminal()
        self._asked = asyncio.Event()
        loop = asyncio.get_running_loop()
        for name in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(name, self._stop, name)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # `nohup` ignores it
            loop.add_signal_handler(signal.SIGHUP, self._hang_up)

    async def wait(self) -> None:
        """Return when the process should stop."""
        await self._asked.wait()

    def ask(self) -> None:
        """Stop for another reason."""
        self._asked.set()

    def _hang_up(self) -> None:
        if self._had_terminal and not _has_terminal():
            self._stop(signal.SIGHUP)
            return
        _log.info("reading files again", signal="SIGHUP")
        for call in self.on_hangup:
            call()

    def _stop(self, name: signal.Signals) -> None:
        if self._asked.is_set():
            signal.signal(name, signal.SIG_DFL)
            signal.raise_signal(name)
        _log.info("stopping", signal=name.name)
        self._asked.set()


def _has_terminal() -> bool:
    """Whether this process has a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


async def attend(main: Callable[[Signals], Coroutine[Any, Any, None]]) -> None:
    """Run what a process is there for until it ends, or is told to stop before it had started."""
    signals = Signals()
    running = asyncio.ensure_future(main(signals))
    asked = asyncio.ensure_future(signals.wait())
    await asyncio.wait((running, asked), return_when=asyncio.FIRST_COMPLETED)
    if not running.done() and not signals.listening:
        # Told to stop while it was still starting. A library may lose a cancellation that meets
        # a time-out of its own: it is repeated.
        while not running.done():
            running.cancel()
            await asyncio.wait((running,), timeout=_CANCEL_S)
    asked.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
