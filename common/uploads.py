"""Where uploads in parts are kept until they are completed: in buckets that no client can name.

```
@uploads.<bucket>   <key> U+0001 <upload>      the upload: its headers, owner, checksum
@parts.<bucket>     <upload>/<part, 5 digits>  the bytes of a part
```

To everything below the doors an upload and a part are files like others: their commit records are
durable before the answer, replayed into a Redis that lost them, owed to putters that were away,
moved, repaired and freed. They are kept as the bucket is that they are for.

An upload's ID is the time of its beginning in milliseconds (12 hex digits) and 20 random ones, so
the uploads of a key are in the order of time.
"""

from __future__ import annotations

import re
from typing import Final

from common.versions import plain_bucket

ID_CHARS: Final = 32
_UPLOADS: Final = "@uploads."
_PARTS: Final = "@parts."
_BETWEEN: Final = "\x01"
_BEHIND: Final = "~"
_ID: Final = re.compile(r"[0-9a-f]{32}")


def upload_id(now_ms: int, word: bytes) -> str:
    """The ID of a new upload.

    Args:
        now_ms: wall clock.
        word: 10 random bytes.
    """
    return f"{now_ms:012x}{word.hex()}"


def is_upload_id(text: str) -> bool:
    """Whether an upload can have this ID."""
    return _ID.fullmatch(text) is not None


def uploads_of(bucket: str) -> str:
    """Where the open uploads of a bucket are."""
    return _UPLOADS + bucket


def parts_of(bucket: str) -> str:
    """Where the parts of these are."""
    return _PARTS + bucket


def is_hidden(bucket: str) -> bool:
    """Whether this is no bucket of files."""
    return bucket.startswith("@")


def bucket_with_parts(bucket: str) -> str:
    """The bucket whose parts are in this one; "" if it is for something else."""
    return bucket.removeprefix(_PARTS) if bucket.startswith(_PARTS) else ""


def kept_like(bucket: str) -> str:
    """The bucket by whose settings this one is kept."""
    for prefix in (_UPLOADS, _PARTS):
        if bucket.startswith(prefix):
            return bucket.removeprefix(prefix)
    return plain_bucket(bucket)


def upload_name(key: str, upload: str) -> str:
    """The name of an upload; those of one key follow each other."""
    return f"{key}{_BETWEEN}{upload}"


def read_upload_name(name: str) -> tuple[str, str]:
    """Key and ID in the name of an upload."""
    return name[: -ID_CHARS - len(_BETWEEN)], name[-ID_CHARS:]


def behind_uploads(key: str) -> str:
    """Sorts behind all uploads of a key."""
    return upload_name(key, _BEHIND)


def part_name(upload: str, number: int) -> str:
    """The name of a part; those of an upload follow each other by number."""
    return f"{upload}/{number:05}"


def read_part_name(name: str) -> tuple[str, int]:
    """Upload and number in the name of a part."""
    upload, _, number = name.partition("/")
    return upload, int(number)


def behind_parts(upload: str) -> str:
    """Sorts behind all parts of an upload."""
    return f"{upload}/{_BEHIND}"
