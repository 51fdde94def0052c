"""Runs a program that ends when its parent ends, however that ends.

    python -I -S putter/local/leash.py <parent pid> <program> [argument …]

On Linux the kernel watches: the parent-death signal is set, then the program takes this process
over. Elsewhere this process stays, watches the parent, and ends the program. Either way the
program gets SIGTERM, so that it can finish what it is doing.

Every start of a child goes through here, so it is run by its path, without what `site` does, and
imports little.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from typing import Final, NoReturn

_PR_SET_PDEATHSIG: Final = 1
_WATCH_S: Final = 0.1
_SIGNAL_CODE: Final = 128
"""As shells do: 128 and the number of the signal that ended the program."""


def leash_command(parent: int, argv: list[str]) -> list[str]:
    """The command line that runs ``argv`` on a leash of the process ``parent``."""
    return [sys.executable, "-I", "-S", __file__, str(parent), *argv]


def main(parent: int, argv: list[str]) -> NoReturn:
    """Become ``argv``, or run and watch it."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
        if os.getppid() != parent:
            raise SystemExit("the parent is gone already")
        os.execv(argv[0], argv)  # noqa: S606 - no shell is wanted
    sys.exit(_watch(parent, argv))


def _watch(parent: int, argv: list[str]) -> int:
    import subprocess

    told = False

    def stop(*_: object) -> None:
        nonlocal told
        told = True

    signal.signal(signal.SIGTERM, stop)
    # What was handed down to us is meant for the program: it must hold the lock itself.
    child = subprocess.Popen(argv, close_fds=False)  # noqa: S603 - our supervisor made this command
    while child.poll() is None:
        if told or os.getppid() != parent:
            child.terminate()
            child.wait()
        else:
            time.sleep(_WATCH_S)
    return child.returncode if child.returncode >= 0 else _SIGNAL_CODE - child.returncode


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
