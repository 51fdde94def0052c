"""Operations on tags: PutBucketTagging and its kin."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from common.limits import KIB
from router.gateway.s3.call import Call, answer
from router.gateway.s3.subresources import delete_setting, element_of, put_setting, setting_of
from router.gateway.s3.tags import BUCKET_TAGS_MAX, tags_in, tags_tree

SETTING: Final = "tags"
"""The setting of a bucket with its tags: values by key."""
_DOCUMENT_BYTES_MAX: Final = 512 * KIB


async def put_bucket_tagging(call: Call) -> web.StreamResponse:
    """PutBucketTagging: all tags of the bucket, in place of those that it had."""
    root = await element_of(call, "Tagging", _DOCUMENT_BYTES_MAX)
    return await put_setting(call, SETTING, tags_in(root, BUCKET_TAGS_MAX), 204)


async def get_bucket_tagging(call: Call) -> web.StreamResponse:
    """GetBucketTagging."""
    return answer(tags_tree(await setting_of(call, SETTING, "NoSuchTagSet")))


async def delete_bucket_tagging(call: Call) -> web.StreamResponse:
    """DeleteBucketTagging."""
    return await delete_setting(call, SETTING)
