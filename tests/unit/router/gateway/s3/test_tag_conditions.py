"""Policies that ask for tags: a whole door without a socket, and callers of all kinds."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request

from common.errors import Forbidden
from common.records import Version
from router.gateway.denials import Denials
from router.gateway.s3.failures import S3Error
from router.gateway.s3.gate import AllRules
from router.gateway.s3.object_facts import ObjectFacts, Tags, none_given
from router.gateway.s3.policy.conditions import ConditionInvalid, condition_of
from router.gateway.s3.policy.model import Policy
from router.gateway.s3.policy.parsing import parse_policy
from router.rights import Key
from tests.s3_gate_kit import ALLOW, BODY, DENIED, Seen

DENY = {"Effect": "Deny", "Principal": "*"}
IS_OPEN = {"StringEquals": {"s3:ExistingObjectTag/stage": "open"}}
ANY_STAGE = {"Null": {"s3:RequestObjectTag/stage": "false"}}


@pytest.fixture
def seen(seen: Seen) -> Seen:
    """Public policies count, too."""
    seen.unblock()
    return seen


def tagging(**tags: str) -> bytes:
    inside = "".join(f"<Tag><Key>{k}</Key><Value>{v}</Value></Tag>" for k, v in tags.items())
    return f"<Tagging><TagSet>{inside}</TagSet></Tagging>".encode()


def test_only_what_is_tagged_so_is_read(seen: Seen) -> None:
    seen.policy(
        ALLOW | {"Action": ["s3:GetObject", "s3:GetObjectVersion"], "Condition": IS_OPEN},
        ALLOW | {"Action": "s3:GetObjectTagging", "Condition": IS_OPEN},
    )
    path = f"/{seen.bucket}/a"
    for sub in ("", "?tagging", "?versionId=null", "?partNumber=1"):
        assert seen.outcome("", "GET", path + sub) == DENIED
    seen.outcome("ANN", "PUT", f"{path}?tagging", tagging(stage="shut"))
    assert seen.outcome("", "GET", path) == DENIED
    seen.outcome("ANN", "PUT", f"{path}?tagging", tagging(Stage="open"))
    assert seen.outcome("", "GET", path) == DENIED, "keys of tags are as they are"
    seen.outcome("ANN", "PUT", f"{path}?tagging", tagging(of="ann", stage="open"))
    for sub in ("", "?tagging", "?versionId=null"):
        assert seen.outcome("", "GET", path + sub) == 200
    assert seen.outcome("", "GET", f"{path}?partNumber=1") == 206
    assert seen.ask("", "HEAD", path).status == 200
    for missing in ("/none", "/b/c", "/a?versionId=none"):
        assert seen.outcome("", "GET", f"/{seen.bucket}{missing}") == DENIED


def test_each_version_has_tags_of_its_own(seen: Seen) -> None:
    enable = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    seen.put("versioning", enable)
    path = f"/{seen.bucket}/a"
    told = seen.ask("ANN", "PUT", path, BODY, x_amz_tagging="stage=open")
    version = told.headers["x-amz-version-id"]
    seen.policy(ALLOW | {"Action": ["s3:GetObject", "s3:GetObjectVersion"], "Condition": IS_OPEN})
    assert seen.outcome("", "GET", path) == 200
    assert seen.outcome("", "GET", f"{path}?versionId={version}") == 200
    assert seen.outcome("", "GET", f"{path}?versionId=null") == DENIED
    assert seen.outcome("ANN", "DELETE", path) == 204
    assert seen.outcome("", "GET", path) == DENIED
    assert seen.outcome("", "GET", f"{path}?versionId={version}") == 200


def test_a_denial_by_tags_takes_from_owners(seen: Seen) -> None:
    """And whoever may not read it cannot change its tags, nor copy it."""
    secret = {"StringEquals": {"s3:ExistingObjectTag/kind": ["secret", "top"]}}
    seen.policy(DENY | {"Action": ["s3:GetObject", "s3:*Tagging"], "Condition": secret})
    path = f"/{seen.bucket}/a"
    assert seen.outcome("ANN", "GET", path) == 200
    assert seen.outcome("ANN", "PUT", f"{path}?tagging", tagging(kind="top")) == 200
    assert seen.outcome("ANN", "GET", path) == DENIED
    assert seen.outcome("ANN", "GET", f"{path}?attributes") == DENIED
    assert seen.outcome("ANN", "DELETE", f"{path}?tagging") == DENIED
    assert seen.outcome("ANN", "PUT", f"{path}?tagging", tagging()) == DENIED
    copy = {"x_amz_copy_source": path, "x_amz_tagging_directive": "REPLACE"}
    assert seen.outcome("ANN", "PUT", f"/{seen.bucket}/x", **copy) == DENIED
    assert seen.outcome("ANN", "GET", f"/{seen.bucket}/b/c") == 200
    assert seen.outcome("ANN", "DELETE", path) == 204, "S3 has no such condition for deletions"


def test_uploads_have_to_be_tagged(seen: Seen) -> None:
    seen.policy(
        ALLOW | {"Action": "s3:PutObject", "Condition": ANY_STAGE},
        ALLOW | {"Action": ["s3:PutObjectTagging", "s3:GetObject", "s3:GetObjectTagging"]},
    )
    path, tagged = f"/{seen.bucket}/x", {"x_amz_tagging": "stage=test&a=b"}
    assert seen.outcome("BOB", "PUT", path, BODY) == DENIED
    assert seen.outcome("BOB", "PUT", path, BODY, x_amz_tagging="a=b") == DENIED
    assert seen.outcome("BOB", "PUT", path, BODY, **tagged) == 200
    assert seen.outcome("BOB", "PUT", path, BODY, x_amz_tagging="a=b&a=c")[1] == "InvalidArgument"
    source = {"x_amz_copy_source": path}
    copy = f"/{seen.bucket}/copy"
    assert seen.outcome("BOB", "PUT", copy, **source) == DENIED, "it names no tags"
    assert seen.outcome("BOB", "PUT", copy, **source, **tagged) == DENIED, "nor takes these"
    replaced = source | tagged | {"x_amz_tagging_directive": "REPLACE"}
    assert seen.outcome("BOB", "PUT", copy, **replaced) == 200


def test_uploads_in_parts_keep_what_they_began_with(seen: Seen) -> None:
    seen.policy(
        ALLOW | {"Action": "s3:PutObject", "Condition": ANY_STAGE},
        ALLOW | {"Action": "s3:PutObjectTagging"},
    )
    path = f"/{seen.bucket}/x"

    def begun(who: str, **headers: str) -> str:
        told = seen.ask(who, "POST", f"{path}?uploads=", **headers).body.decode()
        return told.partition("<UploadId>")[2].partition("<")[0]

    assert seen.outcome("BOB", "POST", f"{path}?uploads=") == DENIED
    upload = begun("BOB", x_amz_tagging="stage=test")
    assert seen.outcome("BOB", "PUT", f"{path}?partNumber=1&uploadId={upload}", BODY) == 200
    part = f"<Part><PartNumber>1</PartNumber><ETag>{hashlib.md5(BODY).hexdigest()}</ETag></Part>"
    root = "CompleteMultipartUpload"
    whole = f"<{root}>{part}</{root}>".encode()
    assert seen.outcome("BOB", "POST", f"{path}?uploadId={upload}", whole) == 200
    other = begun("ANN")
    assert seen.outcome("BOB", "PUT", f"{path}?partNumber=1&uploadId={other}", BODY) == DENIED


def test_what_a_copy_takes_over_is_looked_at_too(seen: Seen) -> None:
    bad = {"StringEquals": {"s3:RequestObjectTag/stage": "bad"}}
    seen.policy(DENY | {"Action": "s3:PutObject", "Condition": bad})
    path = f"/{seen.bucket}/a"
    seen.outcome("ANN", "PUT", f"{path}?tagging", tagging(stage="bad"))
    copy = {"x_amz_copy_source": path}
    assert seen.outcome("ANN", "PUT", f"/{seen.bucket}/x", **copy) == DENIED
    seen.outcome("ANN", "PUT", f"{path}?tagging", tagging(stage="good"))
    assert seen.outcome("ANN", "PUT", f"/{seen.bucket}/x", **copy) == 200


def test_only_some_keys_and_values_may_be_set(seen: Seen) -> None:
    some = {"ForAllValues:StringEquals": {"s3:RequestObjectTagKeys": ["stage", "of"]}}
    kinds = {"StringLikeIfExists": {"s3:RequestObjectTag/stage": "t*"}}
    seen.policy(ALLOW | {"Action": "s3:PutObjectTagging", "Condition": some | kinds})
    path = f"/{seen.bucket}/a?tagging"
    for tags, outcome in (
        ({"stage": "test"}, 200),
        ({"of": "bob", "stage": "try"}, 200),
        ({}, 200),
        ({"stage": "live"}, DENIED),
        ({"stage": "test", "other": "x"}, DENIED),
        ({"Stage": "test"}, DENIED),
    ):
        assert seen.outcome("", "PUT", path, tagging(**tags)) == outcome, tags
    assert seen.outcome("", "PUT", path, b"<Tagging/>")[1] == "MalformedXML"
    any_of = {"ForAnyValue:StringEquals": {"s3:RequestObjectTagKeys": "lock"}}
    seen.policy(DENY | {"Action": "s3:PutObjectTagging", "Condition": any_of})
    assert seen.outcome("ANN", "PUT", path, tagging(a="b", lock="x")) == DENIED
    assert seen.outcome("ANN", "PUT", path, tagging(a="b")) == 200
    assert b"<Key>a</Key>" in seen.ask("ANN", "GET", path).body


def test_rest_denies_by_tags_too(seen: Seen) -> None:
    """What a key may is taken away at both ports."""
    seen.policy(DENY | {"Action": "s3:GetObject", "Condition": IS_OPEN})
    store = seen.door.store
    denials = Denials(AllRules(store.meta.buckets), store.meta, store.world.clock)
    key = Key("ANN", "secret", "ann", False, {})
    name = (seen.bucket, "a")

    async def check() -> None:
        request = make_mocked_request("GET", f"/file/{seen.bucket}/a")
        await denials.check(request, key, None, "GetObject", name)

    seen.door.run(check())
    seen.outcome("ANN", "PUT", f"/{seen.bucket}/a?tagging", tagging(stage="open"))
    with pytest.raises(Forbidden):
        seen.door.run(check())


def policy(*conditions: dict[str, Any]) -> Policy:
    statements = [
        DENY | {"Action": "s3:*", "Resource": "arn:aws:s3:::b/*", "Condition": each}
        for each in conditions
    ]
    return parse_policy(json.dumps({"Statement": statements}).encode(), "b")


class Files:
    """A coordinator that counts what it is asked."""

    def __init__(self, tags: dict[str, str]) -> None:
        self.tags, self.asked = tags, 0
        self.files = self

    async def resolve(self, bucket: str, key: str) -> Version:
        self.asked += 1
        return version(self.tags)


def version(tags: dict[str, str]) -> Version:
    return Version("b", "k", 1, 1, "e", 1, (), tags=tags)


async def test_nothing_is_looked_for_that_no_policy_asks() -> None:
    async def given() -> Tags:
        raise AssertionError

    files = Files({"a": "b"})
    facts = ObjectFacts(files, given)  # type: ignore[arg-type]
    name = ("b", "k", None)
    plain = policy({"StringEquals": {"aws:username": "ann"}})
    assert await facts.values(plain, "GetObject", name) == {}
    assert await facts.values(policy(IS_OPEN), "DeleteObject", name) == {}
    assert await facts.values(policy(IS_OPEN), "PutObject", name) == {}
    assert await facts.values(policy(ANY_STAGE), "GetObject", name) == {}
    assert files.asked == 0
    for _ in range(2):
        found = await facts.values(policy(IS_OPEN), "GetObject", name)
        assert found == {"s3:existingobjecttag/a": ["b"]}
    assert files.asked == 1


async def test_what_was_decided_by_other_tags_does_not_count() -> None:
    facts = ObjectFacts(Files({"a": "b"}), none_given)  # type: ignore[arg-type]
    name = ("b", "k", None)
    facts.confirm(name, version({"x": "y"}))
    await facts.values(policy(IS_OPEN), "GetObject", name)
    facts.confirm(name, version({"a": "b"}))
    facts.confirm(("b", "k", "null"), version({}))
    with pytest.raises(S3Error) as caught:
        facts.confirm(name, version({"a": "c"}))
    assert caught.value.code == "ServiceUnavailable"


@pytest.mark.parametrize(
    ("operator", "key"),
    [
        ("StringEquals", "s3:ExistingObjectTag/"),
        ("StringEquals", "s3:ExistingObjectTag"),
        ("StringEquals", "s3:ExistingObjectTags/a"),
        ("StringEquals", "s3:RequestObjectTag/" + 129 * "x"),
        ("NumericEquals", "s3:RequestObjectTag/a"),
        ("StringEquals", "s3:RequestObjectTagKeys/a"),
    ],
)
def test_conditions_that_are_none(operator: str, key: str) -> None:
    with pytest.raises(ConditionInvalid):
        condition_of(operator, key, ["1"], variables=True)


def test_keys_of_tags_are_as_they_are() -> None:
    both = {"S3:existingOBJECTtag/A": "x", "s3:ExistingObjectTag/a": "y"}
    found = policy({"StringEquals": both}).statements[0].conditions
    assert [each.key for each in found] == ["s3:existingobjecttag/A", "s3:existingobjecttag/a"]


@pytest.mark.parametrize("name", ["s3:ExistingObjectTag/a", "s3:RequestObjectTagKeys"])
def test_tags_are_no_variables(name: str) -> None:
    with pytest.raises(ConditionInvalid):
        condition_of("StringEquals", "aws:username", [f"${{{name}}}"], variables=True)
