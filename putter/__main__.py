"""``python -m putter`` and the script ``putter``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; ends the process with the exit code of the command."""
    try:
        from putter.cli.app import app

        app()
    except KeyboardInterrupt:
        sys.exit(130)  # before `putter.cli.shell` could see to it: most of a start is imports


if __name__ == "__main__":
    main()
