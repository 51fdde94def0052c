"""What is a policy; what is not evaluated is refused with a word on why."""

from __future__ import annotations

import json
from typing import Any

import pytest

from common.limits import S3_BUCKET_POLICY_BYTES_MAX
from router.gateway.s3.failures import S3Error
from router.gateway.s3.policy.model import Policy, Principals
from router.gateway.s3.policy.parsing import parse_policy

GOOD: dict[str, Any] = {
    "Effect": "Allow",
    "Principal": "*",
    "Action": "s3:GetObject",
    "Resource": "arn:aws:s3:::photos/*",
}


def policy(**changes: Any) -> dict[str, Any]:
    statement = {name: value for name, value in (GOOD | changes).items() if value is not None}
    return {"Version": "2012-10-17", "Statement": [statement]}


def parsed(told: Any) -> Policy:
    return parse_policy(told if isinstance(told, bytes) else json.dumps(told).encode(), "photos")


def refused(told: Any) -> str:
    with pytest.raises(S3Error) as caught:
        parsed(told)
    assert (caught.value.code, caught.value.status) == ("MalformedPolicy", 400)
    return caught.value.message


@pytest.mark.parametrize(
    "told",
    [
        policy(),
        policy() | {"Id": "one"},
        policy() | {"Version": "2008-10-17"},
        {"Statement": GOOD},
        policy(Sid="one"),
        policy(Sid=""),
        policy(Action=["s3:Get*", "S3:putobject"]),
        policy(Action="*", Resource=["arn:aws:s3:::photos", "arn:aws:s3:::photos/*"]),
        policy(Action="s3:ListBucket", Resource="arn:aws:s3:::photos"),
        policy(Action="s3:ListBucket", Resource="arn:aws:s3:::photos*"),
        policy(Action=None, NotAction="s3:PutObject"),
        policy(Resource=None, NotResource="arn:aws:s3:::photos/secret/*"),
        policy(Effect="Deny", Principal=None, NotPrincipal={"AWS": "ann"}),
        policy(Resource="arn:aws:s3:::photos/home/${aws:username}/*"),
        policy(Resource="arn:aws:s3:::photos/${aws:username, 'nobody'}/${*}"),
        policy(Condition={}),
        policy(Condition={"Bool": {"aws:SecureTransport": True}}),
        policy(Condition={"NumericLessThan": {"s3:max-keys": 10}}),
        policy(Condition={"DateLessThan": {"aws:CurrentTime": "2030-01-01T00:00:00Z"}}),
        policy(Condition={"IpAddress": {"aws:SourceIp": ["10.0.0.5/8", "::1"]}}),
        policy(Condition={"ForAllValues:StringLikeIfExists": {"AWS:UserAgent": "x*"}}),
    ],
)
def test_a_policy(told: Any) -> None:
    assert len(parsed(told).statements) == 1


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (b"", "valid JSON"),
        (b"\xff", "valid JSON"),
        (b"[]", "valid JSON"),
        (b"[" * 20_000, "valid JSON"),
        (b'{"Statement": NaN}', "valid JSON"),
        (b'{"Statement": [], "Statement": []}', "valid JSON"),
        (policy() | {"Version": "2015-10-17"}, "version"),
        (policy() | {"Id": 1}, "Id"),
        (policy() | {"Extra": 1}, "'Extra'"),
        ({"Version": "2012-10-17"}, "Statement"),
        ({"Statement": []}, "Statement"),
        ({"Statement": ["x"]}, "Statement"),
        ({"Statement": [GOOD | {"Sid": "a"}, GOOD | {"Sid": "a"}]}, "unique"),
        (policy(Sid=1), "Sid"),
        (policy(Sid=None, sid="x"), "'sid'"),
        (policy(Effect="allow"), "effect"),
        (policy(Effect=None), "effect"),
        (policy(Principal=None), "Principal"),
        (policy(NotPrincipal={"AWS": "ann"}), "Principal"),
        (policy(Principal=None, NotPrincipal={"AWS": "ann"}), "Deny only"),
        (policy(Effect="Deny", Principal=None, NotPrincipal="*"), "wildcards"),
        (policy(Principal="ann"), "'ann'"),
        (policy(Principal={"AWS": "arn:aws:iam::ann:user/x"}), "user/x"),
        (policy(Principal={"AWS": "ann*"}), "ann*"),
        (policy(Principal={"AWS": []}), "empty"),
        (policy(Principal={"AWS": 5}), "string"),
        (policy(Principal={}), "principal"),
        (policy(Principal={"Service": "x.amazonaws.com"}), "Service"),
        (policy(Principal={"CanonicalUser": "ann"}), "ann"),
        (policy(Principal={"CanonicalUser": "*"}), "*"),
        (policy(Action=None), "Action"),
        (policy(Action=[]), "empty"),
        (policy(Action="s3:GetObjec"), "s3:GetObjec"),
        (policy(Action="GetObject"), "GetObject"),
        (policy(Action="?3:GetObject"), "action"),
        (policy(Action="s3:CreateBucket", Resource="arn:aws:s3:::photos"), "CreateBucket"),
        (policy(Action="s3:RestoreObject"), "RestoreObject"),
        (policy(Action="s3:ListBucket"), "does not apply"),
        (policy(Action=["s3:GetObject", "s3:ListBucket"]), "does not apply"),
        (policy(Resource="arn:aws:s3:::photos"), "does not apply"),
        (policy(Resource="*"), "invalid resource"),
        (policy(Resource="arn:aws:s3:::*"), "invalid resource"),
        (policy(Resource="arn:aws:s3:::photos2/*"), "invalid resource"),
        (policy(Resource="arn:aws:s3:::photo?/*"), "invalid resource"),
        (policy(Resource="photos/*"), "invalid resource"),
        (policy(Resource="arn:aws:s3:::photos/${aws:nothing}"), "aws:nothing"),
        (policy(Resource="arn:aws:s3:::photos/${}"), "policy variable"),
        (policy(NotResource="arn:aws:s3:::photos/*"), "Resource"),
        (policy(Condition=[]), "Condition"),
        (policy(Condition={"StringEquals": []}), "StringEquals"),
        (policy(Condition={"StringEquals": {}}), "StringEquals"),
        (policy(Condition={"StringEquals": {"s3:prefix": []}}), "empty"),
        (policy(Condition={"StringEquals": {"s3:prefix": {}}}), "strings"),
        (policy(Condition={"StringEquals": {"s3:prefix": "a", "S3:prefix": "b"}}), "twice"),
        (policy(Condition={"StringEquals": {"s3:ExistingObjectTag": "b"}}), "ExistingObjectTag"),
        (policy(Condition={"StringEquals": {"aws:SourceVpc": "x"}}), "aws:SourceVpc"),
        (policy(Condition={"StringEquals": {"aws:SourceIp": "10.0.0.1"}}), "Ip"),
        (policy(Condition={"StringMatches": {"s3:prefix": "a"}}), "StringMatches"),
        (policy(Condition={"stringequals": {"s3:prefix": "a"}}), "stringequals"),
        (policy(Condition={"ArnLike": {"aws:PrincipalArn": "a"}}), "ArnLike"),
        (policy(Condition={"ForSome:StringEquals": {"s3:prefix": "a"}}), "ForSome"),
        (policy(Condition={"NullIfExists": {"s3:prefix": "true"}}), "NullIfExists"),
        (policy(Condition={"ForAnyValue:Null": {"s3:prefix": "true"}}), "Null"),
        (policy(Condition={"Null": {"s3:prefix": "x"}}), "neither"),
        (policy(Condition={"Bool": {"aws:SecureTransport": "maybe"}}), "maybe"),
        (policy(Condition={"NumericEquals": {"s3:max-keys": "ten"}}), "ten"),
        (policy(Condition={"DateEquals": {"aws:CurrentTime": "soon"}}), "soon"),
        (policy(Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/33"}}), "10.0.0.0/33"),
        (policy(Condition={"IpAddress": {"aws:SourceIp": "fe80::1%eth0"}}), "IP address"),
        (policy(Condition={"StringLike": {"s3:prefix": "${aws:who}"}}), "aws:who"),
    ],
)
def test_no_policy(told: Any, why: str) -> None:
    assert why in refused(told)


