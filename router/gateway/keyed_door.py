"""Who may use REST, and for what: access keys beside the token.

```
Authorization: Basic id:secret          ┐
Authorization: AWS4-HMAC-SHA256 …       ├─ an access key: what it may, and nothing else
?X-Amz-Signature=… (a presigned URL)    ┘
anything else                            on loopback everything, elsewhere the token
```

A secret in Basic is taken on loopback and over TLS alone. What a key may follows from the route
that answers, so that no spelling of a path makes a difference; a route that is not in the table is
for keys with all rights. What the policy of a bucket denies at the S3 port is denied here too.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

from aiohttp import web

from common.clock import Clock
from common.errors import Forbidden, NotAuthorised, UsageError
from common.keys import Keyring
from common.pairs import ROOT, new_secret
from common.requests import current_request
from common.web import Door
from router.access_keys import AccessKeys
from router.gateway.bodies import BODY_SHA256
from router.gateway.denials import Denials
from router.gateway.files import COPY_SOURCE, MOVE_SOURCE, name_of
from router.gateway.s3.access import verified_by
from router.gateway.s3.failures import S3Error
from router.gateway.s3.sigv4 import SignedRequest, Verified, parse
from router.origin import Origin, bind_origin
from router.rights import Key

KEY: Final = web.RequestKey("access key", Key)
"""Where a request has the key that it came with; without one it may everything."""
_SIGNED: Final = "aws4-hmac-sha256"
_BASIC: Final = "basic"
_PRESIGNED: Final = "X-Amz-Signature="
_HASH: Final = "x-amz-content-sha256"
_OF_NOTHING: Final = sha256(b"").hexdigest()
_READS: Final = frozenset({"GET", "HEAD"})
_OF_FILES: Final = {
    "/file/{name}": "/file/",
    "/metadata/{name}": "/metadata/",
    "/explain/{name}": "/explain/",
}
"""Routes of files, and what stands before the names in their paths."""
_FILE_ACTIONS: Final = {"PUT": "PutObject", "DELETE": "DeleteObject"}
"""What changes files, in the words of policies; all else reads them."""
_OF_ALL: Final = frozenset(
    {"/status", "/metrics", "/ticket/{ticket}", "/buckets", "/scrub", "/repair", "/drain"}
)
"""Routes that tell of the whole store."""


@dataclass(frozen=True)
class Need:
    """What a request takes.

    Attributes:
        bucket: it is about; "": all; None: none.
        write: whether it changes something.
        all_rights: whether it is for keys that may everything.
        action: what a policy of the bucket may deny, without ``s3:``; "": nothing.
        key: of the file that it is about; "": the bucket itself.
    """

    bucket: str | None = ""
    write: bool = False
    all_rights: bool = False
    action: str = ""
    key: str = ""

    def granted(self, key: Key) -> bool:
        """Whether a key may."""
        if self.all_rights:
            return not key.read_only and not key.buckets
        return self.bucket is None or key.may(self.bucket, write=self.write)


def need(route: str, method: str, raw_path: str, bucket: str) -> Need:
    """What a request takes.

    Args:
        route: the path of the route that answers it, with its variables.
        method: of the request.
        raw_path: of the request, not decoded.
        bucket: in its query or its path, decoded; "" for none.

    Raises:
        NameInvalid: it names no file.
    """
    prefix = _OF_FILES.get(route)
    if prefix is not None:
        named, key = name_of(raw_path, prefix)
        action = _FILE_ACTIONS.get(method, "GetObject")
        return Need(named, write=method not in _READS, action=action, key=key)
    if method in _READS:
        if route == "/openapi.json":
            return Need(None)
        if route == "/metadata":
            if not bucket:
                return Need(None)  # the buckets that it tells are those that the key may read
            return Need(bucket, action="ListBucket")
        if route == "/bucket/{bucket}":
            return Need(bucket)
        if route in _OF_ALL:
            return Need()
    return Need(all_rights=True)


def claims_key(headers: Mapping[str, str], query: str = "") -> bool:
    """Whether a request says that it comes with an access key."""
    scheme = headers.get("Authorization", "").partition(" ")[0].lower()
    return scheme in (_BASIC, _SIGNED) or _PRESIGNED in query


class KeyedDoor(Door):
    """Lets in who has an access key, and whom `Door` lets in.

    Args:
        listens_on: the address that the port listens on.
        token: the bearer token; "": those that are derived from the cluster keys.
        keyring: the cluster keys.
        keys: the access keys.
        clock: tells when a signature is too old.
        denials: what policies of buckets deny.
        encrypted: whether connections are.
    """

    def __init__(
        self,
        listens_on: str,
        token: str,
        keyring: Keyring,
        keys: AccessKeys,
        clock: Clock,
        denials: Denials,
        *,
        encrypted: bool,
    ) -> None:
        super().__init__(listens_on, token, keyring)
        self._denials = denials
        self._keys = keys
        self._clock = clock
        self._private = encrypted or self.loopback

    async def admit(self, request: web.Request) -> None:
        """Let a request in.

        Raises:
            HostRefused: on loopback, a Host that is not this machine.
            NotAuthorised: nobody whom this door knows.
            Forbidden: a key that may not do this, or a policy of the bucket denies it.
            UsageError: a body in signed chunks, or what is to be copied is no name.
            MetadataUnavailable: Redis does not answer.
        """
        path, _, query = request.raw_path.partition("?")
        if not claims_key(request.headers, query):
            self.check(request.headers)
            bind_origin(Origin(ROOT, request.remote or "", current_request()))
            return
        self.check_host(request.headers)
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        sources = [name for name in (COPY_SOURCE, MOVE_SOURCE) if name in request.headers]
        claim = None
        if scheme.lower() == _BASIC:
            key = await self._by_secret(given.strip())
        else:
            signed = SignedRequest(request.method, path, query, _signed_headers(request))
            key, verified = await self._by_signature(signed)
            claim = verified.claim
            if claim.payload.chunked:
                raise UsageError("this port takes no body in signed chunks; port 5003 does")
            for name in sources:
                if name.lower() not in claim.signed_headers:
                    raise NotAuthorised(f"{name} has to be signed")
            if verified.sha256 is not None:
                request[BODY_SHA256] = verified.sha256
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else ""
        bucket = request.match_info.get("bucket") or request.query.get("bucket", "")
        needs = [need(route, request.method, request.rel_url.raw_path, bucket)]
        for name in sources:
            source, file = name_of(request.headers[name], "/")
            needs.append(Need(source, action="GetObject", key=file))
            # A copy takes the tags along, if there are any.
            needs.append(Need(source, action="GetObjectTagging", key=file))
            needs.append(replace(needs[0], action="PutObjectTagging"))
            if name == MOVE_SOURCE:
                needs.append(Need(source, write=True, action="DeleteObject", key=file))
        if not all(each.granted(key) for each in needs):
            raise Forbidden(f"access key {key.access_key_id} may not do this")
        for each in needs:
            if each.action and each.bucket:
                about = each.bucket, each.key
                await self._denials.check(request, key, claim, each.action, about)
        request[KEY] = key
        bind_origin(Origin(key.owner, request.remote or "", current_request()))

    # -- inside ----------------------------------------------------------------------------

    async def _by_secret(self, given: str) -> Key:
        if not self._private:
            raise NotAuthorised(
                "this port takes no secret in clear",
                hint="sign the request (curl --aws-sigv4 aws:amz:us-east-1:s3), or use TLS",
            )
        try:
            name, _, secret = base64.b64decode(given, validate=True).decode().partition(":")
        except ValueError:
            raise NotAuthorised("the credentials are not in the form of Basic") from None
        key = await self._keys.find(name)
        secrets = (new_secret(),) if key is None else key.secrets(self._clock.now_ms())
        fits = [hmac.compare_digest(secret.encode(), each.encode()) for each in secrets]
        if key is None or not any(fits):
            raise NotAuthorised("there is no such access key, or it has another secret")
        return key

    async def _by_signature(self, signed: SignedRequest) -> tuple[Key, Verified]:
        try:
            claim = parse(signed)
            key = None if claim is None else await self._keys.find(claim.access_key_id)
            if claim is None or key is None:
                raise NotAuthorised("there is no such access key, or it has another secret")
            now_ms = self._clock.now_ms()
            now = datetime.fromtimestamp(now_ms / 1000, UTC)
            return key, verified_by(key.secrets(now_ms), claim, signed, now)
        except S3Error as error:
            raise NotAuthorised(f"{error.code}: {error.message}") from None


def _signed_headers(request: web.Request) -> list[tuple[str, str]]:
    """The headers of a request, with the hash of no body where one without a body tells none.

    Clients that are not made for S3 leave it out; in a URL it has no place.
    """
    headers = list(request.headers.items())
    told = _HASH in request.headers or "Authorization" not in request.headers
    if not told and not request.can_read_body:
        headers.append((_HASH, _OF_NOTHING))
    return headers
