"""Who comes in with an access key, and for what."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from common.clock import ManualClock
from common.keys import Keyring
from common.meta.buckets import Configured
from common.metrics import Metrics
from common.records import BucketSettings
from common.web import json_response, make_application
from putter.client.signing import Signer
from router.gateway.bodies import BODY_SHA256
from router.gateway.denials import Denials
from router.gateway.keyed_door import KEY, KeyedDoor, Need, need
from router.gateway.s3.gate import AllRules
from router.rights import Key
from tests.node_kit import KEY as CLUSTER_KEY

TOKEN = "0123456789abcdef" * 4
HOST = "127.0.0.1:5004"
PAIR = Credentials("PHOTOS", "secret-of-photos")
KEYS = {
    each.access_key_id: each
    for each in (
        Key("ALL", "secret-of-all", "root", False, {}),
        Key("READER", "secret-of-reader", "root", True, {}),
        Key("PHOTOS", "secret-of-photos", "ann", False, {"photos": "write", "music": "read"}),
    )
}


class Keys:
    """Knows three."""

    async def find(self, access_key_id: str) -> Key | None:
        return KEYS.get(access_key_id)


class Buckets:
    """Knows one, with a policy."""

    def __init__(self, *statements: dict[str, Any]) -> None:
        self._told = json.dumps({"Version": "2012-10-17", "Statement": statements})

    async def get(self, bucket: str) -> Configured | None:
        if bucket != "photos" or self._told.endswith("[]}"):
            return None
        return Configured(BucketSettings(bucket, 1, 1, {"policy": self._told}))


@dataclass
class Site:
    """A web door without a socket that tells with what key it was asked."""

    listens_on: str = "127.0.0.1"
    encrypted: bool = False
    buckets: Buckets = field(default_factory=Buckets)
    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        door = KeyedDoor(
            self.listens_on,
            TOKEN,
            Keyring([CLUSTER_KEY]),
            Keys(),  # type: ignore[arg-type]
            self.clock,
            Denials(AllRules(self.buckets), None, self.clock),  # type: ignore[arg-type]
            encrypted=self.encrypted,
        )
        self.application = make_application(Metrics("router"), door, lambda: "")
        for path in (
            "/file/{name:(?s:.+)}",
            "/metadata/{name:(?s:.+)}",
            "/keys",
            "/status",
            "/metadata",
            "/openapi.json",
        ):
            self.application.router.add_route("*", path, self._work)
        self.application.router.add_route("*", "/bucket/{bucket}", self._work)
        self.application.freeze()

    async def _work(self, request: web.Request) -> web.StreamResponse:
        key: Key | None = request.get(KEY)
        told = {"key": key and key.access_key_id, "sha256": request.get(BODY_SHA256)}
        return json_response(told)

    async def ask(self, method: str, path: str, **headers: str) -> tuple[int, Any]:
        named = {"Host": HOST} | headers
        request = make_mocked_request(method, path, named, app=self.application)
        response = await self.application._handle(request)
        assert isinstance(response, web.Response)
        assert isinstance(response.body, bytes)
        assert b"secret-of" not in response.body
        return response.status, json.loads(response.body)

    async def signed(self, method: str, path: str, name: str, secret: str) -> tuple[int, Any]:
        signer = Signer(name, secret)
        fields = signer.sign(method, path, HOST, moment(self.clock))
        headers = {name: value for name, value in fields.items() if name != "host"}
        return await self.ask(method, path, **headers)


def moment(clock: ManualClock) -> datetime:
    return datetime.fromtimestamp(clock.now_ms() / 1000, UTC)


def basic(name: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()


async def test_without_a_key_all_is_as_it_was() -> None:
    assert await Site().ask("GET", "/keys") == (200, {"key": None, "sha256": None})
    far = Site("10.0.0.1")
    assert (await far.ask("GET", "/keys"))[0] == 401
    assert (await far.ask("GET", "/keys", Authorization=f"Bearer {TOKEN}"))[0] == 200


@pytest.mark.parametrize("site", [Site(), Site("10.0.0.1", encrypted=True)])
async def test_a_key_in_basic(site: Site) -> None:
    right = basic("PHOTOS", "secret-of-photos")
    assert await site.ask("GET", "/file/photos/a", Authorization=right) == (
        200,
        {"key": "PHOTOS", "sha256": None},
    )
    for wrong in (
        basic("PHOTOS", "secret-of-all"),
        basic("PHOTOS", ""),
        basic("NOBODY", "secret-of-photos"),
        basic("", ""),
        "Basic ",
        "Basic \xff",
        "Basic " + base64.b64encode(b"\xff:x").decode(),
    ):
        status, told = await site.ask("GET", "/file/photos/a", Authorization=wrong)
        assert (status, told["code"]) == (401, "not-authorised"), wrong


async def test_no_secret_in_clear_beyond_this_machine() -> None:
    right = basic("ALL", "secret-of-all")
    status, told = await Site("10.0.0.1").ask("GET", "/status", Authorization=right)
    assert (status, told["code"]) == (401, "not-authorised")
    assert "in clear" in told["message"]


@pytest.mark.parametrize("listens_on", ["127.0.0.1", "10.0.0.1"])
async def test_a_signed_request(listens_on: str) -> None:
    site = Site(listens_on)
    for path in (
        "/file/photos/a%20b%2Fc+~",
        "/file/photos/%C3%A9",
        "/metadata?bucket=photos&limit=2",
    ):
        status, told = await site.signed("GET", path, "PHOTOS", "secret-of-photos")
        assert (status, told) == (200, {"key": "PHOTOS", "sha256": None}), path
        status, told = await site.signed("GET", path, "PHOTOS", "secret-of-all")
        assert (status, told["code"]) == (401, "not-authorised")
        assert "SignatureDoesNotMatch" in told["message"]
    assert (await site.signed("GET", "/file/photos/a", "NOBODY", "secret-of-all"))[0] == 401


@pytest.mark.parametrize(
    ("source", "status"), [("/photos/a", 200), ("/music/a", 200), ("/other/a", 403), ("/X/a", 400)]
)
async def test_who_copies_must_be_allowed_to_read(source: str, status: int) -> None:
    site, path, copied = Site(), "/file/photos/b", {"X-Putter-Copy-Source": source}
    right = basic("PHOTOS", "secret-of-photos")
    assert (await site.ask("PUT", path, Authorization=right, **copied))[0] == status
    signer = Signer("PHOTOS", "secret-of-photos")
    fields = signer.sign("PUT", path, HOST, moment(site.clock), copied)
    assert copied.keys() & fields.keys() == set()
    headers = {name: value for name, value in fields.items() if name != "host"}
    assert (await site.ask("PUT", path, **headers, **copied))[0] == status


@pytest.mark.parametrize(
    ("source", "status"), [("/photos/a", 200), ("/music/a", 403), ("/other/a", 403), ("/X/a", 400)]
)
async def test_who_renames_must_be_allowed_to_write(source: str, status: int) -> None:
    site, path, moved = Site(), "/file/photos/b", {"X-Putter-Move-Source": source}
    right = basic("PHOTOS", "secret-of-photos")
    assert (await site.ask("PUT", path, Authorization=right, **moved))[0] == status


@pytest.mark.parametrize("header", ["X-Putter-Copy-Source", "X-Putter-Move-Source"])
async def test_what_is_copied_has_to_be_signed(header: str) -> None:
    site, path = Site(), "/file/photos/b"
    fields = Signer("ALL", "secret-of-all").sign("PUT", path, HOST, moment(site.clock))
    headers = {name: value for name, value in fields.items() if name != "host"}
    assert (await site.ask("PUT", path, **headers))[0] == 200
    status, told = await site.ask("PUT", path, **headers, **{header: "/photos/a"})
    assert (status, told["message"]) == (401, f"{header} has to be signed")


async def test_without_a_body_its_hash_may_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by clients that are not made for S3, such as curl before version 8."""
    site = Site()
    monkeypatch.setattr(auth, "get_current_datetime", lambda: moment(site.clock))
    request = AWSRequest("GET", f"http://{HOST}/file/photos/a")
    auth.SigV4Auth(PAIR, "s3", "eu-central-1").add_auth(request)
    assert set(request.headers.keys()) == {"X-Amz-Date", "Authorization"}
    assert (await site.ask("GET", "/file/photos/a", **request.headers))[0] == 200
    status, told = await site.ask("GET", "/file/photos/b", **request.headers)
    assert (status, told["code"]) == (401, "not-authorised")


