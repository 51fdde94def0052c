"""The S3 door: a request is let in, its operation found, its answer or its error given as S3 does.

```
request ── who? (signature) ── what? (operations) ── may he? ── operation ──► answer
              │ AccessDenied     │ NotImplemented     │ AccessDenied  │
              └──────────────────┴────────────────────┴───────────────┴──► error document
```

Nothing of a body is read before a signature holds, and nothing but the key is asked of Redis. Who
has none is anonymous, and may what the settings of a bucket let everybody do. The question of a
browser whether it may ask (`origins`) has none; it, and an answer to a page of another origin,
needs the bucket's rules. That of a form stands in its fields (`router.gateway.s3.form_upload`).
Hosts of websites have a door of their own, without signatures (`router.gateway.s3.website`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, cast

from aiohttp import web

from common.clock import Clock
from common.errors import PutterError
from common.limits import KIB
from common.logs import get_logger
from common.requests import bind_request, current_request
from common.web import Connection, note_failure
from router.gateway.s3 import (
    bucket_encryption,
    buckets,
    fixed,
    lifecycle,
    locking,
    multipart,
    notification,
    object_acls,
    origins,
    reading,
    sharing,
    tagging,
    writing,
)
from router.gateway.s3.access import AccessKeys, caller_of
from router.gateway.s3.acls import asked_acl
from router.gateway.s3.address import Address, address_of
from router.gateway.s3.call import HOST_ID, REQUEST_ID, Call, Store, count
from router.gateway.s3.completion import complete_upload
from router.gateway.s3.documents import CONTENT_TYPE, Tree, document
from router.gateway.s3.facts import Facts, Signature
from router.gateway.s3.failures import S3Error
from router.gateway.s3.form_upload import is_form, post_object
from router.gateway.s3.gate import Gate
from router.gateway.s3.headers import refuse_unknown
from router.gateway.s3.mapping import mapped
from router.gateway.s3.object_facts import ObjectFacts
from router.gateway.s3.operations import OPERATIONS, operation_of, takes_no_body
from router.gateway.s3.pages import list_objects
from router.gateway.s3.policy.actions import ON_UPLOADS, TAKE_ACLS
from router.gateway.s3.renaming import rename_object
from router.gateway.s3.sigv4 import SignedRequest
from router.gateway.s3.sse_headers import asked_for
from router.gateway.s3.uploads import list_uploads
from router.gateway.s3.versioning import get_bucket_versioning, put_bucket_versioning
from router.gateway.s3.versions import list_versions
from router.gateway.s3.website import configuration
from router.gateway.s3.website.serving import OPERATION, Websites
from router.origin import Origin, bind_origin

_log = get_logger(__name__)
_RETRY: Final = 503
_IGNORED_BYTES_MAX: Final = 64 * KIB
"""Of a body that means nothing, and yet has to be what was signed."""
_FAILED: Final = 500

Operation = Callable[[Call], Awaitable[web.StreamResponse]]

_HANDLERS: Final[dict[str, Operation]] = {
    "ListBuckets": buckets.list_buckets,
    "CreateBucket": buckets.create_bucket,
    "HeadBucket": buckets.head_bucket,
    "DeleteBucket": buckets.delete_bucket,
    "GetBucketLocation": buckets.get_location,
    "GetBucketCors": origins.get_bucket_cors,
    "PutBucketCors": origins.put_bucket_cors,
    "DeleteBucketCors": origins.delete_bucket_cors,
    "GetBucketEncryption": bucket_encryption.get_bucket_encryption,
    "PutBucketEncryption": bucket_encryption.put_bucket_encryption,
    "DeleteBucketEncryption": bucket_encryption.delete_bucket_encryption,
    "GetBucketAcl": sharing.get_bucket_acl,
    "PutBucketAcl": sharing.put_bucket_acl,
    "GetBucketPolicy": sharing.get_policy,
    "PutBucketPolicy": sharing.put_policy,
    "DeleteBucketPolicy": sharing.delete_policy,
    "GetBucketPolicyStatus": sharing.get_policy_status,
    "GetPublicAccessBlock": sharing.get_block,
    "PutPublicAccessBlock": sharing.put_block,
    "DeletePublicAccessBlock": sharing.delete_block,
    "GetBucketOwnershipControls": sharing.get_ownership,
    "PutBucketOwnershipControls": sharing.put_ownership,
    "DeleteBucketOwnershipControls": sharing.delete_ownership,
    "GetBucketLifecycleConfiguration": lifecycle.get_lifecycle,
    "PutBucketLifecycleConfiguration": lifecycle.put_lifecycle,
    "DeleteBucketLifecycle": lifecycle.delete_lifecycle,
    "GetBucketNotificationConfiguration": notification.get_notification,
    "PutBucketNotificationConfiguration": notification.put_notification,
    "GetBucketTagging": tagging.get_bucket_tagging,
    "PutBucketTagging": tagging.put_bucket_tagging,
    "DeleteBucketTagging": tagging.delete_bucket_tagging,
    "GetBucketWebsite": configuration.get_website,
    "PutBucketWebsite": configuration.put_website,
    "DeleteBucketWebsite": configuration.delete_website,
    "GetObjectLockConfiguration": locking.get_configuration,
    "PutObjectLockConfiguration": locking.put_configuration,
    "GetObjectLegalHold": locking.get_hold,
    "PutObjectLegalHold": locking.put_hold,
    "GetObjectRetention": locking.get_retention,
    "PutObjectRetention": locking.put_retention,
    "ListMultipartUploads": list_uploads,
    "CreateMultipartUpload": multipart.create_upload,
    "UploadPart": multipart.upload_part,
    "UploadPartCopy": multipart.upload_part_copy,
    "ListParts": multipart.list_parts,
    "CompleteMultipartUpload": complete_upload,
    "AbortMultipartUpload": multipart.abort_upload,
    "GetBucketVersioning": get_bucket_versioning,
    "PutBucketVersioning": put_bucket_versioning,
    "ListObjects": list_objects,
    "ListObjectVersions": list_versions,
    "DeleteObjects": writing.delete_objects,
    "PutObject": writing.put_object,
    "CopyObject": writing.copy_object,
    "RenameObject": rename_object,
    "DeleteObject": writing.delete_object,
    "GetObject": reading.get_object,
    "HeadObject": reading.get_object,
    "GetObjectAcl": object_acls.get_object_acl,
    "PutObjectAcl": object_acls.put_object_acl,
    "GetObjectAttributes": reading.get_attributes,
    "GetObjectTagging": tagging.get_object_tagging,
    "PutObjectTagging": tagging.put_object_tagging,
    "DeleteObjectTagging": tagging.delete_object_tagging,
}
assert set(OPERATIONS.values()) | {"CopyObject", "UploadPartCopy"} == (
    set(_HANDLERS) | set(fixed.DOCUMENTS) | set(fixed.ABSENT)
)


class S3Door:
    """The application behind the S3 port.

    Args:
        store: what it is for.
        keys: knows access keys.
        clock: tells when a signature is too old.
        domain: under which buckets have host names of their own; "": none.
        websites: have host names of their own, too.
        host_id: what answers tell of this process.
    """

    def __init__(
        self,
        store: Store,
        keys: AccessKeys,
        clock: Clock,
        domain: str,
        websites: Websites,
        host_id: str,
    ) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._domain = domain
        self._websites = websites
        self._host_id = host_id

    def application(self) -> web.Application:
        """What answers."""

        async def sign(request: web.Request, response: web.StreamResponse) -> None:
            response.headers[REQUEST_ID] = current_request()
            response.headers[HOST_ID] = self._host_id
            if "Origin" in request.headers and request.method != "OPTIONS":
                response.headers.update(await self._told_origin(request))

        application = web.Application()
        application.on_response_prepare.append(sign)
        application.router.add_route("*", "/{path:(?s:.*)}", self.answer, expect_handler=_later)
        return application

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a request, whatever it is."""
        started = time.perf_counter()
        bind_request()
        operation = ["none"]
        try:
            response = await self._answer(request, operation)
        except S3Error as error:
            response = self._refused(request, error)
        except PutterError as error:
            note_failure(error, request.path)
            response = self._refused(request, mapped(error))
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception:  # noqa: BLE001 - the client gets an answer, the log the trace
            _log.exception("a request failed unexpectedly", path=request.path)
            response = self._refused(request, S3Error("InternalError"))
        count(self._store.metrics, request.method, operation[0], response.status, started)
        return response

    # -- inside ----------------------------------------------------------------------------

    async def _answer(self, request: web.Request, operation: list[str]) -> web.StreamResponse:
        cast("Connection", request.protocol).check(request.path)
        if request.method == "OPTIONS":
            operation[0] = origins.PREFLIGHT
            return await origins.preflight(self._store, self._address(request), request.headers)
        if self._is_of_website(request):
            operation[0] = OPERATION
            return await self._websites.answer(request, self._address(request))
        path, _, query = request.raw_path.partition("?")
        if request.method == "POST" and is_form(form := self._address(request)):
            operation[0] = "PostObject"
            return await post_object(request, form.bucket, self._store, self._keys, self._clock)
        signed = SignedRequest(request.method, path, query, list(request.headers.items()))
        caller = await caller_of(signed, self._keys, self._clock)
        address = self._address(request)
        copies = "x-amz-copy-source" in request.headers
        try:
            name = operation[0] = operation_of(request.method, address, copies=copies)
        except S3Error:
            if caller.anonymous:
                raise S3Error("AccessDenied") from None
            raise
        refuse_unknown(request.headers.items(), name)
        asked = await self._asked(request, address, name)
        about = ObjectFacts(self._store.meta, lambda: tagging.asked_tags(call, name))
        rules, key = self._store.rules, caller.key
        gate = Gate(rules, key, lambda: self._facts(name, signed, call, *asked), about)
        call = Call(request, address, caller, self._store, gate)
        await gate.admit(name, address)
        if address.bucket:
            await call.check_owner(address.bucket, "x-amz-expected-bucket-owner")
        bind_origin(Origin(key.owner, request.remote or "", current_request()))
        handler = _HANDLERS.get(name)
        try:
            if request.body_exists and takes_no_body(name):
                await call.document(_IGNORED_BYTES_MAX)
            if handler is None:
                return await fixed.get_fixed(call, name)
            return await handler(call)
        except (S3Error, PutterError) as error:
            failure = mapped(error)
            told = await gate.masked(failure, address.bucket)
            if told is failure:
                raise
            raise told from None

    def _address(self, request: web.Request) -> Address:
        """What a request is about.

        Raises:
            S3Error: nothing of this door.
        """
        host = request.headers.get("Host", "")
        domain = self._websites.domain if self._websites.owns(host) else self._domain
        return address_of(request.raw_path, host, domain)

    def _is_of_website(self, request: web.Request) -> bool:
        return self._websites.owns(request.headers.get("Host", ""))

    async def _told_origin(self, request: web.Request) -> Mapping[str, str]:
        """What any answer to a script in a browser tells, errors too."""
        try:
            address = self._address(request)
        except S3Error:
            return {}
        origin = request.headers["Origin"]
        return await origins.origin_headers(self._store, address, request.method, origin)

    async def _asked(
        self, request: web.Request, address: Address, name: str
    ) -> tuple[str | None, Mapping[str, str]]:
        """The ACL that a request names, and what it says of encryption.

        Or what was said when the upload was begun that it goes on with.
        """
        if name in ON_UPLOADS:
            if (await self._store.rules.of(address.bucket)).plain:
                return None, {}
            return await multipart.asked_at_first(self._store, address)
        acl = asked_acl(request.headers, address.parameters) if name in TAKE_ACLS else None
        return acl, asked_for(request.headers)

    def _facts(
        self,
        name: str,
        signed: SignedRequest,
        call: Call,
        acl: str | None,
        encryption: Mapping[str, str],
    ) -> Facts:
        request, claim = call.request, call.caller.verified.claim
        signature = None
        if not call.caller.anonymous:
            kind = "REST-QUERY-STRING" if claim.presigned else "REST-HEADER"
            signature = Signature(call.caller.key.owner, kind, claim.date)
        return Facts(
            name,
            signed.by_name,
            call.parameters,
            acl,
            signature,
            request.remote or "",
            request.secure,
            self._clock.now_ms(),
            encryption,
        )

    def _refused(self, request: web.Request, error: S3Error) -> web.Response:
        if self._is_of_website(request):
            response = self._websites.page(error)
        else:
            path = request.raw_path.partition("?")[0]
            response = error_answer(error, path, self._host_id)
        if request.method == "HEAD":
            del response.headers["Content-Type"]
            response.body = None
        if request.body_exists and not request.content.is_eof():
            # What is left of the body, if it still comes, would be taken for the next request.
            response.force_close()
        return response


def error_answer(error: S3Error, resource: str, host_id: str) -> web.Response:
    """An error as S3 tells it.

    Args:
        error: what to tell.
        resource: the path of the request.
        host_id: what answers tell of this process.
    """
    if error.status == web.HTTPNotModified.status_code:
        return web.Response(status=error.status)
    told: list[Tree] = [("Code", error.code), ("Message", error.message)]
    told += list(error.fields.items())
    told += [("Resource", resource), ("RequestId", current_request()), ("HostId", host_id)]
    headers = error.headers | {"Content-Type": CONTENT_TYPE}
    if error.status == _RETRY:
        headers["Retry-After"] = "1"
    return web.Response(
        body=document(("Error", told), namespace=""), status=error.status, headers=headers
    )


async def _later(_: web.Request) -> None:
    """A client that waits for leave to send its body gets it when the body is read."""
