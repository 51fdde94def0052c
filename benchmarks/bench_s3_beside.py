"""S3 of this store beside SeaweedFS's: the same requests of the same client, in turns.

    python -m benchmarks.bench_s3_beside --mib 1024 --objects 4000 --keys 100000 --runs 3

One router, one putter (`segments`, every answer durable), a Valkey that syncs every write; beside
it one SeaweedFS (`benchmarks.seaweed`), which does not sync. Requests are signed before the clock
starts. A ratio is the median of the ratios of one turn each; the first turn warms up and does not
count. Processor seconds are those of router, putter and Valkey, or of SeaweedFS.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.bench_s3 import BLOCK, Side, get_large, many, processor_s, put_large
from benchmarks.seaweed import find_weed, seaweed
from common.limits import MIB
from tests.s3_kit import KEY_ID, SECRET, Signer, s3_cluster

_PAGE: Final = 1_000
_SETTLE_S: Final = 1.0
_TOKEN: Final = re.compile(rb"<NextContinuationToken>([^<]+)<")

Work = Callable[[], None]


def copy_in(side: Side, file: Path) -> None:
    """A file in parts, by s5cmd."""
    program = Path(sys.executable).parent / "s5cmd"
    subprocess.run(
        [
            *(str(program), "--endpoint-url", f"http://127.0.0.1:{side.port}"),
            *("cp", str(file), "s3://photos/in-parts"),
        ],
        env={
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "PATH": os.environ["PATH"],
        },
        stdout=subprocess.DEVNULL,
        check=True,
    )


def list_all(side: Side, keys: int) -> None:
    """Every key under a prefix, page by page on one connection."""
    token, told = "", 0
    prefix = f"?list-type=2&max-keys={_PAGE}&prefix={side.name.lower()}%2Fsmall"
    with socket.create_connection(("127.0.0.1", side.port)) as client:
        reader = client.makefile("rb")
        while True:
            more = f"&continuation-token={token}" if token else ""
            client.sendall(side.head("GET", prefix + more))
            status = reader.readline()
            headers = {}
            while (line := reader.readline().strip()) != b"":
                name, _, value = line.partition(b":")
                headers[name.strip().lower()] = value.strip()
            if b" 200 " not in status:
                raise SystemExit(f"{side.name}: {status!r}")
            if b"content-length" in headers:
                body = reader.read(int(headers[b"content-length"]))
            else:
                body = b""
                while size := int(reader.readline().split(b";")[0], 16):
                    body += reader.read(size)
                    reader.readline()
                reader.readline()
            told += body.count(b"<Contents>")
            found = _TOKEN.search(body)
            if found is None:
                break
            token = _quoted(found[1].decode())
    if told != keys:
        raise SystemExit(f"{side.name}: lists {told} keys of {keys}")


def _quoted(token: str) -> str:
    return "".join(c if c.isalnum() or c in "-._~" else f"%{ord(c):02X}" for c in token)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--objects", type=int, default=4000)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="", help="rows that have this in their name")
    parser.add_argument("--weed", default="", help="the program of SeaweedFS")
    args = parser.parse_args()
    size = args.mib * MIB // len(BLOCK) * len(BLOCK)
    program = find_weed(args.weed)
    with (
        tempfile.TemporaryDirectory() as name,
        s3_cluster(Path(name) / "ours", storage="segments") as store,
        seaweed(program, Path(name) / "theirs") as weed,
    ):
        if Signer(store.s3_ports[0]).ask("PUT", "/photos").status != 200:
            raise SystemExit("no bucket")
        ours, theirs = Side("Ours", store.s3_ports[0]), Side("Weed", weed.port)
        valkey = store.valkey
        pids = {
            ours.name: [*(process.pid for process in store.processes), valkey.pid],
            theirs.name: [weed.pid],
        }
        digest = hashlib.sha256()
        for _ in range(size // len(BLOCK)):
            digest.update(BLOCK)
        whole = Path(name) / "whole"
        with whole.open("wb") as file:
            for _ in range(size // len(BLOCK)):
                file.write(BLOCK)

        def small(method: str, side: Side) -> Work:
            return many(side, method, args.objects)

        rows: dict[str, tuple[Callable[[Side], Work], float, str]] = {
            "PUT, unsigned": (lambda side: partial(put_large, side, size), size / 1e6, "MB"),
            "PUT, signed": (
                lambda side: partial(put_large, side, size, digest.hexdigest()),
                size / 1e6,
                "MB",
            ),
            "PUT in parts": (lambda side: partial(copy_in, side, whole), size / 1e6, "MB"),
            "GET": (lambda side: partial(get_large, side, size), size / 1e6, "MB"),
            "PUT 4 KiB": (partial(small, "PUT"), args.objects, ""),
            "GET 4 KiB": (partial(small, "GET"), args.objects, ""),
            "list": (lambda side: partial(list_all, side, args.keys), args.keys, "keys"),
        }
        before: dict[str, Callable[[Side], None]] = {
            "GET": lambda side: put_large(side, size),
            "GET 4 KiB": lambda side: many(side, "PUT", args.objects)(),
            "list": lambda side: many(side, "PUT", args.keys, b"x")(),
        }
        print("| work | ours | SeaweedFS | ratio | processor, ours | theirs |")
        print("|---|---|---|---|---|---|")
        for title, (make, amount, unit) in rows.items():
            if args.only not in title:
                continue
            for side in (ours, theirs):
                before.get(title, _nothing)(side)
            print(_row(title, make, (ours, theirs), pids, args.runs, amount, unit), flush=True)
        shutil.rmtree(Path(name) / "theirs" / "data", ignore_errors=True)


def _nothing(_: Side) -> None:
    """What most rows need done before."""


def _row(
    title: str,
    make: Callable[[Side], Work],
    sides: tuple[Side, Side],
    pids: dict[str, list[int]],
    runs: int,
    amount: float,
    unit: str,
) -> str:
    """A line of the table."""
    walls: dict[str, list[float]] = {side.name: [] for side in sides}
    cpus: dict[str, list[float]] = {side.name: [] for side in sides}
    for run in range(runs + 1):
        for side in sides if run % 2 else sides[::-1]:
            work = make(side)
            time.sleep(_SETTLE_S)
            before, started = sum(map(processor_s, pids[side.name])), time.perf_counter()
            work()
            took, spent = time.perf_counter() - started, sum(map(processor_s, pids[side.name]))
            if run:
                walls[side.name].append(took)
                cpus[side.name].append(spent - before)
    a, b = (side.name for side in sides)
    ratio = statistics.median(y / x for x, y in zip(walls[a], walls[b], strict=True))
    rates = [amount / statistics.median(walls[each]) for each in (a, b)]
    told = [f"{rate:,.0f} {unit}/s".replace(" /s", "/s") for rate in rates]
    used = []
    for each in (a, b):
        per = statistics.median(cpus[each]) / amount
        used.append(f"{per * 1e3:.2f} s per GB" if unit == "MB" else f"{per * 1e6:.0f} µs each")
    return f"| {title} | {told[0]} | {told[1]} | {ratio:.2f} | {used[0]} | {used[1]} |"


if __name__ == "__main__":
    main()
