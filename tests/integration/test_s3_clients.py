"""Real S3 clients against real processes; one that is not installed is skipped, with the reason."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.s3_kit import KEY_ID, REGION, SECRET, s3_cluster
from tests.store_kit import Cluster
from tests.traffic_kit import payload
from tests.tree_kit import files_below, plant

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
CLIENTS = Path(__file__).parents[1] / "clients"
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
def tree(tmp_path: Path) -> Path:
    """Files to be sent."""
    return plant(tmp_path / "tree", FILES)


def found(program: str) -> str:
    beside = str(Path(sys.executable).parent)
    path = shutil.which(program, path=os.pathsep.join([beside, os.environ["PATH"]]))
    if path is None:
        pytest.skip(f"{program} is neither beside Python nor on the PATH")
    return path


def environment(store: Cluster, home: Path) -> dict[str, str]:
    """All that a client knows of the store."""
    endpoint = f"http://127.0.0.1:{store.s3_ports[0]}"
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_CONFIG_FILE": str(home / "config"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def run(store: Cluster, home: Path, *words: str, **more: str) -> str:
    """A client's output; it knows the store from its environment alone."""
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        words,
        env=environment(store, home) | more,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


def script(name: str) -> tuple[str, str]:
    """A client of Python with its interpreter, in an environment of its own."""
    python = Path(sys.prefix) / "clients" / "bin" / "python"
    if not python.exists():
        pytest.skip("the S3 clients of Python are not installed: tools/install_clients.sh .venv")
    return str(python), str(CLIENTS / name)


def stored(client: Any, bucket: str) -> dict[str, bytes]:
    listed = client.list_objects_v2(Bucket=bucket).get("Contents", [])
    return {
        each["Key"]: client.get_object(Bucket=bucket, Key=each["Key"])["Body"].read()
        for each in listed
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
    assert files_below(again) == {("moved.txt" if n == "a.txt" else n): d for n, d in FILES.items()}
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
    assert files_below(again) == FILES
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


def test_restic(store: Cluster, tree: Path, tmp_path: Path) -> None:
    home, again = tmp_path / "home", tmp_path / "again"
    more = {
        "RESTIC_PASSWORD": "secret",
        "RESTIC_REPOSITORY": f"s3:http://127.0.0.1:{store.s3_ports[0]}/by-restic",
    }
    restic = found("restic")
    run(store, home, restic, "init", **more)
    run(store, home, restic, "backup", str(tree), **more)
    (tree / "a.txt").write_bytes(b"changed\n")
    run(store, home, restic, "backup", str(tree), **more)
    run(store, home, restic, "forget", "--keep-last", "1", "--prune", **more)
    assert "no errors were found" in run(store, home, restic, "check", "--read-data", **more)
    run(store, home, restic, "restore", "latest", "--target", str(again), **more)
    assert {Path(name).name: data for name, data in files_below(again).items()} == {
        Path(name).name: data for name, data in (FILES | {"a.txt": b"changed\n"}).items()
    }


def test_s3fs(store: Cluster, tree: Path, tmp_path: Path) -> None:
    home, again = tmp_path / "home", tmp_path / "again"
    told = json.loads(run(store, home, *script("fsspec_s3.py"), str(tree), str(again)))
    assert told == {
        "found": sorted(FILES),
        "tail": "yyyyy",
        "size": 12_000_000,
        "moved": "hello\n",
        "there": [False, True],
        "top": ["by-s3fs/moved.txt", "by-s3fs/tree", "by-s3fs/written"],
        "glob": ["by-s3fs/tree/a.txt"],
        "left": False,
    }
    assert files_below(again) == FILES


def test_pyarrow(store: Cluster, tmp_path: Path) -> None:
    told = json.loads(run(store, tmp_path / "home", *script("arrow.py")))
    assert told == {
        "some": list(range(199_990, 200_000)),
        "odd": 100_000,
        "tail": "x" * 10,
        "names": [f"by-arrow/{name}" for name in ("large.bin", "moved.parquet", "one.parquet")],
        "same": True,
        "left": 0,
    }


def test_polars(store: Cluster, client: Any, tmp_path: Path) -> None:
    client.create_bucket(Bucket="by-polars")
    told = json.loads(run(store, tmp_path / "home", *script("frames.py")))
    halves = 2 * sum(n // 2 for n in range(99_991, 100_000))
    assert told == {"rows": halves, "whole": True, "csv": [[0, 0], [1, 0], [2, 1]]}


def test_every_commit_of_racing_delta_writers_is_there_once(
    store: Cluster, client: Any, tmp_path: Path
) -> None:
    writers, commits, uri = ("1", "2", "3"), 3, "s3://by-delta/table"
    client.create_bucket(Bucket="by-delta")
    delta = script("delta.py")
    run(store, tmp_path / "home", *delta, "create", uri)
    processes = [
        subprocess.Popen(
            [*delta, "append", uri, writer, str(commits)],
            env=environment(store, tmp_path / "home"),
            stderr=subprocess.PIPE,
        )
        for writer in writers
    ]
    ended = [(each.communicate(timeout=120)[1], each.returncode) for each in processes]
    assert [(err, code) for err, code in ended if code] == []
    told = json.loads(run(store, tmp_path / "home", *delta, "read", uri))
    appended = [[writer, n] for writer in writers for n in range(commits)]
    assert told["rows"] == [["0", 0], *appended]
    assert (told["version"], told["commits"]) == (len(appended), len(appended) + 1)
    listed = client.list_objects_v2(Bucket="by-delta", Prefix="table/_delta_log/")["Contents"]
    logged = [each["Key"].rpartition("/")[2] for each in listed if each["Key"].endswith(".json")]
    assert logged == [f"{number:020}.json" for number in range(len(appended) + 1)]


def test_sdk_for_javascript(store: Cluster, tmp_path: Path) -> None:
    node, modules = found("node"), Path(sys.prefix) / "js" / "node_modules"
    if not modules.exists():
        pytest.skip("the SDK is not installed: tools/install_clients.sh .venv")
    words = (node, str(CLIENTS / "sdk.cjs"))
    assert run(store, tmp_path / "home", *words, NODE_PATH=str(modules)) == "done\n"
