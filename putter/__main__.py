"""``python -m putter`` and the script ``putter``."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line; ends the process with the exit code of the command."""
    # numpy's library of linear algebra, of which nothing is used, starts a thread for each core.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        from putter.cli.imports import importing

        with importing():
            from putter.cli.app import app
        app()
    except KeyboardInterrupt:
        sys.exit(130)  # before `putter.cli.shell` could see to it: most of a start is imports


if __name__ == "__main__":
    main()
