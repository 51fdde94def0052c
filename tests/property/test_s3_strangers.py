"""Who comes to a public bucket, and with which form: a claim that is wrong never counts as none."""

from __future__ import annotations

import json
import os
import re
from base64 import b64encode
from collections.abc import Iterator
from hashlib import md5
from typing import Any, Final

import pytest
from botocore.auth import S3SigV4PostAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.property.test_s3_heads import STEPS, mutated
from tests.s3_door_kit import S3Door, answers, head_of, open_door, refused
from tests.s3_kit import KEY_ID, SECRET

SOAK: Final = 50 if os.environ.get("PUTTER_SOAK") else 1
BODY: Final = b"0123456789"
EVERYBODY: Final = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": "*",
            "Action": ["s3:GetObject", "s3:PutObject", "s3:ListBucket"],
            "Resource": ["arn:aws:s3:::public", "arn:aws:s3:::public/*"],
        }
    ],
}


def setting(door: S3Door, bucket: str, name: str, body: bytes) -> int:
    summed = {"content-md5": b64encode(md5(body).digest()).decode()}
    return door.ask("PUT", f"/{bucket}?{name}=", body, summed).status


@pytest.fixture(scope="module")
def door() -> Iterator[S3Door]:
    with open_door() as made:
        for bucket in ("public", "forms"):
            assert made.ask("PUT", f"/{bucket}").status == 200
        assert made.ask("PUT", "/public/a", BODY).status == 200
        assert made.ask("DELETE", "/public?publicAccessBlock=").status == 204
        assert setting(made, "public", "policy", json.dumps(EVERYBODY).encode()) == 204
        nobody = made.raw(b"GET /public/a HTTP/1.1\r\nhost: x\r\n\r\n")
        assert answers(nobody)[0].body == BODY, "else the tests below would mean nothing"
        yield made


# -- claims --------------------------------------------------------------------------------


@settings(max_examples=100 * SOAK, deadline=None)
@given(STEPS, st.sampled_from(["GET", "PUT"]))
def test_a_wrong_signature_is_no_anonymous_request(
    door: S3Door, steps: list[tuple[str, int, int]], method: str
) -> None:
    """What everybody may do anonymously, nobody may do in the name of somebody else."""
    body = b"new" if method == "PUT" else b""
    every, _ = door.signer.signed(method, "/public/claimed", {})
    right = every["authorization"]
    signature = right.rpartition("=")[2]
    wrong = re.sub(rb"[\r\n]", b"", mutated(right.encode(), steps))
    lines = head_of(method, "/public/claimed", every, body).replace(right.encode(), wrong)
    for answer in answers(door.raw(lines + body)):
        if answer.status in {401, 403, 400} or (method == "GET" and answer.status == 404):
            continue
        assert answer.status == 200, answer
        assert signature.encode() in wrong
        assert door.ask("DELETE", "/public/claimed").status == 204
    assert door.ask("HEAD", "/public/claimed").status == 404


PARTS_OF_CLAIMS: Final = st.sampled_from(
    [
        "X-Amz-Signature=0",
        "X-Amz-Credential=TESTKEY%2F20260101%2Fus-east-1%2Fs3%2Faws4_request",
        "X-Amz-Algorithm=AWS4-HMAC-SHA256",
        "X-Amz-Expires=604800",
        "X-Amz-Date=20260101T000000Z",
        "X-Amz-SignedHeaders=host",
        "X-Amz-Security-Token=x",
        "AWSAccessKeyId=TESTKEY",
        "Signature=0",
        "x-amz-signature=0",
    ]
)


@settings(max_examples=40 * SOAK, deadline=None)
@given(st.lists(PARTS_OF_CLAIMS, min_size=1, max_size=6, unique=True))
def test_parts_of_a_claim_are_no_anonymous_request(door: S3Door, parts: list[str]) -> None:
    line = f"GET /public/a?{'&'.join(parts)} HTTP/1.1\r\nhost: 127.0.0.1:5003\r\n\r\n"
    [answer] = answers(door.raw(line.encode()))
    assert refused(answer)
    assert answer.status in {400, 403}


