"""One worker of a router, as `putter.cli.workers` starts it.

    python -m putter.cli.worker <directory of the sockets> <number>

All settings are in the environment. It is no command of the command line: its ports are held, and
its like are watched, by the process that starts it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import structlog

from common import logs
from common.errors import PutterError
from common.logs import get_logger
from common.settings import Settings
from common.settings_load import load
from common.siblings import UnixSiblings
from putter.cli.imports import importing
from putter.cli.process import Signals, attend, open_certificates, open_keyring, run
from putter.cli.rereading import KeyReader
from putter.cli.shell import report

_log = get_logger(__name__)


async def work(settings: Settings, siblings: UnixSiblings, signals: Signals) -> None:
    """Run a worker until a signal comes.

    Raises:
        PutterError: it cannot start.
    """
    with importing():
        from putter.cli.routing import make_metadata, make_router
    keyring = open_keyring(settings)
    certificates = open_certificates(settings, signals)
    keys = KeyReader(settings.key_path, keyring)
    signals.on_hangup.append(keys.read)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(keys.stop)
        metadata = make_metadata(settings)
        stack.push_async_callback(metadata.close)
        await metadata.wait_ready(_log.warning)
        router = make_router(settings, keyring, metadata, siblings, certificates)
        await router.start()
        stack.push_async_callback(router.stop)
        signals.listening = True
        await signals.wait()


def main(directory: str, number: str) -> int:
    """Run a worker; its exit code."""
    settings = load({}, os.environ)
    logs.configure(form=settings.log_format, level=settings.log_level)
    structlog.contextvars.bind_contextvars(worker=int(number))
    siblings = UnixSiblings(Path(directory), int(number), settings.workers)
    try:
        run(attend(lambda signals: work(settings, siblings, signals)))
    except PutterError as error:
        report(error)
        return error.exit
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
