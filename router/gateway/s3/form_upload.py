"""PostObject: a form, as browsers send it, becomes an object.

```
fields ── policy? ── whose? (signature) ── as it allows? ──┬── may he? ──► file streams
             └── none: it is nobody's ─────────────────────┘
```

Its fields are what headers are of a PutObject. Nothing of the file is read before they are found
to be as the policy wants them. One without a policy is from nobody, and may be of any size.

(AWS: S3 API reference, "POST Object".)
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

from aiohttp import web

from common.clock import Clock
from common.limits import OBJECT_BYTES_MAX
from common.records import Version
from common.requests import current_request
from common.versions import plain_name
from router.blocks import ChunkSource
from router.events import POST
from router.gateway.s3.access import NOBODY, SIGNS, AccessKey, AccessKeys
from router.gateway.s3.acls import HEADER, asked_acl
from router.gateway.s3.address import Address, checked_key
from router.gateway.s3.announced import BodyChecks, announced
from router.gateway.s3.call import Store
from router.gateway.s3.checksums import Algorithm, Buffer
from router.gateway.s3.documents import CONTENT_TYPE, Tree, document, parsed
from router.gateway.s3.encryption import writing_of
from router.gateway.s3.facts import Facts, Signature
from router.gateway.s3.failures import S3Error
from router.gateway.s3.form_data import FormData, boundary_of
from router.gateway.s3.form_policy import FormPolicy, parse_policy
from router.gateway.s3.gate import Gate
from router.gateway.s3.hashing import Hashing
from router.gateway.s3.headers import checksum_headers, kept_headers, refuse_unknown
from router.gateway.s3.intake import Hashed, content_length, go_on, next_chunk
from router.gateway.s3.locking import check_lock
from router.gateway.s3.locks import said_lock
from router.gateway.s3.object_acls import allowed_acl
from router.gateway.s3.object_facts import ObjectFacts, Tags
from router.gateway.s3.sigv4_form import FormClaim, parse_form, verify_form
from router.gateway.s3.sse_headers import asked_for
from router.gateway.s3.tags import OBJECT_TAGS_MAX, tags_in
from router.gateway.s3.writing import told_of_written
from router.origin import Origin, bind_origin
from router.targets import Target

_FILENAME: Final = "${filename}"
_UNTOUCHED: Final = frozenset({"policy", "x-amz-signature"})
_SIGNATURE: Final = frozenset(
    {"x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature"}
)
_AS_HEADERS: Final = {"acl": HEADER}
"""Fields that are headers of a PutObject by another name."""
_ANYTHING: Final = FormPolicy(datetime.max.replace(tzinfo=UTC), ())
"""What a form may be that has no policy."""
_STATUSES: Final = {"200": 200, "201": 201}
_URL: Final = re.compile(r"[!-~]{1,2048}")


def is_form(address: Address) -> bool:
    """Whether what is posted there can be nothing but a form: it asks for no operation."""
    return bool(address.bucket) and not address.key and not address.query


async def post_object(
    request: web.Request, bucket: str, store: Store, keys: AccessKeys, clock: Clock
) -> web.StreamResponse:
    """Make an object of a form.

    Args:
        request: with the form.
        bucket: where its object goes.
        store: what is behind the door.
        keys: knows the access keys.
        clock: tells when a policy has expired.

    Raises:
        S3Error: nobody may, or it cannot be; nothing is stored.
        PutterError: nothing of it is visible.
    """
    form = FormData(boundary_of(request.headers.get("Content-Type", "")))
    if "Transfer-Encoding" in request.headers:
        raise S3Error("NotImplemented", Header="Transfer-Encoding")
    content_length(request)
    await go_on(request)
    idle_s = store.idle_ms / 1000
    count = store.metrics.ingest_bytes.labels("s3").inc
    first: Buffer = b""
    while form.filename is None:
        chunk = await next_chunk(request, idle_s)
        if not chunk:
            form.finish()
        first = form.feed(chunk)
    fields = filled_in(form.fields, form.filename)
    policy, signature, signer = await _allowed(request, fields, bucket, keys, clock)
    headers = [
        (_AS_HEADERS.get(name, name), value)
        for name, value in fields.items()
        if name not in _SIGNATURE
    ]
    refuse_unknown(headers, "PostObject")
    key = fields.get("key")
    if not key:
        raise S3Error("InvalidArgument", _no_field("key"), ArgumentName="key")

    named = fields.get("acl", fields.get(HEADER))
    asked = None if named is None else asked_acl({HEADER: named}, {})

    def facts() -> Facts:
        peer = request.remote or ""
        headers = {name.lower(): [value] for name, value in request.headers.items()}
        now_ms = clock.now_ms()
        known = Facts("PostObject", headers, {}, asked, signature, peer, request.secure, now_ms)
        return replace(known, encryption=asked_for(fields))

    tags = _tags(fields)

    async def given() -> Tags:
        return tags

    gate = Gate(store.rules, signer, facts, ObjectFacts(store.meta, given))
    await _check_may(gate, bucket, key, tags)
    acl = await allowed_acl(store, gate, bucket, key, asked)
    await store.bucket(bucket)
    lock = said_lock(fields, clock.now_ms())
    await check_lock(lock, store, gate, bucket, key)

    async def file() -> AsyncGenerator[Buffer, None]:
        """The bytes of the file; it ends only if the form does, and they are as many as allowed."""
        size, piece = 0, first
        while True:
            size += len(piece)
            policy.check_size(size, whole=False)
            if size > OBJECT_BYTES_MAX:
                raise S3Error(
                    "EntityTooLarge", ProposedSize=str(size), MaxSizeAllowed=str(OBJECT_BYTES_MAX)
                )
            if piece:
                count(len(piece))
                yield piece
            chunk = await next_chunk(request, idle_s)
            if not chunk:
                break
            piece = form.feed(chunk)
        form.finish()
        policy.check_size(size)

    checks = BodyChecks(announced(fields), default=Algorithm.CRC64NVME)
    hashed = Hashed(file(), dict, Hashing(checks, store.threads))
    kept = kept_headers(fields.items())
    writing = await writing_of(fields, request, store, bucket)
    target = Target(
        bucket,
        checked_key(key),
        kept,
        None,
        empty_allowed=True,
        tags=tags,
        acl=acl,
        seal=writing.seal(hashed.sealed),
        encryption=writing.encryption,
        lock=lock,
        event=POST,
    )
    bind_origin(Origin(signer.owner, request.remote or "", current_request()))
    chunks = writing.chunks(hashed.chunks())
    source = ChunkSource(chunks, store.writes.filler())
    try:
        written = await store.writes.write(source, target)
    finally:
        source.close()
        await chunks.aclose()
    response = _told(written.version, fields, f"{request.scheme}://{request.host}{request.path}")
    response.headers.update(writing.told | await told_of_written(store, written.version))
    return response


def filled_in(fields: Mapping[str, str], filename: str) -> dict[str, str]:
    """The fields of a form with the name of its file where they ask for it."""
    return {
        name: value if name in _UNTOUCHED else value.replace(_FILENAME, filename)
        for name, value in fields.items()
    }


# -- inside --------------------------------------------------------------------------------


async def _allowed(
    request: web.Request,
    fields: Mapping[str, str],
    bucket: str,
    keys: AccessKeys,
    clock: Clock,
) -> tuple[FormPolicy, Signature | None, AccessKey]:
    """The policy of a form that it fulfils, and who signed it: without a policy, nobody.

    Raises:
        S3Error: it does not fulfil it, or is not signed as it says.
        MetadataUnavailable: Redis does not answer.
    """
    claim = parse_form(fields)
    if claim is None:
        if not SIGNS.isdisjoint(fields) or "Authorization" in request.headers:
            raise S3Error("AccessDenied", "The form has parts of a signature, and no policy.")
        return _ANYTHING, None, NOBODY
    now_ms = clock.now_ms()
    key = await keys.find(claim.access_key_id)
    if key is None:
        raise S3Error("InvalidAccessKeyId", AWSAccessKeyId=claim.access_key_id)
    _verify(claim, key, now_ms)
    policy = parse_policy(claim.policy)
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    policy.check({**fields, "bucket": bucket}, now)
    return policy, Signature(key.owner, "POST", claim.date), key


async def _check_may(gate: Gate, bucket: str, key: str, tags: Mapping[str, str]) -> None:
    for action in ("PutObject", "PutObjectTagging") if tags else ("PutObject",):
        if not await gate.may(action, bucket, key):
            raise S3Error("AccessDenied")


def _verify(claim: FormClaim, key: AccessKey, now_ms: int) -> None:
    """Hold a form to the secrets of its access key: one has to fit."""
    newest, *others = key.secrets(now_ms)
    try:
        verify_form(claim, newest)
    except S3Error as error:
        for each in others:
            try:
                verify_form(claim, each)
            except S3Error:
                continue
            return
        raise error from None


def _told(version: Version, fields: Mapping[str, str], where: str) -> web.Response:
    """The answer that the form asks for."""
    etag = f'"{version.etag}"'
    bucket, key = plain_name(version)
    location = f"{where.rstrip('/')}/{quote(key, safe='/-._~')}"
    headers = {"ETag": etag, "Location": location} | checksum_headers(version)
    wanted = fields.get("success_action_redirect") or fields.get("redirect", "")
    if redirect := _redirect(wanted):
        names = urlencode({"bucket": bucket, "key": key, "etag": etag})
        headers["Location"] = f"{redirect}{'&' if urlsplit(redirect).query else '?'}{names}"
        return web.Response(status=web.HTTPSeeOther.status_code, headers=headers)
    status = _STATUSES.get(fields.get("success_action_status", ""), 204)
    if status != web.HTTPCreated.status_code:
        return web.Response(status=status, headers=headers)
    told: list[Tree] = [
        ("Location", location),
        ("Bucket", bucket),
        ("Key", key),
        ("ETag", etag),
    ]
    body = document(("PostResponse", told), namespace="")
    return web.Response(body=body, status=status, headers={"Content-Type": CONTENT_TYPE} | headers)


def _tags(fields: Mapping[str, str]) -> dict[str, str]:
    """The tags in a form."""
    if "tagging" not in fields:
        return {}
    return tags_in(parsed(fields["tagging"].encode(), "Tagging"), OBJECT_TAGS_MAX)


def _redirect(url: str) -> str:
    """Where the browser goes then; "" if that is no address on the web, as if nothing was said."""
    if not _URL.fullmatch(url):
        return ""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return url if parts.scheme in ("http", "https") and parts.netloc and not parts.fragment else ""


def _no_field(name: str) -> str:
    return (
        f"Bucket POST must contain a field named '{name}'. If it is specified, please check the "
        "order of the fields."
    )