@settings(max_examples=60 * SOAK, deadline=None)
@given(
    st.sampled_from(["GET", "PUT", "DELETE", "POST", "HEAD", "OPTIONS"]),
    st.sampled_from(["/public", "/public/b", "/forms", "/forms/b", "/", "/none/b"]),
    st.sampled_from(
        [
            "",
            "policy=",
            "acl=",
            "tagging=",
            "cors=",
            "uploads=",
            "delete=",
            "versions=",
            "location=",
        ]
    ),
    st.sampled_from([{}, {"x-amz-acl": "public-read"}, {"x-amz-copy-source": "/forms/secret"}]),
)
def test_nobody_does_more_than_everybody_may(
    door: S3Door, method: str, path: str, query: str, more: dict[str, str]
) -> None:
    """Only GetObject, PutObject and ListBucket, of the bucket whose policy says so."""
    target = f"{path}?{query}" if query else path
    body = BODY if method in {"PUT", "POST"} and "x-amz-copy-source" not in more else b""
    heard = answers(door.raw(head_of(method, target, {"host": "x"} | more, body) + body), method)
    for answer in heard:
        if not refused(answer):
            assert path.startswith("/public"), (method, target, answer)
            assert not query or query == "versions=" or method == "OPTIONS", (target, answer)
            assert "x-amz-copy-source" not in more or method != "PUT"
            assert method != "DELETE"
    assert door.ask("GET", "/public/a").body == BODY
    door.ask("DELETE", "/public/b")
    assert refused(door.ask("HEAD", "/forms/b"))


# -- forms ---------------------------------------------------------------------------------

BOUNDARY: Final = "----a-boundary"


def form_of(fields: dict[str, str], file: bytes = BODY) -> bytes:
    lines = "".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="f.txt"\r\n\r\n'
    return f"{lines}{head}".encode() + file + f"\r\n--{BOUNDARY}--\r\n".encode()


def fields_of() -> dict[str, str]:
    """What is signed: one key, a few bytes, and whose they are."""
    conditions: list[Any] = [
        {"bucket": "forms"},
        {"key": "in/form"},
        ["content-length-range", 3, 20],
        ["starts-with", "$x-amz-meta-who", "ann"],
        {"success_action_status": "201"},
    ]
    made = AWSRequest("POST", "http://127.0.0.1:5003/forms")
    fields = {"key": "in/form", "x-amz-meta-who": "anna", "success_action_status": "201"}
    made.context["s3-presign-post-fields"] = fields
    made.context["s3-presign-post-policy"] = {
        "expiration": "2099-01-01T00:00:00.000Z",
        "conditions": conditions,
    }
    S3SigV4PostAuth(Credentials(KEY_ID, SECRET), "s3", "us-east-1").add_auth(made)
    return fields


def posted(
    door: S3Door, body: bytes, kind: str = f"multipart/form-data; boundary={BOUNDARY}"
) -> bool:
    """Whether the form was taken; its object is as its policy says, and goes again."""
    head = head_of("POST", "/forms", {"host": "x", "content-type": kind}, body)
    heard = answers(door.raw(head + body))
    taken = [each for each in heard if not refused(each)]
    assert len(taken) <= 1

    async def held() -> dict[str, tuple[int, str]]:
        page = await door.store.meta.files.list("forms", "", "", 10)
        found = [await door.store.meta.files.resolve("forms", each.key) for each in page.entries]
        return {
            each.key: (each.size, each.headers.get("x-amz-meta-who", "")) for each in found if each
        }

    objects = door.run(held())
    assert list(objects) == (["in/form"] if taken else [])
    for size, who in objects.values():
        assert 3 <= size <= 20
        assert who.startswith("ann")
        assert door.ask("DELETE", "/forms/in/form").status == 204
    return bool(taken)


def test_the_form_that_is_changed_is_good_as_it_is(door: S3Door) -> None:
    assert posted(door, form_of(fields_of()))
    assert not posted(door, form_of(fields_of(), b"12"))
    assert not posted(door, form_of(fields_of(), b"x" * 21))
    assert not posted(door, form_of(fields_of() | {"key": "in/other"}))


@settings(max_examples=150 * SOAK, deadline=None)
@given(STEPS)
def test_a_changed_form_is_refused_or_as_its_policy_says(
    door: S3Door, steps: list[tuple[str, int, int]]
) -> None:
    posted(door, mutated(form_of(fields_of()), steps))


