"""What is encrypted in a bucket though no request says so: Put-, Get-, DeleteBucketEncryption."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from common.limits import KIB
from router.gateway.s3.call import Call, answer
from router.gateway.s3.documents import Element, Tree
from router.gateway.s3.failures import S3Error
from router.gateway.s3.sse_headers import ALGORITHM, KMS
from router.gateway.s3.subresources import delete_setting, element_of, put_setting, setting_of
from router.object_keys import SETTING

_ROOT: Final = "ServerSideEncryptionConfiguration"
_DEFAULT: Final = "ApplyServerSideEncryptionByDefault"
_ABSENT: Final = "ServerSideEncryptionConfigurationNotFoundError"
_ALGORITHM: Final = "algorithm"
_BUCKET_KEY: Final = "bucket_key"
_DOCUMENT_BYTES_MAX: Final = 64 * KIB


async def put_bucket_encryption(call: Call) -> web.StreamResponse:
    """PutBucketEncryption: what is written from now on is encrypted; what is there stays."""
    root = await element_of(call, _ROOT, _DOCUMENT_BYTES_MAX, sum_needed=False)
    return await put_setting(call, SETTING, default_in(root))


async def get_bucket_encryption(call: Call) -> web.StreamResponse:
    """GetBucketEncryption: the error of a bucket in which nothing is set, if nothing is."""
    kept = await setting_of(call, SETTING, _ABSENT)
    if not isinstance(kept, dict) or kept.get(_ALGORITHM) != ALGORITHM:
        raise S3Error("NotImplemented", "What is set is not known to this version.")
    rule: list[Tree] = [
        (_DEFAULT, [("SSEAlgorithm", ALGORITHM)]),
        ("BucketKeyEnabled", "true" if kept.get(_BUCKET_KEY) else "false"),
    ]
    return answer((_ROOT, [("Rule", rule)]))


async def delete_bucket_encryption(call: Call) -> web.StreamResponse:
    """DeleteBucketEncryption: only what asks for it is encrypted from now on."""
    return await delete_setting(call, SETTING)


def default_in(root: Element) -> dict[str, Any]:
    """What is kept of a document. A bucket key is told again, and means nothing without KMS.

    Raises:
        S3Error: there is none, or none that is done here.
    """
    rules = root.all("Rule")
    if len(rules) != 1 or len(root.children) != 1:
        raise S3Error("MalformedXML")
    rule = rules[0]
    names = {child.name for child in rule.children}
    if names - {_DEFAULT, "BucketKeyEnabled"}:
        raise S3Error("NotImplemented", "A rule is about the default encryption alone here.")
    default = rule.all(_DEFAULT)
    if len(default) != 1:
        raise S3Error("MalformedXML")
    algorithm = default[0].value("SSEAlgorithm")
    if algorithm in KMS or default[0].value("KMSMasterKeyID") is not None:
        raise S3Error("NotImplemented", "Keys of a key management service are not implemented.")
    if algorithm != ALGORITHM or len(default[0].children) != 1:
        raise S3Error("MalformedXML")
    bucket_key = rule.value("BucketKeyEnabled")
    if bucket_key not in (None, "true", "false"):
        raise S3Error("MalformedXML")
    return {_ALGORITHM: ALGORITHM, _BUCKET_KEY: bucket_key == "true"}
