"""Write requirements.txt and its siblings anew: each package at one version, with hashes.

    python tools/lock.py             versions stay where pyproject.toml allows it
    python tools/lock.py --upgrade   the newest that it allows

The resolver is uv, in an environment that is thrown away. The hashes are those of all files of a
version, so that one lock serves every platform and every Python that we support. The S3 clients
that tests run in an environment of their own are locked alone: what they need would not fit ours.
So is what benchmarks run beside the store.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUN = ROOT / "requirements.txt"
DEV = ROOT / "requirements-dev.txt"
CLIENTS = ROOT / "requirements-clients.txt"
BENCH = ROOT / "requirements-bench.txt"
ALONE = {CLIENTS: "clients", BENCH: "bench"}
HEAD = {
    RUN: "# What data-putter runs with, made by tools/lock.py. Also holds what builds it.\n",
    DEV: "# The same and what tests and checks need, made by tools/lock.py.\n",
    CLIENTS: "# S3 clients that tests run from .venv/clients, made by tools/lock.py.\n",
    BENCH: "# What benchmarks run beside the store, made by tools/lock.py.\n",
}


def main() -> None:
    """Make them; the one to run with has the versions of the one to test with."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    oldest = project["project"]["requires-python"].removeprefix(">=")
    build = "".join(f"{each}\n" for each in project["build-system"]["requires"])
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        venv.create(place / "venv", with_pip=True)
        python = place / "venv" / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", "uv"], check=True)
        (place / "build.in").write_text(build)
        extras = project["project"]["optional-dependencies"]
        for extra in ALONE.values():
            (place / f"{extra}.in").write_text("".join(f"{each}\n" for each in extras[extra]))
        ours = ["pyproject.toml", place / "build.in"]
        for target, wanted, versions in (
            (DEV, [*ours, "--extra", "dev"], kept(DEV)),
            (RUN, ours, DEV),
            *((alone, [place / f"{extra}.in"], kept(alone)) for alone, extra in ALONE.items()),
        ):
            known = ["--constraint", str(versions)] if versions else []
            locked = subprocess.run(
                [
                    *(python, "-m", "uv", "--quiet", "pip", "compile"),
                    *wanted,
                    *known,
                    *("--universal", "--python-version", oldest, "--generate-hashes"),
                    *("--no-header", "--no-annotate", "--no-emit-index-url"),
                ],
                cwd=ROOT,
                env={**os.environ, "UV_NO_CONFIG": "1"},
                stdout=subprocess.PIPE,
                check=True,
                text=True,
            ).stdout
            target.write_text(HEAD[target] + locked)


def kept(lock: Path) -> Path | None:
    """A lock whose versions stay where they can."""
    return lock if lock.exists() and "--upgrade" not in sys.argv[1:] else None


if __name__ == "__main__":
    main()
