"""Buckets that are shared, with real processes: boto3, the aws cli, and a Redis that was lost."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore import UNSIGNED
from botocore.exceptions import ClientError

from tests.s3_kit import KEY_ID, REGION, SECRET, Signer, Told, refusal, s3, s3_cluster
from tests.store_kit import ROOT, Cluster, eventually
from tests.traffic_kit import payload

pytestmark = pytest.mark.slow
DENIED = ("AccessDenied", 403)
FLAGS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with s3_cluster(tmp_path_factory.mktemp("access"), putters=2, routers=2) as made:
        yield made


@pytest.fixture
def anybody(store: Cluster) -> Iterator[Any]:
    with s3(store.s3_ports[0], signature_version=UNSIGNED) as made:
        yield made


def refused(call: Any) -> tuple[str, int]:
    with pytest.raises(ClientError) as caught:
        call()
    return refusal(caught.value)


def flags(*on: str) -> dict[str, bool]:
    return {flag: flag in on for flag in FLAGS}


def public(bucket: str, *actions: str) -> str:
    arn = f"arn:aws:s3:::{bucket}"
    told = {"Effect": "Allow", "Principal": "*", "Action": actions, "Resource": [arn, f"{arn}/*"]}
    return json.dumps({"Version": "2012-10-17", "Statement": [told]})


def opened(client: Any, bucket: str, *actions: str) -> str:
    """A bucket in which everybody may do this, and what is told of its policy."""
    client.create_bucket(Bucket=bucket)
    client.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=flags())
    policy = public(bucket, *actions)
    client.put_bucket_policy(Bucket=bucket, Policy=policy)
    assert client.get_bucket_policy(Bucket=bucket)["Policy"] == policy
    return bucket


def test_everything_that_is_set_is_told(client: Any, anybody: Any) -> None:
    name = {"Bucket": "told"}
    client.create_bucket(**name)
    told = client.get_public_access_block(**name)["PublicAccessBlockConfiguration"]
    assert told == flags(*FLAGS)
    assert refused(lambda: client.get_bucket_policy(**name)) == ("NoSuchBucketPolicy", 404)
    status = refused(lambda: client.get_bucket_policy_status(**name))
    assert status == ("NoSuchBucketPolicy", 404)
    some = public("told", "s3:*")
    assert refused(lambda: client.put_bucket_policy(**name, Policy=some)) == DENIED
    client.put_public_access_block(**name, PublicAccessBlockConfiguration=flags(FLAGS[0]))
    told = client.get_public_access_block(**name)["PublicAccessBlockConfiguration"]
    assert told == flags(FLAGS[0])
    client.put_bucket_policy(**name, Policy=some)
    assert client.get_bucket_policy_status(**name)["PolicyStatus"] == {"IsPublic": True}
    wrong = refused(lambda: client.put_bucket_policy(**name, Policy="{}"))
    assert wrong == ("MalformedPolicy", 400)
    client.delete_bucket_policy(**name)
    client.delete_bucket_policy(**name)
    client.delete_public_access_block(**name)
    gone = refused(lambda: client.get_public_access_block(**name))
    assert gone == ("NoSuchPublicAccessBlockConfiguration", 404)
    rules = client.get_bucket_ownership_controls(**name)["OwnershipControls"]["Rules"]
    assert rules == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    wanted = {"Rules": [{"ObjectOwnership": "BucketOwnerPreferred"}]}
    client.put_bucket_ownership_controls(**name, OwnershipControls=wanted)
    client.put_bucket_acl(**name, ACL="public-read")
    acl = client.get_bucket_acl(**name)
    groups = [each["Grantee"].get("URI", "").rpartition("/")[2] for each in acl["Grants"]]
    assert groups == ["", "AllUsers"]
    client.put_bucket_acl(
        **name, AccessControlPolicy={"Owner": acl["Owner"], "Grants": acl["Grants"][:1]}
    )
    assert len(client.get_bucket_acl(**name)["Grants"]) == 1
    client.put_object(**name, Key="a", Body=b"x", ACL="public-read")
    assert anybody.get_object(**name, Key="a")["Body"].read() == b"x"
    acl = client.get_object_acl(**name, Key="a")
    owners = {"Owner": acl["Owner"], "Grants": acl["Grants"][:1]}
    client.put_object_acl(**name, Key="a", AccessControlPolicy=owners)
    assert refused(lambda: anybody.get_object(**name, Key="a")) == DENIED
    client.put_object_acl(
        **name, Key="a", AccessControlPolicy={"Owner": acl["Owner"], "Grants": acl["Grants"]}
    )
    assert client.get_object_acl(**name, Key="a")["Grants"] == acl["Grants"]
    assert anybody.get_object(**name, Key="a")["Body"].read() == b"x"
    client.delete_bucket_ownership_controls(**name)
    gone = refused(lambda: client.get_bucket_ownership_controls(**name))
    assert gone == ("OwnershipControlsNotFoundError", 404)
    assert refused(lambda: client.put_bucket_policy(Bucket="nowhere", Policy=some))[1] == 400
    nowhere = public("nowhere", "s3:*")
    gone = refused(lambda: client.put_bucket_policy(Bucket="nowhere", Policy=nowhere))
    assert gone == ("NoSuchBucket", 404)


def test_anybody_reads_and_writes(client: Any, anybody: Any) -> None:
    data = payload(300_000)
    name = opened(client, "for-anybody", "s3:GetObject", "s3:PutObject", "s3:ListBucket")
    anybody.put_object(Bucket=name, Key="a", Body=data)
    assert anybody.get_object(Bucket=name, Key="a")["Body"].read() == data
    assert anybody.head_object(Bucket=name, Key="a")["ContentLength"] == len(data)
    listed = anybody.list_objects_v2(Bucket=name, FetchOwner=True)["Contents"]
    assert [(each["Key"], each["Owner"]["DisplayName"]) for each in listed] == [("a", "root")]
    assert refused(lambda: anybody.delete_object(Bucket=name, Key="a")) == DENIED
    assert refused(lambda: anybody.create_multipart_upload(Bucket=name, Key="m")) == DENIED
    assert refused(anybody.list_buckets) == DENIED
    assert refused(lambda: anybody.create_bucket(Bucket="mine")) == DENIED
    block = flags("RestrictPublicBuckets")
    client.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=block)
    assert refused(lambda: anybody.get_object(Bucket=name, Key="a")) == DENIED
    assert client.get_object(Bucket=name, Key="a")["ContentLength"] == len(data)


def test_a_host_of_its_own_opens_no_other_door(store: Cluster, client: Any) -> None:
    name = opened(client, "has-a-host", "s3:GetObject")
    deny = json.loads(client.get_bucket_policy(Bucket=name)["Policy"])
    deny["Statement"][0]["Resource"] = f"arn:aws:s3:::{name}/pub/*"
    client.put_bucket_policy(Bucket=name, Policy=json.dumps(deny))
    for key in ("pub/x", "x"):
        client.put_object(Bucket=name, Key=key, Body=key.encode())
    sender = Signer(store.s3_ports[0])
    host = {"host": f"{name}.s3.test"}
    assert sender.send("GET", "/pub/x", b"", host).body == b"pub/x"
    for path in ("/x", f"/{name}/pub/x", "//pub/x"):
        assert sender.send("GET", path, b"", host).code == "AccessDenied"


def test_forms_heed_a_denial(store: Cluster, client: Any) -> None:
    client.create_bucket(Bucket="takes-forms")
    told = client.generate_presigned_post("takes-forms", "in/${filename}")
    lines = [
        f'--x\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in told["fields"].items()
    ]
    file = 'content-disposition: form-data; name="file"; filename="f"\r\n\r\nbytes\r\n--x--\r\n'
    body = f"{''.join(lines)}--x\r\n{file}".encode()
    headers = {"host": "h", "content-type": "multipart/form-data; boundary=x"}
    sender = Signer(store.s3_ports[0])
    assert sender.send("POST", "/takes-forms", body, headers).status == 204
    deny = json.loads(public("takes-forms", "s3:PutObject"))
    deny["Statement"][0] |= {"Effect": "Deny", "Resource": "arn:aws:s3:::takes-forms/in/f"}
    client.put_bucket_policy(Bucket="takes-forms", Policy=json.dumps(deny))
    assert sender.send("POST", "/takes-forms", body, headers).code == "AccessDenied"


def test_the_short_way_asks_too(store: Cluster, client: Any) -> None:
    """GetObject of a small object, signed, is answered without the rest of the door."""
    client.create_bucket(Bucket="short-way")
    client.put_object(Bucket="short-way", Key="k", Body=b"x")
    assert client.get_object(Bucket="short-way", Key="k")["Body"].read() == b"x"
    deny = json.loads(public("short-way", "s3:GetObject"))
    deny["Statement"][0] |= {"Effect": "Deny", "Resource": "arn:aws:s3:::short-way/k"}
    client.put_bucket_policy(Bucket="short-way", Policy=json.dumps(deny))
    assert refused(lambda: client.get_object(Bucket="short-way", Key="k")) == DENIED
    with s3(store.s3_ports[1]) as other:

        def denied() -> None:
            outcome = None
            try:
                other.get_object(Bucket="short-way", Key="k")
            except ClientError as error:
                outcome = refusal(error)
            assert outcome == DENIED

        eventually(denied)


def test_a_bucket_is_a_website_through_every_router(store: Cluster, client: Any) -> None:
    name = opened(client, "site-of-many-pages", "s3:GetObject", "s3:ListBucket")
    wanted = {
        "IndexDocument": {"Suffix": "index.html"},
        "ErrorDocument": {"Key": "404.html"},
        "RoutingRules": [
            {
                "Condition": {"KeyPrefixEquals": "old/", "HttpErrorCodeReturnedEquals": "404"},
                "Redirect": {"HttpRedirectCode": "302", "ReplaceKeyPrefixWith": "new/"},
            }
        ],
    }
    client.put_bucket_website(Bucket=name, WebsiteConfiguration=wanted)
    found = client.get_bucket_website(Bucket=name)
    assert {each: found[each] for each in wanted} == wanted
    large = payload(3_000_000)
    for key, body in (("index.html", large), ("404.html", b"not here"), ("new/x", b"x")):
        client.put_object(Bucket=name, Key=key, Body=body, ContentType="text/html")
    begun = client.create_multipart_upload(
        Bucket=name, Key="sent", WebsiteRedirectLocation="/new/x"
    )
    part = {"Bucket": name, "Key": "sent", "UploadId": begun["UploadId"]}
    tag = client.upload_part(**part, PartNumber=1, Body=b"y")["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": tag}]}
    client.complete_multipart_upload(**part, MultipartUpload=parts)
    assert client.head_object(Bucket=name, Key="sent")["WebsiteRedirectLocation"] == "/new/x"
    for port in store.s3_ports:

        def visit(path: str, port: int = port, **headers: str) -> Told:
            host = {"host": f"{name}.web.test:{port}"}
            return Signer(port).send("GET", path, b"", host | headers)

        eventually(lambda visit=visit: _same(visit("/").body, large))
        part_of = visit("/", range="bytes=1000000-1999999")
        assert (part_of.status, part_of.body) == (206, large[1_000_000:2_000_000])
        assert visit("/sent").headers["location"] == "/new/x"
        sent = visit("/old/x")
        assert (sent.status, sent.headers["location"]) == (302, "/new/x")
        missing = visit("/nothing")
        assert (missing.status, missing.body) == (404, b"not here")
        assert missing.headers["content-type"] == "text/html"
    client.delete_bucket_website(Bucket=name)
    gone = refused(lambda: client.get_bucket_website(Bucket=name))
    assert gone == ("NoSuchWebsiteConfiguration", 404)


def _same(found: bytes, wanted: bytes) -> None:
    assert found == wanted


def test_what_the_document_says(store: Cluster, tmp_path: Path) -> None:
    """The commands of docs/howto/public-buckets.md, one after the other."""
    outcomes = outcomes_of("public-buckets.md", store, tmp_path, 5)
    port = str(store.s3_ports[0])
    assert '"IsPublic": true' in outcomes[1]
    assert outcomes[2].count("hello") == 2
    closed = run(port, tmp_path, f"curl -s http://127.0.0.1:{port}/photos/2026/cat.txt")
    assert "AccessDenied" in closed


def test_what_the_document_of_websites_says(store: Cluster, tmp_path: Path) -> None:
    """The commands of docs/howto/website.md, one after the other."""
    outcomes = outcomes_of("website.md", store, tmp_path, 4)
    assert outcomes[-1] == "<h1>hello</h1>\n"


def outcomes_of(page: str, store: Cluster, directory: Path, count: int) -> list[str]:
    """What the commands of a page say."""
    text = (ROOT / "docs" / "howto" / page).read_text("utf-8")
    blocks = re.findall(r"<!-- test: (\S+) -->\n *```\w+\n(.*?)\n *```", text, re.DOTALL)
    assert len(blocks) == count
    port = str(store.s3_ports[0])
    outcomes = []
    for what, block in blocks:
        if what != "commands":
            (directory / what).write_text(block)
            continue
        script = block.replace("5003", port).replace("web.example.org", "web.test")
        outcomes.append(run(port, directory, script))
    return outcomes


def run(port: str, directory: Path, script: str) -> str:
    """What a shell says that knows the store from its environment."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for program in ("aws", "bash", "curl"):
        if shutil.which(program, path=path) is None:
            pytest.skip(f"{program} is neither beside Python nor on the PATH")
    done = subprocess.run(
        ["bash", "-c", f"set -eo pipefail\n{script}"],
        cwd=directory,
        env={
            "PATH": path,
            "HOME": str(directory),
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_of_it_is_there_again_when_redis_was_lost(store: Cluster, client: Any) -> None:
    name = opened(client, "kept-for-ever", "s3:GetObject")
    client.put_object(Bucket=name, Key="k", Body=b"x")
    wanted = {"Rules": [{"ObjectOwnership": "ObjectWriter"}]}
    client.put_bucket_ownership_controls(Bucket=name, OwnershipControls=wanted)
    client.put_bucket_acl(Bucket=name, ACL="public-read")

    def told(client: Any) -> list[Any]:
        asked = (
            client.get_bucket_policy, client.get_bucket_policy_status,
            client.get_public_access_block, client.get_bucket_ownership_controls,
            client.get_bucket_acl,
        )  # fmt: skip
        answers = [ask(Bucket=name) for ask in asked]
        return [{n: v for n, v in each.items() if n != "ResponseMetadata"} for each in answers]

    before = told(client)
    for router in store.routers:
        router.stop()
    store.valkey.stop()
    store.valkey.forget()
    store.valkey.start()
    for router in store.routers:
        router._argv = [*router._argv, "--rebuild", "auto"]
        router.start()
    for number in range(len(store.routers)):
        store.wait_ready(number)

    def restored() -> None:
        with s3(store.s3_ports[1]) as again:
            try:
                assert told(again) == before
            except ClientError as error:
                raise AssertionError(str(error)) from error

    eventually(restored)
    with s3(store.s3_ports[1], signature_version=UNSIGNED) as anybody:
        assert anybody.get_object(Bucket=name, Key="k")["Body"].read() == b"x"
        assert [each["Key"] for each in anybody.list_objects_v2(Bucket=name)["Contents"]] == ["k"]
        assert refused(lambda: anybody.put_object(Bucket=name, Key="k", Body=b"")) == DENIED