def test_a_policy_has_a_size() -> None:
    document = json.dumps(policy()).encode()
    parsed(document + b" " * (S3_BUCKET_POLICY_BYTES_MAX - len(document)))
    assert "size" in refused(document + b" " * (S3_BUCKET_POLICY_BYTES_MAX - len(document) + 1))


def test_a_policy_takes_no_long_time() -> None:
    """However it is spread: what is compared at each place of a header counts together."""
    agents = ["*?" + "a" * 500 + "*"] * 2
    condition = {"StringLike": {"aws:UserAgent": agents}}
    parsed(policy(Condition=condition))
    resources = [f"arn:aws:s3:::photos/*{'?' * 23}*"]
    why = refused(policy(Condition=condition, Resource=resources))
    assert "too many characters" in why


def test_principals_are_owners() -> None:
    of = parsed(
        policy(
            Principal={
                "AWS": ["arn:aws:iam::ann:root", "bob@x.org", "a" * 64],
                "CanonicalUser": "b" * 64,
            }
        )
    )
    assert of.statements[0].principals == Principals(
        owners=frozenset({"ann", "bob@x.org"}), canonical_ids=frozenset({"a" * 64, "b" * 64})
    )


def test_before_2012_there_were_no_variables() -> None:
    told = policy(Resource="arn:aws:s3:::photos/${aws:username}")
    (pattern,) = parsed(told | {"Version": "2008-10-17"}).statements[0].resources
    assert pattern.fits("photos/${aws:username}", {"aws:username": ["ann"]})
    assert not pattern.fits("photos/ann", {"aws:username": ["ann"]})
