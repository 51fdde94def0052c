"""What is set for buckets and objects through boto3: tags, CORS; kept as long as they are."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.s3_kit import Signer, refusal, s3, s3_cluster
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
