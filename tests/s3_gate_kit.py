"""Callers of all kinds at a whole S3 door without a socket, and a bucket that says who may."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from router.access_keys import Wanted
from tests.s3_door_kit import S3Door, head_of, open_door, told
from tests.s3_kit import SECRET, UNSIGNED, Signer, Told

ALLOW = {"Effect": "Allow", "Principal": "*"}
DENIED = (403, "AccessDenied")
MISSING = (404, "NoSuchKey")
BODY = b"0123456789"


def block(flag: str, said: str) -> bytes:
    root = "PublicAccessBlockConfiguration"
    return f"<{root}><{flag}>{said}</{flag}></{root}>".encode()


def ownership(rule: str) -> bytes:
    inside = f"<Rule><ObjectOwnership>{rule}</ObjectOwnership></Rule>"
    return f"<OwnershipControls>{inside}</OwnershipControls>".encode()


OPEN = block("BlockPublicAcls", "false")
ACLS_ON = ownership("ObjectWriter")


class Seen:
    """The door, a bucket of ann's, and who asks: "", for nobody, or the ID of a key."""

    def __init__(self, door: S3Door, bucket: str) -> None:
        self.door = door
        self.bucket = bucket

    def ask(
        self,
        who: str,
        method: str,
        path: str,
        body: bytes = b"",
        payload: str = UNSIGNED,
        **headers: str,
    ) -> Told:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if body:
            given["content-md5"] = b64encode(hashlib.md5(body).digest()).decode()
        if who:
            offset_s = self.door.signer.offset_s
            signer = Signer(5003, who, SECRET, offset_s)
            given, _ = signer.signed(method, path, given, payload=payload)
        else:
            given.setdefault("host", "127.0.0.1:5003")
        return told(self.door.raw(head_of(method, path, given, body) + body), method)

    def outcome(self, who: str, method: str, path: str, body: bytes = b"", **options: str) -> Any:
        answer = self.ask(who, method, path, body, **options)
        return (answer.status, answer.code) if answer.status >= 400 else answer.status

    def put(self, sub: str, body: bytes, who: str = "ANN") -> None:
        outcome = self.outcome(who, "PUT", f"/{self.bucket}?{sub}", body)
        assert outcome in (200, 204), outcome

    def policy(self, *statements: dict[str, Any]) -> None:
        arn = f"arn:aws:s3:::{self.bucket}"
        listed = [{"Resource": [arn, f"{arn}/*"], **each} for each in statements]
        self.put("policy", json.dumps({"Version": "2012-10-17", "Statement": listed}).encode())

    def unblock(self) -> None:
        self.put("publicAccessBlock", OPEN)


KEYS = (
    Wanted("ANN", SECRET, "ann"),
    Wanted("OTHER", SECRET, "other"),
    Wanted("BOB", SECRET, "bob", buckets={"bobs": "write"}),
    Wanted("READER", SECRET, "bob", read_only=True, buckets={"bobs": "write"}),
)
"""Beside that of root."""


@contextmanager
def open_to_all_kinds() -> Iterator[S3Door]:
    """A door that knows `KEYS`; nothing of it is left afterwards."""
    with open_door() as made:
        for each in KEYS:
            made.run(made.store.router.access_keys.create(each))
        yield made


def bucket_of(door: S3Door, word: str) -> Seen:
    """A new bucket of ann's with two objects; its name is made of a word."""
    name = "b-" + hashlib.sha256(word.encode()).hexdigest()[:20]
    made = Seen(door, name)
    assert made.outcome("ANN", "PUT", f"/{name}") == 200
    for each in ("a", "b/c"):
        assert made.outcome("ANN", "PUT", f"/{name}/{each}", BODY) == 200
    return made
