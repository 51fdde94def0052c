"""Uploads of forms with a signed policy: what boto3 presigns, and what must be refused."""

from __future__ import annotations

import hashlib
import os
import random
from base64 import b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from common.limits import MIB
from tests.s3_kit import (
    KEY_ID,
    SSE,
    Signer,
    Told,
    customer_headers,
    customer_secret,
    s3,
    s3_cluster,
)
from tests.store_kit import Cluster

pytestmark = pytest.mark.slow
BOUNDARY = "----frontier"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with s3_cluster(tmp_path_factory.mktemp("forms")) as made:
        yield made


@pytest.fixture(scope="module")
def client(store: Cluster) -> Iterator[Any]:
    with s3(store.s3_ports[0]) as made:
        made.create_bucket(Bucket="forms")
        yield made


class Forms:
    """Presigns forms, and sends them."""

    def __init__(self, client: Any, port: int) -> None:
        self._client = client
        self._signer = Signer(port)

    def presigned(
        self, key: str, conditions: list[Any] | None = None, expires_s: int = 600, **fields: str
    ) -> dict[str, str]:
        every = [{name: value} for name, value in fields.items()]
        told = self._client.generate_presigned_post(
            "forms", key, Fields=fields, Conditions=every + (conditions or []), ExpiresIn=expires_s
        )
        return dict(told["fields"])

    def send(
        self,
        fields: Mapping[str, str],
        data: bytes,
        *,
        behind: Mapping[str, str] | None = None,
        path: str = "/forms",
        end: bool = True,
    ) -> Told:
        parts = [_field(name, value) for name, value in fields.items()]
        head = 'name="file"; filename="C:\\photos\\my cat.jpg"'
        parts.append(f"--{BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n".encode())
        parts += [b"Content-Type: image/jpeg\r\n\r\n", data, b"\r\n"]
        parts += [_field(name, value) for name, value in (behind or {}).items()]
        parts.append(f"--{BOUNDARY}--\r\n".encode())
        body = b"".join(parts)
        if not end:
            body = body[: body.index(data) + len(data)]
        kind = {"content-type": f"multipart/form-data; boundary={BOUNDARY}", "host": "127.0.0.1"}
        return self._signer.send("POST", path, body, kind)


def _field(name: str, value: str) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
    return f"{head}{value}\r\n".encode()


@pytest.fixture(scope="module")
def forms(client: Any, store: Cluster) -> Forms:
    return Forms(client, store.s3_ports[0])


def test_what_boto3_presigns(forms: Forms, client: Any) -> None:
    data = random.Random(1).randbytes(5 * MIB)
    range_ = ["content-length-range", len(data), len(data)]
    meta = {"Content-Type": "image/png", "x-amz-meta-who": "ann", "Cache-Control": "no-store"}
    tag = "<Tag><Key>a</Key><Value>1</Value></Tag>"
    meta["tagging"] = f"<Tagging><TagSet>{tag}</TagSet></Tagging>"
    told = forms.send(forms.presigned("up/${filename}", [range_], **meta), data)
    assert (told.status, told.body) == (204, b""), told.body
    assert told.headers["etag"] == f'"{hashlib.md5(data).hexdigest()}"'
    assert told.headers["location"].endswith("/forms/up/my%20cat.jpg")
    found = client.get_object(Bucket="forms", Key="up/my cat.jpg")
    assert found["Body"].read() == data
    assert (found["ContentType"], found["CacheControl"]) == ("image/png", "no-store")
    assert found["Metadata"] == {"who": "ann"}
    assert found["TagCount"] == 1
    wrong = forms.presigned("up/wrong", tagging=meta["tagging"].replace(">a<", ">*<"))
    assert forms.send(wrong, b"x").code == "InvalidTag"


def test_files_of_forms_are_encrypted_if_they_ask_for_it(forms: Forms, client: Any) -> None:
    told = forms.send(forms.presigned("own", **{SSE: "AES256"}), b"hidden")
    assert (told.status, told.headers[SSE]) == (204, "AES256")
    assert client.get_object(Bucket="forms", Key="own")["ServerSideEncryption"] == "AES256"
    fields = {name.replace("md5", "MD5"): each for name, each in customer_headers("ann").items()}
    told = forms.send(forms.presigned("anns", **fields), b"hidden")
    assert (told.status, told.headers[f"{SSE}-customer-algorithm"]) == (204, "AES256")
    key = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": customer_secret("ann")}
    assert client.get_object(Bucket="forms", Key="anns", **key)["Body"].read() == b"hidden"
    other = forms.presigned("none", **{SSE: "aws:kms"})
    assert forms.send(other, b"hidden").code == "NotImplemented"


