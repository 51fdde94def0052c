"""What a request is about: bucket, key and sub-resource, from its raw target and its Host. Pure.

```
path style            /bucket/key?query        Host: anything
virtual-host style    /key?query               Host: bucket.<domain>[:port]
```

Nothing in a path is cleaned up: ``//``, ``.`` and ``..`` are part of the key. A ``+`` in a path is
itself; in a query it is a blank, as browsers write it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from common.errors import NameInvalid
from common.limits import KEY_BYTES_MAX
from common.names import check_bucket
from common.uploads import is_hidden
from router.gateway.s3.failures import S3Error


@dataclass(frozen=True)
class Address:
    """What a request is about.

    Attributes:
        path: as it was sent, percent-encoded, without the query.
        bucket: "" for the service itself.
        key: "" for the bucket itself.
        query: names and values in their order, decoded.
    """

    path: str
    bucket: str
    key: str
    query: Sequence[tuple[str, str]]

    @cached_property
    def parameters(self) -> Mapping[str, str]:
        """The query by name; of several with one name the first."""
        return dict(reversed(self.query))


def address_of(target: str, host: str, domain: str) -> Address:
    """What a request is about.

    Args:
        target: of the request line, as it was sent.
        host: the Host header.
        domain: under which buckets have names of their own; "": none.

    Raises:
        S3Error: the target is no URI of this door, or names what cannot be.
    """
    if not target.startswith("/"):
        raise S3Error("InvalidURI")
    path, _, rest = target.partition("?")
    query = [
        (decoded(name.replace("+", " ")), decoded(value.replace("+", " ")))
        for name, _, value in (pair.partition("=") for pair in rest.split("&") if pair)
    ]
    bucket = bucket_of_host(host, domain)
    tail = path[1:]
    if not bucket:
        head, _, tail = tail.partition("/")
        bucket = decoded(head)
    if is_hidden(bucket):
        raise S3Error("InvalidBucketName", BucketName=bucket)
    return Address(path, bucket, decoded(tail), query)


def bucket_of_host(host: str, domain: str) -> str:
    """The bucket that a Host header names; "" if it names none."""
    name = host.lower()
    if not name.endswith("]"):
        name = name.rpartition(":")[0] or name
    ending = f".{domain.lower()}"
    return name.removesuffix(ending) if domain and name.endswith(ending) else ""


def decoded(text: str) -> str:
    """Percent-encoded UTF-8 in plain.

    Raises:
        S3Error: it is no UTF-8.
    """
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeError:
        raise S3Error("InvalidURI") from None


def checked_bucket(name: str) -> str:
    """A name that a bucket can have.

    Raises:
        S3Error: it breaks the rules.
    """
    try:
        return check_bucket(name)
    except NameInvalid as error:
        raise S3Error("InvalidBucketName", BucketName=name) from error


def checked_key(key: str) -> str:
    """A key that an object can have: anything of 1…1024 bytes.

    Raises:
        S3Error: it is longer.
    """
    size = len(key.encode())
    if size > KEY_BYTES_MAX:
        raise S3Error("KeyTooLongError", Size=str(size), MaxSizeAllowed=str(KEY_BYTES_MAX))
    return key


class Source(NamedTuple):
    """What is copied from; of the version only the ID, None for what the name holds."""

    bucket: str
    key: str
    version: str | None = None


def copy_source(text: str) -> Source:
    """What an ``x-amz-copy-source`` names: percent-encoded, with or without a ``/`` first.

    Raises:
        S3Error: it names no object.
    """
    path, asked, query = text.partition("?")
    name, _, value = query.partition("=")
    if asked and (name != "versionId" or not value):
        raise S3Error("InvalidArgument", "x-amz-copy-source has a query that means nothing")
    version = decoded(value) if asked else None
    bucket, slash, key = decoded(path).removeprefix("/").partition("/")
    if not slash or not key:
        raise S3Error("InvalidArgument", "x-amz-copy-source has the form bucket/key")
    return Source(checked_bucket(bucket), checked_key(key), version)
