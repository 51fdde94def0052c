"""S3 while processes die: nothing half-written is visible, and of racing writers one wins."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.s3_kit import Signer, s3, s3_cluster
from tests.store_kit import eventually
from tests.traffic_kit import payload

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SIZE = 12_000_000


def later(work: Callable[[], None], after_s: float) -> threading.Thread:
    """Do something in a moment."""
    thread = threading.Timer(after_s, work)
    thread.start()
    return thread


def test_a_putter_that_dies_during_puts_and_gets(tmp_path: Path) -> None:
    with s3_cluster(tmp_path, putters=3, storage="segments") as store:
        with s3(store.s3_ports[0]) as client:
            client.create_bucket(Bucket="photos")
            before = payload(SIZE, "before")
            client.put_object(Bucket="photos", Key="before", Body=before)
        told: dict[str, bool] = {}

        def put(number: int) -> None:
            data = payload(SIZE, number)
            with s3(store.s3_ports[0]) as mine:
                try:
                    got = mine.put_object(Bucket="photos", Key=f"k{number}", Body=data)
                except (ClientError, BotoCoreError):
                    told[f"k{number}"] = False
                else:
                    told[f"k{number}"] = True
                    assert got["ETag"] == f'"{hashlib.md5(data).hexdigest()}"'

        def get(_: int) -> None:
            with s3(store.s3_ports[0]) as mine:
                assert mine.get_object(Bucket="photos", Key="before")["Body"].read() == before

        killing = later(store.putters[0].kill, 0.3)
        with ThreadPoolExecutor(8) as pool:
            work = [pool.submit(get if n % 2 else put, n) for n in range(12)]
            for each in work:
                each.result()
        killing.join()
        signer = Signer(store.s3_ports[0])
        for number in range(0, 12, 2):
            key = f"k{number}"
            held = signer.ask("GET", f"/photos/{key}")
            if held.status == 200:
                assert held.body == payload(SIZE, number)
            else:
                assert (held.status, held.code) == (404, "NoSuchKey")
                assert not told[key], "it was acknowledged"
        assert any(told.values())


def test_processes_that_die_while_an_upload_is_completed(tmp_path: Path) -> None:
    """First a putter, then the router: the object is whole or not there, the upload not lost."""
    parts = [payload(SIZE, number) for number in range(8)]
    whole = b"".join(parts)
    with s3_cluster(tmp_path, putters=3, storage="segments") as store:
        with s3(store.s3_ports[0]) as client:
            client.create_bucket(Bucket="photos")
        for kill, start in (
            (store.putters[0].kill, store.putters[0].start),
            (store.routers[0].kill, store.routers[0].start),
        ):
            with s3(store.s3_ports[0]) as client:
                where = {"Bucket": "photos", "Key": "large"}
                where["UploadId"] = client.create_multipart_upload(**where)["UploadId"]
                named = [
                    {
                        "PartNumber": number,
                        "ETag": client.upload_part(**where, PartNumber=number, Body=part)["ETag"],
                    }
                    for number, part in enumerate(parts, 1)
                ]
                killing = later(kill, 0.15)
                with contextlib.suppress(ClientError, BotoCoreError):
                    client.complete_multipart_upload(**where, MultipartUpload={"Parts": named})
                killing.join()
            start()
            store.wait_ready()
            signer = Signer(store.s3_ports[0])
            held = signer.ask("GET", "/photos/large")
            assert held.status == 404 or held.body == whole

            def complete(where: dict[str, Any] = where, named: list[Any] = named) -> None:
                with s3(store.s3_ports[0], read_timeout=100) as mine:
                    try:
                        mine.complete_multipart_upload(**where, MultipartUpload={"Parts": named})
                    except (ClientError, BotoCoreError) as error:
                        raise AssertionError("not yet") from error

            eventually(complete, 120)
            assert signer.ask("GET", "/photos/large").body == whole
            assert signer.ask("DELETE", "/photos/large").status == 204
