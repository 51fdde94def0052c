"""What is set for buckets and objects through boto3: tags, CORS."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.s3_kit import Signer, Told, refusal, s3, s3_cluster
from tests.store_kit import Cluster

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with s3_cluster(tmp_path_factory.mktemp("s3"), putters=2) as made:
        yield made


@pytest.fixture
def client(store: Cluster) -> Iterator[Any]:
    with s3(store.s3_ports[0]) as made:
        yield made


@pytest.fixture
def bucket(client: Any) -> str:
    name = f"b-{random.randrange(10**12)}"
    client.create_bucket(Bucket=name)
    return name


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
