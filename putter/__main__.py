"""``python -m putter`` and the script ``putter``."""

from __future__ import annotations

from putter.cli.app import app


def main() -> None:
    """Run the command line; ends the process with the exit code of the command."""
    app()


if __name__ == "__main__":
    main()