LINES: Final = st.sampled_from(
    [
        f"--{BOUNDARY}\r\n".encode(),
        f"--{BOUNDARY}--\r\n".encode(),
        f"\r\n--{BOUNDARY}".encode(),
        b"\r\n",
        b"\r\n\r\n",
        b'Content-Disposition: form-data; name="key"',
        b'Content-Disposition: form-data; name="file"; filename="\\',
        b'Content-Disposition: form-data; name="policy"',
        b"Content-Disposition: form-data; name*=utf-8''x",
        b"Content-Disposition: form-data" + b';a="\\"' * 3_000,
        b"Content-Transfer-Encoding: base64",
        b"in/form",
        b"{}",
        b"\xff",
        b"\0",
        b"x" * 30_000,
    ]
)


@settings(max_examples=80 * SOAK, deadline=None)
@given(
    st.lists(LINES | st.binary(max_size=20), max_size=12).map(b"".join),
    st.sampled_from(
        [
            f"multipart/form-data; boundary={BOUNDARY}",
            f'multipart/form-data; boundary="{BOUNDARY}"; boundary=x',
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=" + "x" * 500,
            "multipart/form-data",
            "multipart/mixed; boundary=x",
            "application/x-www-form-urlencoded",
            "",
        ]
    ),
)
def test_no_garbage_is_a_form(door: S3Door, body: bytes, kind: str) -> None:
    assert not posted(door, body, kind)
    fields = fields_of()
    policy = {"policy": b64encode(body[:600]).decode(), "x-amz-signature": "0" * 64}
    assert not posted(door, form_of(fields | policy))


# -- settings that are JSON ----------------------------------------------------------------

JSON: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(["*", "Allow", "s3:*", "", "x" * 99]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "Version",
                    "Id",
                    "Statement",
                    "Sid",
                    "Effect",
                    "Principal",
                    "AWS",
                    "Action",
                    "NotAction",
                    "Resource",
                    "Condition",
                    "StringLike",
                    "aws:SourceIp",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=100 * SOAK, deadline=None)
@given(
    JSON.map(lambda value: json.dumps(value).encode())
    | st.sampled_from(
        [
            b"[" * 19_000,
            b'{"Statement":' * 1_400,
            b'{"a":1,"a":2}',
            b"NaN",
            b"1" * 5_000,
            b'"\\ud800"',
            b"\xff",
            b"",
            b"[1e999]",
        ]
    )
)
def test_no_garbage_is_a_policy(door: S3Door, body: bytes) -> None:
    assert setting(door, "forms", "policy", body) in {400, 403}
    assert refused(door.ask("GET", "/forms?policy="))


STATEMENTS: Final = st.fixed_dictionaries(
    {
        "Effect": st.sampled_from(["Allow", "Deny"]),
        "Principal": st.sampled_from(["*", {"AWS": "*"}, {"AWS": ["ann"]}]),
        "Action": st.sampled_from(["s3:*", "*", "s3:Get?bject", ["s3:PutObject", "s3:List*"]]),
        "Resource": st.sampled_from(
            [
                "arn:aws:s3:::forms/*",
                "arn:aws:s3:::forms/" + "*a" * 400,
                "arn:aws:s3:::forms/${aws:username}/*",
                ["arn:aws:s3:::forms", "arn:aws:s3:::forms/a?c"],
            ]
        ),
    },
    optional={
        "Condition": st.sampled_from(
            [
                {"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}},
                {"StringLike": {"aws:Referer": "*a" * 300}},
                {"NumericLessThan": {"s3:max-keys": "10"}},
                {"DateGreaterThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}},
                {"Null": {"aws:Referer": "true"}},
                {"Bool": {"aws:SecureTransport": "maybe"}},
                {"NoSuch": {"x": "y"}},
            ]
        )
    },
)


@settings(max_examples=60 * SOAK, deadline=None)
@given(STATEMENTS, st.sampled_from(["", "a" * 1_000, "%00", "\u00e4", "a%FFc"]))
def test_any_policy_is_weighed_for_any_name(
    door: S3Door, statement: dict[str, Any], name: str
) -> None:
    text = {"Version": "2012-10-17", "Statement": [statement]}
    if setting(door, "forms", "policy", json.dumps(text).encode()) == 204:
        headers = {"host": "x", "referer": "a" * 2_000}
        for method, query in (("GET", "?max-keys=9"), ("PUT", ""), ("DELETE", "")):
            head = head_of(method, f"/forms/{name}{query}", headers)
            for answer in answers(door.raw(head)):
                assert refused(answer) or statement["Effect"] == "Allow"
    assert door.ask("DELETE", "/forms?policy=").status == 204
    assert door.ask("GET", "/public/a").body == BODY
