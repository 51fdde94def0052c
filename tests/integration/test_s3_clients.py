"""Real S3 clients against real processes; one that is not installed is skipped, with the reason."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.s3_kit import KEY_ID, REGION, SECRET, s3, s3_cluster
from tests.store_kit import Cluster
from tests.traffic_kit import payload

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
FILES = {
    "a.txt": b"hello\n",
    "empty": b"",
    "dir/b c+d.bin": payload(200_000),
    "dir/deep/\u00fc\u732b.txt": "\u00fc\u732b".encode(),
    "large.bin": payload(12_000_000),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with s3_cluster(tmp_path_factory.mktemp("clients")) as made:
        yield made


@pytest.fixture
def client(store: Cluster) -> Iterator[Any]:
    with s3(store.s3_ports[0]) as made:
        yield made


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files to be sent."""
    top = tmp_path / "tree"
    for name, data in FILES.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return top


def found(program: str) -> str:
    beside = str(Path(sys.executable).parent)
    path = shutil.which(program, path=os.pathsep.join([beside, os.environ["PATH"]]))
    if path is None:
        pytest.skip(f"{program} is neither beside Python nor on the PATH")
    return path


def run(store: Cluster, home: Path, *words: str) -> str:
    """A client's output; it knows the store from its environment alone."""
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        words,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{store.s3_ports[0]}",
            "AWS_CONFIG_FILE": str(home / "config"),
            "AWS_EC2_METADATA_DISABLED": "true",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


def stored(client: Any, bucket: str) -> dict[str, bytes]:
    listed = client.list_objects_v2(Bucket=bucket).get("Contents", [])
    return {
        each["Key"]: client.get_object(Bucket=bucket, Key=each["Key"])["Body"].read()
        for each in listed
    }


def files(top: Path) -> dict[str, bytes]:
    return {
        path.relative_to(top).as_posix(): path.read_bytes()
        for path in top.rglob("*")
        if path.is_file()
    }


def test_aws_cli(store: Cluster, client: Any, tree: Path, tmp_path: Path) -> None:
    aws, home = found("aws"), tmp_path / "home"
    home.mkdir()
    (home / "config").write_text("[default]\ns3 =\n  multipart_threshold = 5MB\n")
    run(store, home, aws, "s3", "mb", "s3://by-aws")
    run(store, home, aws, "s3", "sync", str(tree), "s3://by-aws")
    assert stored(client, "by-aws") == FILES
    told = run(store, home, aws, "s3", "ls", "s3://by-aws", "--recursive")
    assert len(told.splitlines()) == len(FILES)
    assert run(store, home, aws, "s3", "cp", "s3://by-aws/a.txt", "-") == "hello\n"
    run(store, home, aws, "s3", "mv", "s3://by-aws/a.txt", "s3://by-aws/moved.txt")
    again = tmp_path / "again"
    run(store, home, aws, "s3", "sync", "s3://by-aws", str(again))
    assert files(again) == {("moved.txt" if n == "a.txt" else n): d for n, d in FILES.items()}
    run(store, home, aws, "s3", "rm", "s3://by-aws", "--recursive")
    run(store, home, aws, "s3", "rb", "s3://by-aws")
    assert "by-aws" not in run(store, home, aws, "s3", "ls")


def test_s5cmd(store: Cluster, client: Any, tree: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    url = f"http://127.0.0.1:{store.s3_ports[0]}"
    s5cmd = [found("s5cmd"), "--endpoint-url", url]
    run(store, home, *s5cmd, "mb", "s3://by-s5cmd")
    run(store, home, *s5cmd, "cp", "--part-size", "5", f"{tree}/", "s3://by-s5cmd/")
    assert stored(client, "by-s5cmd") == FILES
    assert len(run(store, home, *s5cmd, "ls", "s3://by-s5cmd/*").splitlines()) == len(FILES)
    again = tmp_path / "again"
    run(store, home, *s5cmd, "cp", "--part-size", "5000", "s3://by-s5cmd/*", f"{again}/")
    assert files(again) == FILES
    run(store, home, *s5cmd, "rm", "s3://by-s5cmd/*")
    run(store, home, *s5cmd, "rb", "s3://by-s5cmd")


def test_rclone(store: Cluster, client: Any, tree: Path, tmp_path: Path) -> None:
    rclone, home = found("rclone"), tmp_path / "home"
    url = f"http://127.0.0.1:{store.s3_ports[0]}"
    remote = f":s3,provider=Other,env_auth=true,endpoint='{url}',upload_cutoff=5M:"
    run(store, home, rclone, "mkdir", f"{remote}by-rclone")
    run(store, home, rclone, "sync", str(tree), f"{remote}by-rclone")
    assert stored(client, "by-rclone") == FILES
    run(store, home, rclone, "check", str(tree), f"{remote}by-rclone")
    run(store, home, rclone, "check", "--download", str(tree), f"{remote}by-rclone")
    told = run(store, home, rclone, "lsf", "--recursive", "--files-only", f"{remote}by-rclone")
    assert sorted(told.splitlines()) == sorted(FILES)
    run(store, home, rclone, "moveto", f"{remote}by-rclone/a.txt", f"{remote}by-rclone/b.txt")
    assert client.get_object(Bucket="by-rclone", Key="b.txt")["Body"].read() == b"hello\n"
    run(store, home, rclone, "purge", f"{remote}by-rclone")
    assert "by-rclone" not in run(store, home, rclone, "lsd", remote)


def test_minio_py(store: Cluster, client: Any, tree: Path, tmp_path: Path) -> None:
    try:
        minio = importlib.import_module("minio")
    except ImportError:
        pytest.skip("the package minio is not installed")
    mc = minio.Minio(
        endpoint=f"127.0.0.1:{store.s3_ports[0]}",
        access_key=KEY_ID,
        secret_key=SECRET,
        secure=False,
    )
    assert not mc.bucket_exists(bucket_name="by-minio")
    mc.make_bucket(bucket_name="by-minio")
    for name, data in FILES.items():
        mc.fput_object(
            bucket_name="by-minio",
            object_name=name,
            file_path=str(tree / name),
            part_size=5 * 1024**2,
        )
        assert mc.stat_object(bucket_name="by-minio", object_name=name).size == len(data)
    assert stored(client, "by-minio") == FILES
    listed = mc.list_objects(bucket_name="by-minio", recursive=True)
    assert [each.object_name for each in listed] == sorted(FILES)
    mc.remove_object(bucket_name="by-minio", object_name="a.txt")
    assert "a.txt" not in stored(client, "by-minio")
