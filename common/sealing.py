"""Secrets of access keys at rest: encrypted wherever they are kept.

```
offset  size  field
0       12    nonce, random
12      …     the secret in UTF-8, encrypted with AES-256-GCM, and a tag of 16 bytes
```

The key is derived from the cluster key, whose id stands beside it. The access key id is
authenticated: the sealed secret of one key is none for another.
"""

from __future__ import annotations

import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common.errors import IntegrityError
from common.keys import ClusterKey

_NONCE_BYTES: Final = 12


def seal(key: ClusterKey, access_key_id: str, secret: str) -> bytes:
    """Encrypt the secret of an access key."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(key.access).encrypt(nonce, secret.encode(), access_key_id.encode())


def unseal(key: ClusterKey, access_key_id: str, sealed: bytes) -> str:
    """The secret of an access key.

    Args:
        key: the cluster key that it was sealed with.
        access_key_id: whose secret it is.
        sealed: what `seal` made.

    Raises:
        IntegrityError: it was changed, or is that of another access key.
    """
    nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    try:
        return AESGCM(key.access).decrypt(nonce, rest, access_key_id.encode()).decode()
    except (InvalidTag, ValueError) as error:
        raise IntegrityError(
            f"the secret of access key {access_key_id[:128]!r} is not what was sealed",
            hint="rotate the key: putter keys rotate",
        ) from error
