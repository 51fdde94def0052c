"""RenameObject as clients see it, asked through the whole door on virtual time."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from unittest.mock import patch

import pytest

from router.blocks import ChunkSource
from router.renames import Renames
from router.targets import Target
from tests.s3_call_kit import md5
from tests.s3_door_kit import S3Door, head_of, open_door, told
from tests.s3_kit import Told

SOURCE = "x-amz-rename-source"
NEVER = "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.fixture(scope="module")
def door() -> Iterator[S3Door]:
    with open_door() as made:
        assert made.ask("PUT", "/photos").status == 200
        yield made


def put(door: S3Door, key: str, body: bytes = b"cat", **headers: str) -> str:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = door.ask("PUT", f"/photos/{key}", body, sent)
    assert answer.status == 200, answer
    return answer.headers["etag"]


def rename(door: S3Door, source: str, key: str, **headers: str) -> Told:
    sent = {SOURCE: source} | {name.replace("_", "-"): value for name, value in headers.items()}
    return door.ask("PUT", f"/photos/{key}?renameObject=", headers=sent)


def body_of(door: S3Door, key: str) -> bytes | None:
    answer = door.ask("GET", f"/photos/{key}")
    return answer.body if answer.status == 200 else None


@pytest.fixture(autouse=True)
def clean(door: S3Door) -> None:
    for key in ("a", "b", "c"):
        door.ask("DELETE", f"/photos/{key}")


def test_the_object_has_the_new_key_and_no_other(door: S3Door) -> None:
    etag = put(door, "a", b"cat", content_type="image/x-cat", x_amz_meta_who="ann",
               x_amz_tagging="k=v", x_amz_website_redirect_location="/b")  # fmt: skip
    before = door.ask("HEAD", "/photos/a", headers={"x-amz-checksum-mode": "ENABLED"}).headers
    answer = rename(door, "a", "b")
    assert (answer.status, answer.body) == (200, b"")
    assert (body_of(door, "a"), body_of(door, "b")) == (None, b"cat")
    after = door.ask("HEAD", "/photos/b", headers={"x-amz-checksum-mode": "ENABLED"}).headers
    assert after["etag"] == etag
    for name in ("content-type", "x-amz-meta-who", "x-amz-tagging-count",
                 "x-amz-website-redirect-location", "x-amz-checksum-crc64nvme"):  # fmt: skip
        assert after[name] == before[name]


def test_the_source_is_percent_encoded(door: S3Door) -> None:
    put(door, "d/%C3%A9%20%25", b"x")
    assert rename(door, "/d/%c3%a9%20%25", "a").status == 200
    assert body_of(door, "a") == b"x"


@pytest.mark.parametrize(
    ("source", "headers", "code"),
    [
        ("", {}, "InvalidArgument"),
        ("/", {}, "InvalidArgument"),
        ("%ff", {}, "InvalidURI"),
        ("nothing", {}, "NoSuchKey"),
        ("a", {}, "InvalidRequest"),
        ("a/", {}, "InvalidRequest"),
        ("b", {"x_amz_client_token": "a b"}, "InvalidArgument"),
        ("b", {"x_amz_client_token": "x" * 65}, "InvalidArgument"),
        ("b", {"x_amz_tagging_directive": "REPLACE"}, "NotImplemented"),
        ("b", {"x_amz_tagging": "a=b"}, "NotImplemented"),
        ("b", {"if_none_match": "*"}, "PreconditionFailed"),
        ("b", {"if_match": "other"}, "PreconditionFailed"),
        ("b", {"if_modified_since": "Sun, 06 Nov 2094 08:49:37 GMT"}, "PreconditionFailed"),
        ("b", {"if_unmodified_since": NEVER}, "PreconditionFailed"),
        ("b", {"x_amz_rename_source_if_match": "other"}, "PreconditionFailed"),
        ("b", {"x_amz_rename_source_if_none_match": "*"}, "PreconditionFailed"),
        ("b", {"x_amz_rename_source_if_unmodified_since": NEVER}, "PreconditionFailed"),
        ("b", {"x_amz_rename_source_if_modified_since": "Sun, 06 Nov 2094 08:49:37 GMT"},
         "PreconditionFailed"),
    ],
)  # fmt: skip
def test_what_cannot_be_changes_nothing(
    door: S3Door, source: str, headers: dict[str, str], code: str
) -> None:
    put(door, "a", b"old")
    put(door, "b", b"new")
    assert rename(door, source, "a", **headers).code == code
    assert (body_of(door, "a"), body_of(door, "b")) == (b"old", b"new")


def test_conditions_that_hold(door: S3Door) -> None:
    etag = put(door, "a", b"new")
    assert (
        rename(door, "a", "b", if_none_match="*", x_amz_rename_source_if_match=etag).status == 200
    )
    older = put(door, "c", b"newest")
    dates = {"if_modified_since": NEVER, "x_amz_rename_source_if_modified_since": NEVER}
    assert rename(door, "c", "b", if_match=etag, **dates).status == 200
    assert door.ask("HEAD", "/photos/b").headers["etag"] == older
    nothing = rename(door, "b", "a", if_modified_since=NEVER)
    assert nothing.code == "PreconditionFailed", "there is nothing that was modified"
    assert rename(door, "b", "a", if_unmodified_since=NEVER).status == 200
    assert body_of(door, "a") == b"newest"


def test_a_key_with_a_slash_behind_it_is_not_renamed(door: S3Door) -> None:
    put(door, "a", b"x")
    assert rename(door, "a", "b/").code == "InvalidRequest"
    assert body_of(door, "a") == b"x"


def test_with_a_token_it_can_be_sent_again(door: S3Door) -> None:
    put(door, "a", b"one")
    for _ in range(2):
        assert rename(door, "a", "b", x_amz_client_token="t").status == 200
    put(door, "a", b"two")
    assert rename(door, "a", "b", x_amz_client_token="t").status == 200, "and does nothing more"
    assert (body_of(door, "a"), body_of(door, "b")) == (b"two", b"one")
    other = rename(door, "c", "b", x_amz_client_token="t")
    assert (other.status, other.code) == (400, "IdempotencyParameterMismatch")
    more = rename(door, "a", "b", x_amz_client_token="t", if_match="x")
    assert more.code == "IdempotencyParameterMismatch"
    assert rename(door, "a", "b", x_amz_client_token="u").status == 200
    assert (body_of(door, "a"), body_of(door, "b")) == (None, b"two")


def test_who_may_not_read_and_delete_the_old_key_renames_nothing(door: S3Door) -> None:
    put(door, "a", b"x")
    for action, key in (("GetObject", "a"), ("DeleteObject", "a"), ("PutObject", "b")):
        resource = f"arn:aws:s3:::photos/{key}"
        denied = {"Effect": "Deny", "Principal": "*", "Action": f"s3:{action}"}
        policy = json.dumps({"Statement": denied | {"Resource": resource}}).encode()
        summed = {"content-md5": md5(policy)}
        assert door.ask("PUT", "/photos?policy=", policy, summed).status == 204
        answer = rename(door, "a", "b")
        assert (answer.status, answer.code) == (403, "AccessDenied")
    assert door.ask("DELETE", "/photos?policy=").status == 204
    anonymous = told(
        door.raw(head_of("PUT", "/photos/b?renameObject=", {"host": "h", SOURCE: "a"}))
    )
    assert anonymous.code == "AccessDenied"
    assert body_of(door, "a") == b"x"


def test_a_bucket_with_versions_is_left_alone(door: S3Door) -> None:
    assert door.ask("PUT", "/films").status == 200
    on = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    assert door.ask("PUT", "/films?versioning=", on).status == 200
    assert door.ask("PUT", "/films/a", b"x").status == 200
    answer = door.ask("PUT", "/films/b?renameObject=", headers={SOURCE: "a"})
    assert (answer.status, answer.code) == (400, "InvalidRequest")
    assert door.ask("GET", "/films/a").body == b"x"


def test_who_may_is_decided_by_the_tags_of_what_is_renamed(door: S3Door) -> None:
    put(door, "a", b"cat")
    secret = {"StringEquals": {"s3:ExistingObjectTag/secret": "yes"}}
    told = {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Condition": secret}
    policy = json.dumps({"Statement": told | {"Resource": "arn:aws:s3:::photos/*"}}).encode()
    summed = {"content-md5": md5(policy)}
    assert door.ask("PUT", "/photos?policy=", policy, summed).status == 204
    alone = Renames._alone

    @asynccontextmanager
    async def waits(renames: Renames, bucket: str, key: str) -> AsyncIterator[None]:
        async with alone(renames, bucket, key):
            target = Target(bucket, key, tags={"secret": "yes"}, empty_allowed=True)
            body = ChunkSource(_nothing(), renames._writes.filler())
            await renames._writes.write(body, target)
            body.close()
            yield

    with patch.object(Renames, "_alone", waits):
        assert rename(door, "a", "b").status == 503
    assert door.ask("DELETE", "/photos?policy=").status == 204
    assert (body_of(door, "a"), body_of(door, "b")) == (b"", None)


async def _nothing() -> AsyncGenerator[bytes, None]:
    for each in ():
        yield each
