"""Where the versions of a bucket are kept that has versioning: in a bucket that no client can name.

```
@versions.<bucket>   <key, escaped> U+0001 U+0001 <16 digits>   a version of the key
<bucket>             <key>                                      its null version
```

To everything below the doors a version is a file like others; so is a delete marker, which has no
byte and no entity tag. The digits count down from the number of the version, a stamp that was taken
once it was clear that the version comes: so the versions of a key lie beside each other, the newest
first. In keys that hold U+0000 or U+0001 these stand as U+0001 U+0002 and U+0001 U+0003, so that
names sort as their keys do, and no name is that of another key.

What a name holds *now* is the null version if its stamp is above the numbers of all others, else
the first of these; nothing, if that is a delete marker.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal, get_args

from common.errors import TicketInvalid, UsageError
from common.records import Version

Versioning = Literal["", "Enabled", "Suspended"]
"""How a bucket keeps versions; "": it never did."""
SETTING: Final = "versioning"
"""The setting of a bucket that says so."""
NUMBER_MAX: Final = (1 << 53) - 1
"""No stamp is larger: scripts compute with them."""

_VERSIONS: Final = "@versions."
_BETWEEN: Final = "\x01\x01"
_DIGITS: Final = 16
_ESCAPED: Final = re.compile("[\x00\x01]")
_TAIL: Final = len(_BETWEEN) + _DIGITS
_ID_CHARS_MIN: Final = 6
_ID_CHARS_MAX: Final = 16


def versions_of(bucket: str) -> str:
    """Where the versions of a bucket are."""
    return _VERSIONS + bucket


def has_versions(bucket: str) -> bool:
    """Whether this is where versions of a bucket are."""
    return bucket.startswith(_VERSIONS)


def plain_bucket(bucket: str) -> str:
    """The bucket that clients know: the one whose versions are here, or this one."""
    return bucket.removeprefix(_VERSIONS)


def version_name(key: str, number: int) -> str:
    """The name of a version.

    Args:
        key: of the file.
        number: the version's place among those of its key, 0…`NUMBER_MAX`.
    """
    return f"{_escaped(key)}{_BETWEEN}{NUMBER_MAX - number:0{_DIGITS}}"


def read_version_name(name: str) -> tuple[str, int]:
    """Key and number in the name of a version."""
    key = name[:-_TAIL].replace("\x01\x02", "\x00").replace("\x01\x03", "\x01")
    return key, NUMBER_MAX - int(name[-_DIGITS:])


def version_bounds(prefix: str, after: str) -> tuple[bytes, bytes]:
    """The bounds of ZRANGEBYLEX for versions of keys with a prefix that sort behind a key."""
    first, behind = _escaped(prefix).encode(), _escaped(after).encode()
    high = b"(" + first + b"\xff"
    if behind and behind >= first:
        return b"[" + behind + b"\x01\x02", high
    return b"[" + first if first else b"-", high


def plain_name(version: Version) -> tuple[str, str]:
    """Bucket and key of a version, as clients know them."""
    return plain_file(version.bucket, version.key)


def plain_file(bucket: str, name: str) -> tuple[str, str]:
    """The same of a name of this very bucket."""
    if has_versions(bucket):
        return plain_bucket(bucket), read_version_name(name)[0]
    return bucket, name


def number_of(version: Version) -> int:
    """The place of a version among those of its key."""
    if has_versions(version.bucket):
        return read_version_name(version.key)[1]
    return version.stamp


def version_id(version: Version) -> str:
    """The ID of a version as clients are told it; "" for a null version."""
    from common.tickets import format_id  # and with it numpy, which what starts first does without

    return format_id(number_of(version)) if has_versions(version.bucket) else ""


def read_version_id(text: str) -> int | None:
    """The number of a version with this ID; None if no version can have it."""
    if not _ID_CHARS_MIN <= len(text) <= _ID_CHARS_MAX:
        return None
    from common.tickets import parse_id

    try:
        number = parse_id(text)
    except TicketInvalid:
        return None
    return number if number <= NUMBER_MAX else None


def versioning_of(settings: Mapping[str, Any]) -> Versioning:
    """How a bucket with these settings keeps versions.

    Raises:
        UsageError: not a way that is known here.
    """
    told = settings.get(SETTING, "")
    if told not in get_args(Versioning):
        raise UsageError(f"versioning of a bucket is Enabled or Suspended, not {told!r}")
    found: Versioning = told
    return found


def _escaped(key: str) -> str:
    if "\x00" not in key and "\x01" not in key:
        return key
    return _ESCAPED.sub(lambda match: "\x01\x02" if match[0] == "\x00" else "\x01\x03", key)