async def test_a_presigned_url(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site("10.0.0.1")
    monkeypatch.setattr(auth, "get_current_datetime", lambda: moment(site.clock))
    request = AWSRequest("GET", f"http://{HOST}/file/photos/a?x=1")
    auth.S3SigV4QueryAuth(PAIR, "s3", "us-east-1", expires=60).add_auth(request)
    target = request.url.removeprefix(f"http://{HOST}")
    assert await site.ask("GET", target) == (200, {"key": "PHOTOS", "sha256": None})
    assert (await site.ask("PUT", target))[0] == 401
    assert (await site.ask("GET", target.replace("photos", "music")))[0] == 401
    site.clock.advance(61_000)
    assert (await site.ask("GET", target))[0] == 401


async def test_a_signature_that_is_too_old() -> None:
    site = Site()
    fields = Signer("ALL", "secret-of-all").sign("GET", "/keys", HOST, moment(site.clock))
    site.clock.advance(16 * 60 * 1000)
    headers = {name: value for name, value in fields.items() if name != "host"}
    status, told = await site.ask("GET", "/keys", **headers)
    assert (status, told["message"].partition(":")[0]) == (401, "RequestTimeTooSkewed")


async def test_another_host_is_refused_with_a_key_too() -> None:
    right = basic("ALL", "secret-of-all")
    status, told = await Site().ask("GET", "/keys", Authorization=right, Host="evil.example")
    assert (status, told["code"]) == (403, "host")


@pytest.mark.parametrize(
    ("name", "method", "path", "may"),
    [
        ("ALL", "GET", "/keys", True),
        ("ALL", "PUT", "/bucket/photos", True),
        ("READER", "GET", "/keys", False),
        ("READER", "GET", "/status", True),
        ("READER", "PUT", "/file/photos/a", False),
        ("READER", "GET", "/file/any/a", True),
        ("PHOTOS", "PUT", "/file/photos/a", True),
        ("PHOTOS", "DELETE", "/file/photos/a", True),
        ("PHOTOS", "GET", "/file/music/a", True),
        ("PHOTOS", "PUT", "/file/music/a", False),
        ("PHOTOS", "GET", "/file/other/a", False),
        ("PHOTOS", "GET", "/file/ph%6Ftos/a", True),
        ("PHOTOS", "GET", "/file/one-segment", False),
        ("PHOTOS", "GET", "/metadata", True),
        ("PHOTOS", "GET", "/metadata?bucket=music", True),
        ("PHOTOS", "GET", "/metadata?bucket=other", False),
        ("PHOTOS", "GET", "/openapi.json", True),
        ("PHOTOS", "GET", "/status", False),
        ("PHOTOS", "GET", "/bucket/photos", True),
        ("PHOTOS", "PUT", "/bucket/photos", False),
        ("PHOTOS", "GET", "/no-such-route", False),
    ],
)
async def test_what_a_key_may(name: str, method: str, path: str, *, may: bool) -> None:
    given = basic(name, KEYS[name].secret)
    status, told = await Site().ask(method, path, Authorization=given)
    assert (status == 200) == may, told
    if not may:
        assert (status, told["code"]) == (403, "forbidden")


DENY: dict[str, Any] = {"Effect": "Deny", "Principal": "*"}
ARN = "arn:aws:s3:::photos"


async def test_what_a_policy_denies_at_s3_is_denied_here_too() -> None:
    site = Site(
        buckets=Buckets(
            DENY | {"Action": "s3:GetObject", "Resource": f"{ARN}/secret/*"},
            DENY | {"Action": "s3:DeleteObject", "Resource": f"{ARN}/*"},
            DENY
            | {
                "Action": "s3:ListBucket",
                "Resource": ARN,
                "Condition": {"StringNotLike": {"s3:prefix": "open/*"}},
            },
        )
    )
    secret, source = "/file/photos/secret/a", {"X-Putter-Copy-Source": "/photos/secret/a"}
    for name in ("ALL", "PHOTOS"):
        key = basic(name, KEYS[name].secret)

        async def status(method: str, path: str, key: str = key, **headers: str) -> int:
            answer, told = await site.ask(method, path, Authorization=key, **headers)
            assert answer == 200 or (answer, told["code"]) == (403, "forbidden")
            return answer

        for path in (secret, "/file/photos/%73ecret%2Fa", "/metadata/photos/secret/a"):
            assert await status("GET", path) == 403
        assert await status("HEAD", secret) == 403
        assert await status("PUT", secret) == 200
        assert await status("PUT", "/file/photos/b", **source) == 403
        assert await status("GET", "/file/photos/b") == 200
        assert await status("DELETE", "/file/photos/b") == 403
        assert await status("GET", "/metadata?bucket=photos") == 403
        assert await status("GET", "/metadata?bucket=photos&prefix=secret/&prefix=open/") == 403
        assert await status("GET", "/metadata?bucket=photos&prefix=open/x") == 200
        assert (await site.signed("GET", secret, name, KEYS[name].secret))[0] == 403
    assert (await site.ask("GET", secret))[0] == 200  # whoever sits at the machine


@pytest.mark.parametrize(
    ("action", "here", "there"),
    [("s3:GetObjectTagging", 200, 403), ("s3:PutObjectTagging", 403, 200)],
)
async def test_a_copy_takes_tags_along(action: str, here: int, there: int) -> None:
    site = Site(buckets=Buckets(DENY | {"Action": action, "Resource": f"{ARN}/*"}))
    key = basic("ALL", "secret-of-all")
    for path, source, status in (
        ("/file/photos/b", "/music/a", here),
        ("/file/music/b", "/photos/a", there),
    ):
        copied = {"X-Putter-Copy-Source": source}
        assert (await site.ask("PUT", path, Authorization=key, **copied))[0] == status
        assert (await site.ask("PUT", path, Authorization=key))[0] == 200


async def test_a_rename_deletes_too() -> None:
    site = Site(buckets=Buckets(DENY | {"Action": "s3:DeleteObject", "Resource": f"{ARN}/*"}))
    key = basic("ALL", "secret-of-all")
    for header, status in (("X-Putter-Copy-Source", 200), ("X-Putter-Move-Source", 403)):
        told = await site.ask("PUT", "/file/music/b", Authorization=key, **{header: "/photos/a"})
        assert told[0] == status


async def test_what_a_policy_knows_of_a_request() -> None:
    async def denied(condition: dict[str, Any], *, signed: bool = False) -> bool:
        every = {"Action": "s3:*", "Resource": [ARN, f"{ARN}/*"], "Condition": condition}
        site = Site(buckets=Buckets(DENY | every))
        if signed:
            status, _ = await site.signed("GET", "/file/photos/a", "PHOTOS", PAIR.secret_key)
        else:
            given = basic("PHOTOS", PAIR.secret_key)
            status, _ = await site.ask("GET", "/file/photos/a", Authorization=given)
        return status == 403

    assert await denied({"StringEquals": {"aws:username": "ann"}})
    assert not await denied({"StringEquals": {"aws:username": "root"}})
    assert await denied({"Bool": {"aws:SecureTransport": "false"}})
    header = {"StringNotEquals": {"s3:authType": "REST-HEADER"}}
    assert await denied(header)
    assert not await denied(header, signed=True)
    assert not await denied({"NumericGreaterThan": {"s3:signatureAge": "900000"}}, signed=True)


async def test_what_a_policy_allows_counts_at_s3_alone() -> None:
    allowed = {"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": [ARN]}
    site = Site("10.0.0.1", encrypted=True, buckets=Buckets(allowed))
    assert (await site.ask("GET", "/metadata?bucket=photos"))[0] == 401
    given = basic("READER", "secret-of-reader")
    assert (await site.ask("PUT", "/file/photos/a", Authorization=given))[0] == 403
    assert (await site.ask("GET", "/file/photos/a", Authorization=given))[0] == 200


async def test_a_policy_that_cannot_be_read_closes_its_bucket() -> None:
    site = Site(buckets=Buckets({"Effect": "Perhaps"}))
    given = basic("ALL", "secret-of-all")
    assert (await site.ask("GET", "/file/photos/a", Authorization=given))[0] == 403
    assert (await site.ask("GET", "/file/music/a", Authorization=given))[0] == 200


def test_what_is_in_no_table_takes_all_rights() -> None:
    assert need("/tomorrow", "GET", "/tomorrow", "photos") == Need(all_rights=True)
    assert need("/status", "PUT", "/status", "") == Need(all_rights=True)
