"""Forms without a policy: a whole door without a socket, and nobody who signs."""

from __future__ import annotations

import pytest

from tests.s3_door_kit import head_of, told
from tests.s3_gate_kit import ACLS_ON, ALLOW, DENIED, Seen
from tests.s3_kit import Told

BOUNDARY = "----frontier"
UP = {"key": "up/${filename}"}


def send(
    seen: Seen, data: bytes = b"x", headers: dict[str, str] | None = None, **fields: str
) -> Told:
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = 'form-data; name="file"; filename="cat.jpg"'
    parts.append(f"--{BOUNDARY}\r\nContent-Disposition: {head}\r\n\r\n".encode())
    body = b"".join([*parts, data, f"\r\n--{BOUNDARY}--\r\n".encode()])
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    given = {"host": "127.0.0.1:5003", "content-type": kind} | (headers or {})
    return told(seen.door.raw(head_of("POST", f"/{seen.bucket}", given, body) + body), "POST")


def outcome(answer: Told) -> tuple[int, str]:
    return answer.status, answer.code


def test_nobody_may_at_first(seen: Seen) -> None:
    assert outcome(send(seen, **UP)) == DENIED
    seen.unblock()
    seen.policy(ALLOW | {"Action": "s3:GetObject"})
    assert outcome(send(seen, **UP)) == DENIED
    assert seen.outcome("ANN", "GET", f"/{seen.bucket}/up/cat.jpg") == (404, "NoSuchKey")


def test_a_policy_of_the_bucket_lets_everybody(seen: Seen) -> None:
    seen.unblock()
    arn = f"arn:aws:s3:::{seen.bucket}/up/*"
    seen.policy(ALLOW | {"Action": "s3:PutObject", "Resource": arn})
    told = send(seen, b"12345", **UP, **{"Content-Type": "image/jpeg", "x-amz-meta-who": "me"})
    assert told.status == 204, told
    found = seen.ask("ANN", "GET", f"/{seen.bucket}/up/cat.jpg")
    assert (found.body, found.headers["content-type"]) == (b"12345", "image/jpeg")
    assert found.headers["x-amz-meta-who"] == "me"
    assert outcome(send(seen, key="elsewhere")) == DENIED
    assert outcome(send(seen))[1] == "InvalidArgument"
    created = send(seen, **UP, success_action_status="201")
    assert (created.status, created.field("Key")) == (201, "up/cat.jpg")
    tag = "<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>"
    assert outcome(send(seen, **UP, tagging=tag)) == DENIED, "that is another right"
    assert outcome(send(seen, **UP, **{"x-amz-website-redirect": "/"}))[1] == "NotImplemented"


def test_a_policy_may_ask_for_what_a_form_has(seen: Seen) -> None:
    seen.unblock()
    wanted = {"Null": {"s3:RequestObjectTag/a": "false", "s3:authType": "true"}}
    seen.policy(
        ALLOW | {"Action": "s3:PutObject", "Condition": wanted},
        ALLOW | {"Action": "s3:PutObjectTagging"},
    )
    tag = "<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>"
    assert outcome(send(seen, **UP)) == DENIED
    assert send(seen, **UP, tagging=tag).status == 204


def test_so_does_an_acl(seen: Seen) -> None:
    seen.unblock()
    seen.put("ownershipControls", ACLS_ON)
    assert seen.outcome("ANN", "PUT", f"/{seen.bucket}?acl", x_amz_acl="public-read-write") == 200
    assert send(seen, **UP).status == 204
    assert outcome(send(seen, **UP, acl="public-read")) == DENIED, "that is another right"


def test_a_form_may_name_an_acl(seen: Seen) -> None:
    seen.unblock()
    seen.policy(ALLOW | {"Action": ["s3:PutObject", "s3:PutObjectAcl"]})
    path = f"/{seen.bucket}/up/cat.jpg"
    assert outcome(send(seen, **UP, acl="public-read"))[1] == "AccessControlListNotSupported"
    seen.put("ownershipControls", ACLS_ON)
    assert outcome(send(seen, **UP, acl="nonsense"))[1] == "InvalidArgument"
    assert send(seen, **UP, acl="private").status == 204
    assert seen.outcome("", "GET", path) == DENIED
    assert send(seen, **UP, acl="public-read").status == 204
    assert seen.outcome("", "GET", path) == 200


@pytest.mark.parametrize(
    "field",
    [
        ("Content-Type", "text/html\r\nSet-Cookie: a=b"),
        ("content-disposition", "a\nb"),
        ("x-amz-meta-a", "1\0"),
        ("x-amz-meta-%0D%0Aset-cookie", "1"),
        ("x-amz-meta-a:b", "1"),
        ("x-amz-meta-\u00e9", "1"),
    ],
)
def test_what_no_answer_could_tell_is_refused(seen: Seen, field: tuple[str, str]) -> None:
    seen.unblock()
    seen.policy(ALLOW | {"Action": "s3:PutObject"})
    assert send(seen, **UP).status == 204
    assert outcome(send(seen, b"other", **UP, **dict([field]))) == (400, "InvalidArgument")
    assert seen.ask("ANN", "GET", f"/{seen.bucket}/up/cat.jpg").body == b"x"


def test_a_part_of_a_signature_never_counts_as_none(seen: Seen) -> None:
    seen.unblock()
    seen.policy(ALLOW | {"Action": "s3:PutObject"})
    for field in ("x-amz-signature", "X-Amz-Credential", "AWSAccessKeyId", "signature"):
        assert outcome(send(seen, **UP, **{field: "x"})) == DENIED
    assert outcome(send(seen, headers={"authorization": "AWS x:y"}, **UP)) == DENIED
    assert outcome(send(seen, **UP, policy=""))[1] == "InvalidArgument"
    assert send(seen, **UP).status == 204
