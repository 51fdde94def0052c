"""What S3 uploads cost a router that are slow and come to nothing: its memory over what it had.

    python -m benchmarks.bench_s3_memory --uploads 64 --mib 128

One router, one putter (`segments`). Half of the clients put an object, half a part of an upload;
each announces twice what it sends, at a bounded rate, and then leaves with a reset; at the end
the uploads in parts are given up. Memory is what the system says that the router takes (VmRSS), at
its highest (VmHWM), and a while after all of them are gone.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from common.limits import MIB
from tests.s3_kit import Signer, s3_cluster
from tests.store_kit import Cluster, eventually
from tests.traffic_kit import reset

_PIECE = os.urandom(MIB)
_GRACE_MS = 2_000
_SETTLES_S = 5.0


def targets(signer: Signer, uploads: int) -> list[str]:
    """Where each client sends to."""
    found = []
    for number in range(uploads):
        path = f"/slow/object-{number}"
        if number % 2:
            told = signer.ask("POST", f"{path}?uploads=").body.decode()
            upload = told.partition("<UploadId>")[2].partition("<")[0]
            path = f"{path}?partNumber=1&uploadId={upload}"
        found.append(path)
    return found


def slowly(
    signer: Signer, path: str, mib: int, mib_per_s: float, all_there: Callable[[], object]
) -> None:
    """Send half of what was announced, wait for the others, and vanish."""
    every, _ = signer.signed("PUT", path, {"content-length": str(2 * mib * MIB)})
    lines = "".join(f"{name}: {value}\r\n" for name, value in every.items())
    with signer.wire() as client:
        client.sendall(f"PUT {path} HTTP/1.1\r\n{lines}\r\n".encode())
        started = time.monotonic()
        for sent in range(mib):
            client.sendall(_PIECE)
            time.sleep(max(0.0, started + (sent + 1) / mib_per_s - time.monotonic()))
        all_there()
        reset(client)


def failed(store: Cluster) -> int:
    """Objects that came to nothing so far."""
    _, _, told = store.http("GET", "/metrics")
    found = re.findall(rb"^putter_objects_failed_total\{[^}]*\} ([0-9.e+]+)$", told, re.MULTILINE)
    return sum(int(float(each)) for each in found)


def run(store: Cluster, uploads: int, mib: int, mib_per_s: float) -> Sequence[int]:
    """Memory of the router before, at its highest, and afterwards, in bytes."""
    router, signer = store.routers[0], Signer(store.s3_ports[0])
    if signer.ask("PUT", "/slow").status != 200:
        raise SystemExit("no bucket")
    for _ in range(20):  # what the first requests bring in belongs to none of them
        signer.ask("PUT", "/slow/first", _PIECE)
    paths = targets(signer, uploads)
    time.sleep(_SETTLES_S)
    before, gone = router.memory_bytes(), failed(store) + uploads
    gate = threading.Barrier(uploads)
    clients = [
        threading.Thread(target=slowly, args=(signer, path, mib, mib_per_s, gate.wait))
        for path in paths
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    eventually(lambda: failed(store) >= gone, 120)
    for path in paths[1::2]:
        if signer.ask("DELETE", path.replace("partNumber=1&", "")).status != 204:
            raise SystemExit("an upload cannot be given up")
    highest = router.memory_bytes("VmHWM")
    time.sleep(_SETTLES_S)
    return before, highest, router.memory_bytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uploads", type=int, default=64)
    parser.add_argument("--mib", type=int, default=128)
    parser.add_argument("--mib-per-s", type=float, default=4.0, help="of each client")
    args = parser.parse_args()
    flags = ("--grace-ms", str(_GRACE_MS))
    with (
        tempfile.TemporaryDirectory() as folder,
        s3_cluster(Path(folder), storage="segments", router_flags=flags) as store,
    ):
        started = time.monotonic()
        before, highest, after = run(store, args.uploads, args.mib, args.mib_per_s)
        took_s = time.monotonic() - started
    print("| uploads | MiB in each | before | at the highest | above | afterwards | took |")
    print("|---|---|---|---|---|---|---|")
    told = [f"{each / MIB:.0f} MiB" for each in (before, highest, highest - before, after)]
    print(f"| {args.uploads} | {args.mib} | {' | '.join(told)} | {took_s:.0f} s |")


if __name__ == "__main__":
    main()
