"""The chain of signatures in a body that is signed chunk by chunk.

```
seed      = the signature of the request
chunk     : "AWS4-HMAC-SHA256-PAYLOAD" LF timestamp LF scope LF previous signature LF
            hex(sha256("")) LF hex(sha256(chunk data))
trailer   : "AWS4-HMAC-SHA256-TRAILER" LF timestamp LF scope LF previous signature LF
            hex(sha256((name ":" value LF)*))
```

Each link signs the one before, so that no chunk can be left out, moved or added.

(AWS: S3 API reference, "Transferring Payload in Multiple Chunks" and "Including Trailing
Headers".)
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import Final

from router.gateway.s3.failures import S3Error

_EMPTY: Final = sha256(b"").hexdigest()


class ChunkSignatures:
    """Checks the links of one body in their order.

    Args:
        key: the signing key of the request.
        timestamp: when the request was signed, ``YYYYMMDDTHHMMSSZ``.
        scope: ``YYYYMMDD/region/s3/aws4_request``.
        seed: the signature of the request.
    """

    def __init__(self, key: bytes, timestamp: str, scope: str, seed: str) -> None:
        self._key = key
        self._head = f"{timestamp}\n{scope}\n"
        self._last = seed

    def chunk(self, signature: bytes, digest: str) -> None:
        """Check the next chunk; the last one is empty.

        Args:
            signature: what the chunk's line said.
            digest: hex SHA-256 of the chunk's data.

        Raises:
            S3Error: it is not signed so.
        """
        self._check(
            signature, f"AWS4-HMAC-SHA256-PAYLOAD\n{self._head}{self._last}", _EMPTY, digest
        )

    def trailer(self, signature: bytes, lines: bytes) -> None:
        """Check the trailer, after the last chunk.

        Args:
            signature: what ``x-amz-trailer-signature`` said.
            lines: the other trailers, each as ``name:value`` and a line feed.

        Raises:
            S3Error: it is not signed so.
        """
        start = f"AWS4-HMAC-SHA256-TRAILER\n{self._head}{self._last}"
        self._check(signature, start, sha256(lines).hexdigest())

    def _check(self, signature: bytes, *parts: str) -> None:
        text = "\n".join(parts).encode("utf-8", "surrogateescape")
        ours = hmac.digest(self._key, text, sha256).hex()
        if not hmac.compare_digest(ours.encode(), signature):
            raise S3Error("SignatureDoesNotMatch")
        self._last = ours
