"""Encryption that a client asks for: with keys of the store (SSE-S3), or with its own (SSE-C).

```
PUT   headers, or the setting of the bucket ──► Writing: the bytes are encrypted on their way
GET   version ──► a client's key needed? given? the one? ──► a `ReadPath` that opens it
```

A client's key is used and forgotten: nothing that is kept or logged holds it.

(AWS: S3 user guide, "Server-side encryption with Amazon S3 managed keys", "... with
customer-provided keys".)
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import b64decode
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from aiohttp import web

from common.records import Encryption, Version
from common.web import is_loopback
from router.gateway.s3.call import Call, Store
from router.gateway.s3.checksums import Buffer
from router.gateway.s3.failures import S3Error
from router.gateway.s3.headers import told_encryption
from router.gateway.s3.sse_headers import ALGORITHM, CUSTOMER, KMS, SOURCE_CUSTOMER, SSE
from router.object_keys import (
    CUSTOMER_KEY_BYTES,
    ObjectKey,
    customer_key,
    encrypted,
    key_of,
    opened_by,
    own_key,
)
from router.reads import ReadPath
from router.targets import Sealed

_MD5_BYTES: Final = 16
_ETAG_BYTES: Final = 16
_WITH_KEY: Final = "Requests specifying Server Side Encryption with Customer provided keys must"
_NOT_APPLICABLE: Final = "The encryption parameters are not applicable to this object."
_NO_KEY: Final = (
    "The object was stored using a form of Server Side Encryption. The correct parameters must be "
    "provided to retrieve the object."
)
_NO_KEY_OF_PART: Final = (
    "The multipart upload initiate requested encryption. Subsequent part requests must include the "
    "appropriate encryption parameters."
)
_OTHER_KEY_OF_PART: Final = (
    "The provided encryption parameters did not match the ones used originally."
)


@dataclass(frozen=True)
class CustomerKey:
    """A key that came with a request. Its representation does not show it.

    Attributes:
        secret: for AES-256.
        md5: of it, in Base64.
    """

    secret: bytes = field(repr=False)
    md5: str

    @property
    def told(self) -> dict[str, str]:
        """What an answer tells of it."""
        return {f"{CUSTOMER}-algorithm": ALGORITHM, f"{CUSTOMER}-key-MD5": self.md5}


@dataclass(frozen=True)
class Writing:
    """How a stream is encrypted on its way in.

    Attributes:
        key: with what; None: it is not.
        customer: where that comes from, if it came with the request.
        etag: stands for the MD5 of what is encrypted with a client's key; "": the MD5 does.
    """

    key: ObjectKey | None = None
    customer: CustomerKey | None = None
    etag: str = ""

    @property
    def encryption(self) -> Encryption | None:
        """What the version keeps of it."""
        return None if self.key is None else self.key.encryption

    @property
    def told(self) -> dict[str, str]:
        """What an answer tells of it."""
        return told_encryption(self.encryption) if self.customer is None else self.customer.told

    def chunks(self, plain: AsyncGenerator[Buffer, None]) -> AsyncGenerator[Buffer, None]:
        """The stream as it is stored."""
        return plain if self.key is None else encrypted(plain, self.key)

    def seal(self, of_plain: Callable[[], Sealed]) -> Callable[[], Sealed]:
        """What the write path keeps of the checksums of the plain bytes."""
        return lambda: replace(of_plain(), etag=self.etag) if self.etag else of_plain()


def customer_in(
    headers: Mapping[str, str], request: web.Request, prefix: str = CUSTOMER
) -> CustomerKey | None:
    """The key that came with a request; None: there is none.

    Args:
        headers: of the request, or the fields of a form.
        request: it.
        prefix: of the names of its headers.

    Raises:
        S3Error: it is none, or came over a connection on which others can read it.
    """
    names = (f"{prefix}-algorithm", f"{prefix}-key", f"{prefix}-key-md5")
    algorithm, text, said = (headers.get(name) for name in names)
    if algorithm is None and text is None and said is None:
        return None
    if not (request.secure or is_loopback(request.remote or "")):
        raise S3Error("InvalidRequest", f"{_WITH_KEY} be made over a secure connection.")
    if algorithm != ALGORITHM:
        told = f"{_WITH_KEY} provide a valid encryption algorithm."
        raise _invalid(prefix, "algorithm", told, algorithm or "")
    if text is None:
        raise _invalid(prefix, "key", f"{_WITH_KEY} provide an appropriate secret key.")
    if said is None:
        raise _invalid(
            prefix, "key-MD5", f"{_WITH_KEY} provide the client calculated MD5 of the secret key."
        )
    secret = _base64(text, CUSTOMER_KEY_BYTES)
    if secret is None:
        raise _invalid(prefix, "key", "The secret key was invalid for the specified algorithm.")
    md5 = hashlib.md5(secret, usedforsecurity=False).digest()
    if not hmac.compare_digest(_base64(said, _MD5_BYTES) or b"", md5):
        raise _invalid(
            prefix,
            "key-MD5",
            "The calculated MD5 hash of the key did not match the hash that was provided.",
        )
    return CustomerKey(secret, said)


def has_customer_key(encryption: Encryption | None) -> bool:
    """Whether a client keeps the key: then an entity tag is no MD5."""
    return encryption is not None and not encryption.key_id


def begun_with(encryption: Encryption | None) -> dict[str, str]:
    """What the request that began an upload asked for, as `sse_headers.asked_for` has it."""
    if encryption is None:
        return {}
    return {SSE if encryption.key_id else f"{CUSTOMER}-algorithm": ALGORITHM}


async def writing_of(
    headers: Mapping[str, str],
    request: web.Request,
    store: Store,
    bucket: str,
    source: Version | None = None,
) -> Writing:
    """How the object of a request is encrypted.

    Args:
        headers: of the request, or the fields of a form.
        request: it.
        store: what is behind the door.
        bucket: where the object goes.
        source: which it is a copy of: that of an encrypted one is encrypted, whatever is asked for.

    Raises:
        S3Error: as is asked for is not done here.
        MetadataUnavailable: Redis does not answer.
    """
    asked = headers.get(SSE)
    if asked in KMS:
        raise S3Error("NotImplemented", "Keys of a key management service are not implemented.")
    if asked not in (None, ALGORITHM):
        raise S3Error(
            "InvalidArgument",
            "The encryption method specified is not supported",
            ArgumentName=SSE,
            ArgumentValue=str(asked),
        )
    customer = customer_in(headers, request)
    if customer is not None:
        if asked is not None:
            raise S3Error(
                "InvalidArgument",
                "Server Side Encryption with Customer provided key is incompatible with the "
                "encryption method specified",
                ArgumentName=SSE,
                ArgumentValue=asked,
            )
        return Writing(customer_key(customer.secret), customer, secrets.token_hex(_ETAG_BYTES))
    hidden = source is not None and source.encryption is not None
    if asked is None and not hidden and not (await store.writes.policies.of(bucket)).encrypted:
        return Writing()
    return Writing(own_key(store.writes.keyring))


def writing_of_part(call: Call, upload: Encryption | None) -> Writing:
    """How a part of an upload is encrypted.

    Args:
        call: the request.
        upload: how the upload is.

    Raises:
        S3Error: with another key, or none.
    """
    key = key_of_upload(call, upload)
    if key is None:
        if upload is not None:
            raise S3Error("InvalidRequest", _NO_KEY_OF_PART)
        return Writing()
    customer = customer_in(call.headers, call.request)
    etag = "" if customer is None else secrets.token_hex(_ETAG_BYTES)
    return Writing(key.of_part(), customer, etag)


def key_of_upload(call: Call, upload: Encryption | None) -> ObjectKey | None:
    """The key of an upload; None: it has none, or its client did not give it.

    Raises:
        S3Error: the client gave another one.
    """
    customer = customer_in(call.headers, call.request)
    if upload is None or upload.key_id:
        if customer is not None:
            raise S3Error("InvalidRequest", _NOT_APPLICABLE)
        return None if upload is None else key_of(call.store.writes.keyring, upload)
    if customer is None:
        return None
    key = opened_by(customer.secret, upload)
    if key is None:
        raise S3Error("InvalidRequest", _OTHER_KEY_OF_PART)
    return key


def opened(
    call: Call, version: Version, reads: ReadPath, prefix: str = CUSTOMER
) -> tuple[ReadPath, dict[str, str]]:
    """How a version is read for a request, and what the answer tells of its key.

    Args:
        call: the request.
        version: what is read.
        reads: how others are.
        prefix: of the headers with the key.

    Raises:
        S3Error: the key is missing, or is another one, or there is none.
    """
    customer = customer_in(call.headers, call.request, prefix)
    encryption = version.encryption
    if encryption is None or encryption.key_id:
        if customer is not None:
            raise S3Error("InvalidRequest", _NOT_APPLICABLE)
        return reads, {}
    if customer is None:
        raise S3Error("InvalidRequest", _NO_KEY)
    key = opened_by(customer.secret, encryption)
    if key is None:
        raise S3Error("AccessDenied")
    return reads.opening(key), customer.told


def opened_source(call: Call, version: Version, reads: ReadPath) -> ReadPath:
    """The same for the source of a copy.

    Raises:
        S3Error: as `opened`.
    """
    return opened(call, version, reads, SOURCE_CUSTOMER)[0]


def _invalid(prefix: str, part: str, message: str, value: str = "") -> S3Error:
    """What is wrong with a header; a key is never told again."""
    if value:
        name = f"{prefix}-{part}"
        return S3Error("InvalidArgument", message, ArgumentName=name, ArgumentValue=value)
    return S3Error("InvalidArgument", message, ArgumentName=f"{prefix}-{part}")


def _base64(text: str, size: int) -> bytes | None:
    try:
        found = b64decode(text.encode("ascii"), validate=True)
    except ValueError:
        return None
    return found if len(found) == size else None