def test_answers_that_a_form_asks_for(forms: Forms) -> None:
    status = {"success_action_status": "201"}
    told = forms.send(forms.presigned("k/ü&", **status), b"x", behind={"late": "ignored"})
    assert told.status == 201
    document = ET.fromstring(told.body)
    assert [each.tag for each in document] == ["Location", "Bucket", "Key", "ETag"]
    assert document.findtext("Key") == "k/ü&"
    assert forms.send(forms.presigned("k", success_action_status="200"), b"x").status == 200
    assert forms.send(forms.presigned("k", success_action_status="404"), b"x").status == 204
    where = {"success_action_redirect": "http://here.example/done?a=1"}
    told = forms.send(forms.presigned("k v", **where), b"x")
    assert told.status == 303
    etag = hashlib.md5(b"x").hexdigest()
    wanted = f"http://here.example/done?a=1&bucket=forms&key=k+v&etag=%22{etag}%22"
    assert told.headers["location"] == wanted
    nowhere = {"success_action_redirect": "javascript:alert(1)"}
    assert forms.send(forms.presigned("k", **nowhere), b"x").status == 204


def test_checksums_in_fields(forms: Forms) -> None:
    right = b64encode(hashlib.sha256(b"x").digest()).decode()
    wrong = b64encode(hashlib.sha256(b"y").digest()).decode()
    assert (
        forms.send(forms.presigned("sum", **{"x-amz-checksum-sha256": right}), b"x").status == 204
    )
    told = forms.send(forms.presigned("not", **{"x-amz-checksum-sha256": wrong}), b"x")
    assert told.code == "BadDigest"


def test_what_a_policy_does_not_allow(forms: Forms, client: Any) -> None:
    small = [["content-length-range", 5, 10]]
    for data, code in ((b"1234", "EntityTooSmall"), (b"x" * 3 * MIB, "EntityTooLarge")):
        told = forms.send(forms.presigned("refused", small), data)
        assert (told.status, told.code) == (400, code)
    fields = forms.presigned("refused", expires_s=-1)
    assert "Policy expired" in (forms.send(fields, b"x").field("Message") or "")
    fields = forms.presigned("refused")
    for changed in (
        {"key": "refused-2"},
        {"x-amz-meta-extra": "not covered"},
        {"Content-Type": "text/html"},
    ):
        told = forms.send(fields | changed, b"x")
        assert (told.status, told.code) == (403, "AccessDenied"), changed
    starts = [["starts-with", "$Content-Type", "image/"]]
    fields = forms.presigned("refused", starts)
    assert forms.send({"Content-Type": "text/html"} | fields, b"x").code == "AccessDenied"
    assert forms.send({"Content-Type": "image/gif"} | fields, b"x").status == 204
    client.delete_object(Bucket="forms", Key="refused")
    for name, value, code in (
        ("x-amz-signature", "0" * 64, "SignatureDoesNotMatch"),
        (
            "x-amz-credential",
            fields["x-amz-credential"].replace(KEY_ID, "NOBODY"),
            "InvalidAccessKeyId",
        ),
        ("policy", "e30=", "SignatureDoesNotMatch"),
        ("x-amz-algorithm", "AWS4", "InvalidArgument"),
    ):
        assert forms.send(fields | {name: value}, b"x").code == code, name
    old = {"AWSAccessKeyId": KEY_ID, "policy": fields["policy"], "signature": "x", "key": "refused"}
    told = forms.send(old, b"x")
    assert (told.code, "AWS4-HMAC-SHA256" in (told.field("Message") or "")) == (
        "InvalidRequest",
        True,
    )
    without = {name: value for name, value in fields.items() if name != "policy"}
    assert forms.send(without, b"x").code == "AccessDenied", "it is signed in part"
    public = forms.presigned("refused", acl="public-read")
    assert forms.send(public, b"x").code == "AccessControlListNotSupported"
    assert forms.send(forms.presigned("refused", acl="private"), b"x").status == 204
    client.delete_object(Bucket="forms", Key="refused")
    assert forms.send(fields, b"x", end=False).code == "MalformedPOSTRequest"
    assert forms.send(fields, b"x", path="/nobodys").code == "AccessDenied", "of another bucket"
    long = forms.presigned("refused") | {"x-ignore-long": "x" * 20_480}
    assert forms.send(long, b"x").code == "MaxPostPreDataLengthExceededError"
    listed = client.list_objects_v2(Bucket="forms", Prefix="refused")
    assert listed["KeyCount"] == 0


def test_what_is_no_form(store: Cluster) -> None:
    signer = Signer(store.s3_ports[0])
    host = {"host": "127.0.0.1"}
    told = signer.send("POST", "/forms", b"{}", host | {"content-type": "application/json"})
    assert told.code == "RequestIsNotMultiPartContent"
    assert signer.send("POST", "/forms?acl", b"", host).code == "AccessDenied"


def test_a_form_that_is_sent_by_curl(forms: Forms, store: Cluster, tmp_path: Path) -> None:
    """A second implementation of the client's side."""
    import shutil
    import subprocess

    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    data = os.urandom(2 * MIB)
    (tmp_path / "f.bin").write_bytes(data)
    flags = []
    for name, value in forms.presigned("curl/${filename}").items():
        flags += ["--form-string", f"{name}={value}"]
    url = f"http://127.0.0.1:{store.s3_ports[0]}/forms"
    done = subprocess.run(
        ["curl", "-sS", "-o", "-", "-w", "%{http_code}", *flags, "-F", "file=@f.bin", url],
        cwd=tmp_path, capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout == b"204"
    assert store.read("forms/curl/f.bin") == data
