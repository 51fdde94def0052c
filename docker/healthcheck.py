"""The health check of the image: exit code 0 if the container's process answers ``/healthz``.

A putter (`server`) answers on its own web port, everything else on the router's. A port that was
moved by its variable is followed, one that was moved by a flag is not: override the check then.
"""
# ruff: noqa: INP001 - a script of the image, no package

from __future__ import annotations

import http.client
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_TIMEOUT_S = 4.0
_OK = 200


def port_of(words: Sequence[str], environment: Mapping[str, str]) -> int:
    """The port that should answer.

    Args:
        words: the command line of the container's first process.
        environment: the container's variables.
    """
    if "server" in words:
        return int(environment.get("PUTTER_PUTTER_WEB_PORT") or 5010)
    return int(environment.get("PUTTER_WEB_PORT") or 5004)


def main() -> int:
    """Ask once."""
    words = Path("/proc/1/cmdline").read_text().split("\0")
    connection = http.client.HTTPConnection(
        "127.0.0.1", port_of(words, os.environ), timeout=_TIMEOUT_S
    )
    try:
        connection.request("GET", "/healthz")
        return 0 if connection.getresponse().status == _OK else 1
    except OSError as error:
        sys.stdout.write(f"no answer: {error}\n")
        return 1
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
