"""`cp` and `sync` as processes of their own against a store that runs."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.s3_kit import KEY_ID, SECRET, s3, s3_cluster
from tests.store_kit import Cluster, eventually
from tests.traffic_kit import at, payload, putter, url
from tests.tree_kit import files_below, plant

pytestmark = pytest.mark.slow
MIB = 1024 * 1024
FILES = {
    "a.txt": b"hello\n",
    "empty": b"",
    "dir/b c+d%20?#.bin": payload(200_000),
    "dir/deep/\u00fc\u732b.txt": "\u00fc\u732b".encode(),
    "large.bin": payload(5_000_000),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with s3_cluster(tmp_path_factory.mktemp("copying")) as running:
        yield running


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return plant(tmp_path / "tree", FILES)


def test_there_within_and_back(store: Cluster, tree: Path, tmp_path: Path) -> None:
    sizes = {name: len(data) for name, data in FILES.items()}
    up = at(store, "sync", str(tree), "putter:round/up", "--json")
    assert up.code == 0, up.err
    *events, last = [json.loads(line) for line in up.text.splitlines()]
    assert {each["name"]: each.get("size", 0) for each in events} == sizes
    assert (last["summary"]["copied"], last["summary"]["copied_bytes"]) == (5, sum(sizes.values()))
    assert store.names("round") == {f"up/{name}": size for name, size in sizes.items()}
    again = at(store, "sync", str(tree), "putter:round/up")
    assert again.text.startswith("0 copied (0 B), 5 unchanged; ")

    within = at(store, "sync", "putter:round/up", "putter:other", "--json")
    assert within.code == 0, within.err
    assert store.names("other") == sizes
    again = at(store, "sync", "putter:round/up", "putter:other")
    assert again.text.startswith("0 copied (0 B), 5 unchanged; ")

    back = tmp_path / "back"
    assert at(store, "sync", "putter:other", str(back)).code == 0
    assert files_below(back) == FILES
    again = at(store, "sync", "putter:other/", str(back), "--checksum")
    assert again.text.startswith("0 copied (0 B), 5 unchanged; ")

    (back / "a.txt").write_bytes(b"HELLO\n")
    (back / "more").write_bytes(b"x")
    dry = at(store, "sync", "putter:other", str(back), "--delete", "--dry-run")
    assert dry.text.splitlines()[:2] == [
        f"copy    {back}/a.txt  6 B",
        f"delete  {back}/more",
    ]
    assert (back / "a.txt").read_bytes() == b"HELLO\n"
    assert at(store, "sync", "putter:other", str(back), "--delete").code == 0
    assert files_below(back) == FILES


def test_single_files_and_pipes(store: Cluster, tmp_path: Path) -> None:
    assert at(store, "cp", "-", "putter:single/piped", stdin=b"bytes").code == 0
    assert at(store, "cp", "putter:single/piped", "-").out == b"bytes"
    assert at(store, "cp", "putter:single/piped", "putter:double").code == 0
    words = ("cp", "putter:single/piped", "putter:double/signed", "--url", url(store))
    key = {"PUTTER_ACCESS_KEY": KEY_ID, "PUTTER_SECRET_KEY": SECRET}
    assert putter(store, *words, env=key).code == 0
    assert putter(store, *words, env=key | {"PUTTER_SECRET_KEY": "wrong"}).code == 5
    assert at(store, "cp", "putter:double/piped", str(tmp_path)).code == 0
    assert (tmp_path / "piped").read_bytes() == b"bytes"
    absent = at(store, "cp", "putter:single/none", str(tmp_path))
    assert (absent.code, absent.err) == (3, "error: there is no file single/none\n")
    assert at(store, "sync", "putter:nobody", str(tmp_path / "x")).code == 3


def test_a_copy_keeps_what_belongs_to_the_bytes(store: Cluster) -> None:
    with s3(store.s3_ports[0]) as client:
        client.create_bucket(Bucket="kept")
        told = client.put_object(
            Bucket="kept",
            Key="a b",
            Body=b"x",
            Metadata={"who": "ann"},
            ContentType="text/css",
            Tagging="kind=cat",
        )
        assert at(store, "cp", "putter:kept/a b", "putter:kept/c").code == 0
        copied = client.head_object(Bucket="kept", Key="c", ChecksumMode="ENABLED")
        assert copied["Metadata"] == {"who": "ann"}
        assert copied["ContentType"] == "text/css"
        assert copied["ETag"] == told["ETag"]
        tags = client.get_object_tagging(Bucket="kept", Key="c")["TagSet"]
        assert tags == [{"Key": "kind", "Value": "cat"}]
        assert copied["ChecksumCRC32"] == told["ChecksumCRC32"]
        upload = client.create_multipart_upload(Bucket="kept", Key="parts")["UploadId"]
        part = client.upload_part(
            Bucket="kept", Key="parts", UploadId=upload, PartNumber=1, Body=b"part"
        )
        client.complete_multipart_upload(
            Bucket="kept",
            Key="parts",
            UploadId=upload,
            MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
        )
        client.create_bucket(Bucket="versioned")
        enabled = {"Status": "Enabled"}
        client.put_bucket_versioning(Bucket="versioned", VersioningConfiguration=enabled)
        for body in (b"old", b"new"):
            client.put_object(Bucket="versioned", Key="a", Body=body)
        assert at(store, "cp", "putter:versioned/a", "putter:versioned/b").code == 0
        assert client.get_object(Bucket="versioned", Key="b")["Body"].read() == b"new"
        assert at(store, "cp", "-r", "putter:versioned", "putter:flat").code == 0
        assert store.names("flat") == {"a": 3, "b": 3}
    assert at(store, "cp", "putter:kept/parts", "putter:kept/copy").code == 0
    assert at(store, "cat", "kept/copy").out == b"part"
    again = at(store, "sync", "putter:kept", "putter:kept2")
    assert again.text.startswith("4 copied")


def test_a_request_for_a_copy(store: Cluster) -> None:
    source = {"X-Putter-Copy-Source": "/asked/a%20b"}
    assert store.http("PUT", "/file/asked/c", None, source)[0] == 404
    assert store.http("PUT", "/file/asked/a%20b", b"bytes")[0] == 201
    assert store.http("PUT", "/file/asked/c", b"body", source)[0] == 400
    assert store.http("PUT", "/file/asked/c", None, source | {"If-Match": '"x"'})[0] == 412
    status, _, body = store.http("PUT", "/file/asked/c", None, source)
    assert (status, json.loads(body)["size"]) == (201, 5)
    assert store.read("asked/c") == b"bytes"
    wrong = {"X-Putter-Copy-Source": "/Asked/x"}
    assert store.http("PUT", "/file/asked/c", None, wrong)[0] == 400


def test_renames(store: Cluster) -> None:
    for name, data in FILES.items():
        assert store.http("PUT", "/file/" + quote(f"moving/from/{name}"), data)[0] == 201
    told = at(store, "mv", "-r", "putter:moving/from", "putter:moved/to")
    assert told.code == 0, told.err
    assert told.text.startswith("5 moved (")
    assert store.names("moving") == {}
    assert store.names("moved") == {f"to/{name}": len(data) for name, data in FILES.items()}
    for name, data in FILES.items():
        assert store.read(quote(f"moved/to/{name}")) == data
    assert at(store, "mv", "putter:moved/to/a.txt", "putter:moved/b").code == 0
    again = at(store, "mv", "putter:moved/to/a.txt", "putter:moved/b")
    assert (again.code, again.err) == (3, "error: there is no file moved/to/a.txt\n")

    source = {"X-Putter-Move-Source": "/moved/b"}
    other = {"X-Putter-Copy-Source": "/moved/b"}
    assert store.http("PUT", "/file/moved/c", b"body", source)[0] == 400
    assert store.http("PUT", "/file/moved/c", None, source | other)[0] == 400
    assert store.http("PUT", "/file/moved/b", None, source)[0] == 400
    assert store.http("PUT", "/file/moved/c", None, source | {"If-Match": "*"})[0] == 412
    status, _, body = store.http("PUT", "/file/moved/c", None, source)
    assert (status, json.loads(body)["size"]) == (201, 6)
    assert store.http("PUT", "/file/moved/c", None, source)[0] == 404
    assert store.read("moved/c") == b"hello\n"
    with s3(store.s3_ports[0]) as client:
        client.create_bucket(Bucket="versioned-too")
        enabled = {"Status": "Enabled"}
        client.put_bucket_versioning(Bucket="versioned-too", VersioningConfiguration=enabled)
        client.put_object(Bucket="versioned-too", Key="a", Body=b"x")
    kept = at(store, "mv", "putter:versioned-too/a", "putter:moved/a")
    assert kept.code == 2
    assert "keeps versions" in kept.err


def test_links_are_told_of_and_not_followed(store: Cluster, tree: Path) -> None:
    (tree / "link").symlink_to(tree / "a.txt")
    (tree / "loop").symlink_to(tree)
    told = at(store, "cp", "-r", str(tree), "putter:linked")
    assert told.code == 0
    assert sorted(told.err.splitlines()) == [
        f"warning: {tree}/{name} is a link, and skipped" for name in ("link", "loop")
    ]
    assert set(store.names("linked")) == set(FILES)


def test_an_interrupted_download_goes_on(store: Cluster, tmp_path: Path) -> None:
    target = tmp_path / "got"
    sent = {f"{number:02}": payload(4 * MIB, number) for number in range(8)}
    source = plant(tmp_path / "many", sent)
    assert at(store, "sync", str(source), "putter:many").code == 0
    words = store.command("sync", "putter:many", str(target), "--jobs", "1", "--url", url(store))
    with subprocess.Popen(words, env=store.environment(), stderr=subprocess.DEVNULL) as process:
        eventually(lambda: target.is_dir() and len(list(target.glob("[0-9]*"))) > 0)
        process.send_signal(signal.SIGINT)
        code = process.wait(60)
    whole = files_below(target)
    if code:  # else it was faster than the signal
        assert code == 130
        assert not [path for path in target.iterdir() if path.name.startswith(".")]
    assert whole.items() <= sent.items()
    told = at(store, "sync", "putter:many", str(target), "--json")
    last = json.loads(told.text.splitlines()[-1])["summary"]
    assert (last["copied"], last["unchanged"]) == (len(sent) - len(whole), len(whole))
    assert files_below(target) == sent
