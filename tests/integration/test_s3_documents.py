"""What is set for buckets and objects through boto3: tags, CORS, lifecycle rules."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.s3_kit import Signer, Told, refusal, s3_cluster
from tests.store_kit import Cluster, eventually

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    flags = ("--lifecycle-period-s", "1")
    with s3_cluster(tmp_path_factory.mktemp("s3"), putters=2, router_flags=flags) as made:
        yield made


def refused(call: Callable[[], Any]) -> tuple[str, int]:
    with pytest.raises(ClientError) as caught:
        call()
    return refusal(caught.value)


def tag_set(**tags: str) -> dict[str, list[dict[str, str]]]:
    return {"TagSet": [{"Key": key, "Value": value} for key, value in tags.items()]}


def tags_of(told: Any) -> dict[str, str]:
    return {each["Key"]: each["Value"] for each in told["TagSet"]}


# -- tags of buckets -----------------------------------------------------------------------


def test_tags_of_a_bucket(store: Cluster, client: Any, bucket: str) -> None:
    where = {"Bucket": bucket}
    assert refused(lambda: client.get_bucket_tagging(**where)) == ("NoSuchTagSet", 404)
    for tags in ({"a": "1", "b": ""}, {"c": "ü é"}):
        put = client.put_bucket_tagging(**where, Tagging=tag_set(**tags))
        assert put["ResponseMetadata"]["HTTPStatusCode"] == 204
        assert tags_of(client.get_bucket_tagging(**where)) == tags
    many = {f"k{n}": "v" for n in range(51)}
    answer = refused(lambda: client.put_bucket_tagging(**where, Tagging=tag_set(**many)))
    assert answer == ("BadRequest", 400)
    body = b"<Tagging><TagSet></TagSet></Tagging>"
    bare = Signer(store.s3_ports[0]).ask("PUT", f"/{bucket}?tagging", body)
    assert (bare.status, bare.code) == (400, "InvalidRequest")
    for _ in range(2):
        gone = client.delete_bucket_tagging(**where)
        assert gone["ResponseMetadata"]["HTTPStatusCode"] == 204
        assert refused(lambda: client.get_bucket_tagging(**where)) == ("NoSuchTagSet", 404)
    for call in (client.get_bucket_tagging, client.delete_bucket_tagging):
        missing = refused(lambda call=call: call(Bucket="no-such-bucket"))
        assert missing == ("NoSuchBucket", 404)


# -- tags of objects -----------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 10, 3_000_000])
def test_tags_of_an_object(client: Any, bucket: str, size: int) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    body = random.Random(size).randbytes(size)
    put = client.put_object(**where, Body=body, Tagging="a=1&b=%C3%BC+")
    assert tags_of(client.get_object_tagging(**where)) == {"a": "1", "b": "ü "}
    head = client.head_object(**where)
    told = client.get_object(**where)
    assert told["TagCount"] == 2
    assert told["Body"].read() == body
    for tags in ({"c": "x/y"}, {f"k{n}": "v" for n in range(10)}):
        client.put_object_tagging(**where, Tagging=tag_set(**tags))
        assert tags_of(client.get_object_tagging(**where)) == tags
    after = client.head_object(**where)
    assert (after["ETag"], after["LastModified"]) == (put["ETag"], head["LastModified"])
    gone = client.delete_object_tagging(**where)
    assert gone["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert tags_of(client.get_object_tagging(**where)) == {}
    told = client.get_object(**where)
    assert "TagCount" not in told
    assert (told["Body"].read(), told["LastModified"]) == (body, head["LastModified"])


def test_tags_that_are_refused(client: Any, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    assert refused(lambda: client.put_object(**where, Tagging="aws:a=1")) == ("InvalidTag", 400)
    assert refused(lambda: client.put_object(**where, Tagging="a=1&a=2"))[0] == "InvalidArgument"
    for call in (
        lambda: client.get_object_tagging(**where),
        lambda: client.put_object_tagging(**where, Tagging=tag_set(a="1")),
        lambda: client.delete_object_tagging(**where),
    ):
        assert refused(call) == ("NoSuchKey", 404)
    client.put_object(**where, Body=b"x", Tagging="a=1")
    many = tag_set(**{f"k{n}": "v" for n in range(11)})
    for tagging, code in ((many, "BadRequest"), (tag_set(a="*"), "InvalidTag")):
        answer = refused(lambda t=tagging: client.put_object_tagging(**where, Tagging=t))
        assert answer == (code, 400)
    assert tags_of(client.get_object_tagging(**where)) == {"a": "1"}
    missing = refused(lambda: client.get_object_tagging(Bucket="no-such-bucket", Key="k"))
    assert missing == ("NoSuchBucket", 404)


def test_tags_of_copies_and_of_uploads_in_parts(client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="one", Body=b"x", Tagging="a=1")
    where = {"Bucket": bucket, "CopySource": f"{bucket}/one"}
    client.copy_object(**where, Key="same")
    client.copy_object(**where, Key="other", TaggingDirective="REPLACE", Tagging="b=2")
    client.copy_object(**where, Key="none", TaggingDirective="REPLACE")
    told = {
        key: tags_of(client.get_object_tagging(Bucket=bucket, Key=key))
        for key in ("same", "other", "none")
    }
    assert told == {"same": {"a": "1"}, "other": {"b": "2"}, "none": {}}
    parts = {"Bucket": bucket, "Key": "parts"}
    assert (
        refused(lambda: client.create_multipart_upload(**parts, Tagging="a=*"))[0] == "InvalidTag"
    )
    parts["UploadId"] = client.create_multipart_upload(**parts, Tagging="c=3")["UploadId"]
    part = client.upload_part(**parts, PartNumber=1, Body=b"x")
    listed = [{"PartNumber": 1, "ETag": part["ETag"]}]
    client.complete_multipart_upload(**parts, MultipartUpload={"Parts": listed})
    assert tags_of(client.get_object_tagging(Bucket=bucket, Key="parts")) == {"c": "3"}


def test_tags_of_one_version(client: Any, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    client.put_object(**where, Body=b"null", Tagging="a=null")
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    ids = ["null"]
    for n in range(2):
        put = client.put_object(**where, Body=f"{n}".encode(), Tagging=f"a={n}")
        ids.append(put["VersionId"])
    expected = {"null": "null", ids[1]: "0", ids[2]: "1"}

    def told() -> dict[str, str]:
        return {
            each: tags_of(client.get_object_tagging(**where, VersionId=each)).get("a", "")
            for each in ids
        }

    assert told() == expected
    for each, value in (("null", "x"), (ids[1], "y")):
        done = client.put_object_tagging(**where, VersionId=each, Tagging=tag_set(a=value))
        assert done["VersionId"] == each
        expected[each] = value
        assert told() == expected
    assert client.put_object_tagging(**where, Tagging=tag_set(a="z"))["VersionId"] == ids[2]
    expected[ids[2]] = "z"
    assert told() == expected
    assert client.get_object(**where, VersionId=ids[1])["TagCount"] == 1
    client.delete_object_tagging(**where, VersionId=ids[1])
    expected[ids[1]] = ""
    assert told() == expected
    client.delete_object(**where)
    assert refused(lambda: client.get_object_tagging(**where))[1] == 404
    assert told() == expected


def test_who_may_not_tag_makes_no_object_with_tags(client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="one", Body=b"x", Tagging="a=1")
    what = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObjectTagging"}
    policy = {
        "Version": "2012-10-17",
        "Statement": [what | {"Resource": f"arn:aws:s3:::{bucket}/*"}],
    }
    client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    where = {"Bucket": bucket, "Key": "two"}
    copy = where | {"CopySource": f"{bucket}/one"}
    for call in (
        lambda: client.put_object_tagging(Bucket=bucket, Key="one", Tagging=tag_set(b="2")),
        lambda: client.put_object(**where, Tagging="a=1"),
        lambda: client.create_multipart_upload(**where, Tagging="a=1"),
        lambda: client.copy_object(**copy),
    ):
        assert refused(call) == ("AccessDenied", 403)
    client.copy_object(**copy, TaggingDirective="REPLACE")
    client.put_object(**where, Body=b"y")
    assert tags_of(client.get_object_tagging(**where)) == {}


# -- CORS ----------------------------------------------------------------------------------

PAGE = "https://page.example"
RULE = {
    "AllowedOrigins": [PAGE],
    "AllowedMethods": ["GET", "PUT"],
    "AllowedHeaders": ["x-amz-*", "authorization"],
    "ExposeHeaders": ["ETag"],
    "MaxAgeSeconds": 60,
}


def preflight(
    signer: Signer, path: str, origin: str = PAGE, method: str = "PUT", headers: str = ""
) -> Told:
    asked = {"Host": "s3", "Origin": origin, "Access-Control-Request-Method": method}
    if headers:
        asked["Access-Control-Request-Headers"] = headers
    return signer.send("OPTIONS", path, b"", asked)


def test_rules_of_a_bucket(client: Any, bucket: str) -> None:
    where = {"Bucket": bucket}
    absent = ("NoSuchCORSConfiguration", 404)
    assert refused(lambda: client.get_bucket_cors(**where)) == absent
    client.put_bucket_cors(**where, CORSConfiguration={"CORSRules": [RULE, RULE | {"ID": "two"}]})
    assert client.get_bucket_cors(**where)["CORSRules"] == [RULE, RULE | {"ID": "two"}]
    wild = {"CORSRules": [RULE | {"AllowedOrigins": ["http://*.*"]}]}
    answer = refused(lambda: client.put_bucket_cors(**where, CORSConfiguration=wild))
    assert answer == ("InvalidRequest", 400)
    for _ in range(2):
        gone = client.delete_bucket_cors(**where)
        assert gone["ResponseMetadata"]["HTTPStatusCode"] == 204
        assert refused(lambda: client.get_bucket_cors(**where)) == absent
    for call in (client.get_bucket_cors, client.delete_bucket_cors):
        missing = refused(lambda call=call: call(Bucket="no-such-bucket"))
        assert missing == ("NoSuchBucket", 404)


def test_what_a_browser_asks_first(store: Cluster, client: Any, bucket: str) -> None:
    signer = Signer(store.s3_ports[0])
    path = f"/{bucket}/a/b"
    told = preflight(signer, path)
    assert (told.status, told.code) == (403, "AccessForbidden")
    assert told.field("ResourceType") == "OBJECT"
    client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [RULE]})
    told = preflight(signer, path, headers="X-Amz-Date, Authorization")
    assert (told.status, told.body) == (200, b"")
    assert told.headers["access-control-allow-origin"] == PAGE
    assert told.headers["access-control-allow-methods"] == "GET, PUT"
    assert told.headers["access-control-allow-headers"] == "x-amz-date, authorization"
    assert told.headers["access-control-max-age"] == "60"
    assert told.headers["access-control-allow-credentials"] == "true"
    assert told.headers["vary"].startswith("Origin")
    for other in ({"origin": "https://other.example"}, {"method": "DELETE"}, {"headers": "x-y"}):
        told = preflight(signer, path, **other)
        assert (told.status, told.code) == (403, "AccessForbidden")
        assert "access-control-allow-origin" not in told.headers
    assert preflight(signer, "/no-such-bucket/a").status == 403
    assert preflight(signer, path, method="TRACE").status == 400
    assert signer.send("OPTIONS", path, b"", {"Host": "s3"}).status == 400


def test_what_a_page_of_another_origin_is_told(store: Cluster, client: Any, bucket: str) -> None:
    signer = Signer(store.s3_ports[0])
    client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [RULE]})
    client.put_object(Bucket=bucket, Key="large", Body=b"x" * 3_000_000)
    client.put_object(Bucket=bucket, Key="small", Body=b"x")
    for key, status in (("small", 200), ("large", 200), ("missing", 404)):
        told = signer.ask("GET", f"/{bucket}/{key}", headers={"Origin": PAGE})
        assert told.status == status
        assert told.headers["access-control-allow-origin"] == PAGE
        assert told.headers["access-control-expose-headers"] == "ETag"
        assert told.headers["vary"].startswith("Origin")
    nobody = signer.send("GET", f"/{bucket}/small", b"", {"Host": "s3", "Origin": PAGE})
    assert nobody.status == 403
    assert nobody.headers["access-control-allow-origin"] == PAGE, "a script may see that"
    other = signer.ask("GET", f"/{bucket}/small", headers={"Origin": "https://other.example"})
    assert (other.status, other.body) == (200, b"x"), (
        "it is the browser that keeps it from a script"
    )
    assert "access-control-allow-origin" not in other.headers
    assert other.headers["vary"].startswith("Origin")
    plain = signer.ask("GET", f"/{bucket}/small")
    assert not plain.headers.keys() & {"vary", "access-control-allow-origin"}
    client.delete_bucket_cors(Bucket=bucket)
    told = signer.ask("GET", f"/{bucket}/small", headers={"Origin": PAGE})
    assert not told.headers.keys() & {"vary", "access-control-allow-origin"}


# -- lifecycle -----------------------------------------------------------------------------


def test_rules_of_a_bucket_are_set_told_and_carried_out(
    store: Cluster, client: Any, bucket: str
) -> None:
    where = {"Bucket": bucket}
    absent = ("NoSuchLifecycleConfiguration", 404)
    assert refused(lambda: client.get_bucket_lifecycle_configuration(**where)) == absent
    for key in ("old/a", "old/b", "kept"):
        client.put_object(**where, Key=key, Body=b"x")
    rules = [
        {
            "ID": "past",
            "Filter": {"Prefix": "old/"},
            "Status": "Enabled",
            "Expiration": {"Date": datetime(2020, 1, 1, tzinfo=UTC)},
        },
        {
            "ID": "later",
            "Filter": {"And": {"Prefix": "", "Tags": [{"Key": "a", "Value": "b"}]}},
            "Status": "Disabled",
            "Expiration": {"Days": 30},
            "NoncurrentVersionExpiration": {"NoncurrentDays": 2, "NewerNoncurrentVersions": 3},
        },
    ]
    least = {"TransitionDefaultMinimumObjectSize": "all_storage_classes_128K"}
    put = client.put_bucket_lifecycle_configuration(
        **where, **least, LifecycleConfiguration={"Rules": rules}
    )
    told = client.get_bucket_lifecycle_configuration(**where)
    assert told["Rules"] == rules
    assert least.items() <= put.items()
    assert least.items() <= told.items(), "provisioning tools compare it"

    def names() -> list[str]:
        listed = client.list_objects_v2(**where)
        return [each["Key"] for each in listed.get("Contents", [])]

    def is_counted() -> bool:
        _, _, metrics = store.http("GET", "/metrics")
        return b'putter_lifecycle_expired_total{what="objects"} 2.0' in metrics

    eventually(lambda: names() == ["kept"])
    eventually(is_counted)
    moved = [rules[0] | {"Transitions": [{"Days": 1, "StorageClass": "GLACIER"}]}]
    rules[1] |= {"Status": "Enabled"}
    client.put_bucket_lifecycle_configuration(**where, LifecycleConfiguration={"Rules": rules})
    written = client.put_object(**where, Key="tagged", Body=b"x", Tagging="a=b")
    assert written["Expiration"].endswith('GMT", rule-id="later"')
    for read in (client.get_object, client.head_object):
        assert read(**where, Key="tagged")["Expiration"] == written["Expiration"]
        assert "Expiration" not in read(**where, Key="kept")
    call = client.put_bucket_lifecycle_configuration
    answer = refused(lambda: call(**where, LifecycleConfiguration={"Rules": moved}))
    assert answer == ("NotImplemented", 501)
    assert client.get_bucket_lifecycle_configuration(**where)["Rules"] == rules
    for _ in range(2):
        client.delete_bucket_lifecycle(**where)
        assert refused(lambda: client.get_bucket_lifecycle_configuration(**where)) == absent
