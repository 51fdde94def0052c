"""Operations on what says who may use a bucket: policy, public access block, ownership, ACL.

Each is a setting of the bucket, as `router.gateway.s3.rules` reads it. What one of them forbids
of another is checked while nobody else changes any.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from aiohttp import web

from common.limits import KIB, S3_BUCKET_POLICY_BYTES_MAX
from router.configure import Decision
from router.gateway.s3.acl_documents import acl_of, acl_tree
from router.gateway.s3.acls import HEADER, PRIVATE, asked_acl, kept
from router.gateway.s3.address import checked_bucket
from router.gateway.s3.call import Call, answer, no_bucket
from router.gateway.s3.documents import Element, Tree, parsed
from router.gateway.s3.failures import S3Error
from router.gateway.s3.policy.parsing import parse_policy
from router.gateway.s3.policy.public import is_public
from router.gateway.s3.rules import (
    ACL,
    BLOCK,
    ENFORCED,
    OWNERSHIP,
    OWNERSHIPS,
    POLICY,
    Block,
    Rules,
    rules_of,
)
from router.gateway.s3.subresources import (
    change_settings,
    document_of,
    element_of,
    put_setting,
    setting_of,
)

_DOCUMENT_BYTES_MAX: Final = 64 * KIB
_NO_POLICY: Final = "NoSuchBucketPolicy"
_FLAGS: Final = Block.__struct_encode_fields__
_TRUTH: Final = {"true": True, "false": False}


# -- policy --------------------------------------------------------------------------------


async def get_policy(call: Call) -> web.StreamResponse:
    """GetBucketPolicy: the document, byte for byte as it was put."""
    text: str = await setting_of(call, POLICY, _NO_POLICY)
    return web.Response(text=text, content_type="application/json")


async def put_policy(call: Call) -> web.StreamResponse:
    """PutBucketPolicy."""
    document = await document_of(call, S3_BUCKET_POLICY_BYTES_MAX)
    policy = parse_policy(document, call.address.bucket)
    public = is_public(policy)

    async def decide(settings: Mapping[str, Any]) -> Mapping[str, Any]:
        if public and _rules(call, settings).block.block_public_policy:
            raise S3Error(
                "AccessDenied",
                "The policy is public, and the public access block of the bucket forbids that.",
            )
        return {POLICY: document.decode()}

    return await _change(call, decide, 204)


async def delete_policy(call: Call) -> web.StreamResponse:
    """DeleteBucketPolicy: there need not be one."""
    return await put_setting(call, POLICY, None, 204)


async def get_policy_status(call: Call) -> web.StreamResponse:
    """GetBucketPolicyStatus: whether the policy is public, whatever is blocked."""
    text: str = await setting_of(call, POLICY, _NO_POLICY)
    public = is_public(parse_policy(text.encode(), call.address.bucket))
    return answer(("PolicyStatus", [("IsPublic", _said(public))]))


# -- public access block -------------------------------------------------------------------


async def get_block(call: Call) -> web.StreamResponse:
    """GetPublicAccessBlock: what counts; where nothing was said, all is blocked."""
    settings = await _settings(call)
    if settings.get(BLOCK) == {}:
        raise S3Error("NoSuchPublicAccessBlockConfiguration", BucketName=call.address.bucket)
    told: dict[str, bool] = msgspec.to_builtins(_rules(call, settings).block)
    tree: list[Tree] = [(name, _said(told[name])) for name in _FLAGS]
    return answer(("PublicAccessBlockConfiguration", tree))


async def put_block(call: Call) -> web.StreamResponse:
    """PutPublicAccessBlock: a flag that is not named is off."""
    root = await element_of(call, "PublicAccessBlockConfiguration", _DOCUMENT_BYTES_MAX)
    if not root.children or {child.name for child in root.children} - {*_FLAGS}:
        raise S3Error("MalformedXML")
    told = {name: (root.value(name) or "false").strip().lower() for name in _FLAGS}
    if not told.keys() == {name for name, value in told.items() if value in _TRUTH}:
        raise S3Error("MalformedXML")
    return await put_setting(call, BLOCK, {name: _TRUTH[value] for name, value in told.items()})


async def delete_block(call: Call) -> web.StreamResponse:
    """DeletePublicAccessBlock: nothing is blocked any more."""
    return await put_setting(call, BLOCK, {}, 204)


# -- ownership -----------------------------------------------------------------------------


async def get_ownership(call: Call) -> web.StreamResponse:
    """GetBucketOwnershipControls."""
    ownership = (await _current(call)).ownership
    if not ownership:
        raise S3Error("OwnershipControlsNotFoundError", BucketName=call.address.bucket)
    return answer(("OwnershipControls", [("Rule", [("ObjectOwnership", ownership)])]))


async def put_ownership(call: Call) -> web.StreamResponse:
    """PutBucketOwnershipControls: ACLs are off with one of them, and on with the others."""
    root = await element_of(call, "OwnershipControls", _DOCUMENT_BYTES_MAX)
    ownership = _ownership(root)

    async def decide(settings: Mapping[str, Any]) -> Mapping[str, Any]:
        if ownership == ENFORCED and _rules(call, settings).acl != PRIVATE:
            raise S3Error("InvalidBucketAclWithObjectOwnership")
        return {OWNERSHIP: ownership}

    return await _change(call, decide)


async def delete_ownership(call: Call) -> web.StreamResponse:
    """DeleteBucketOwnershipControls: ACLs are on."""
    return await put_setting(call, OWNERSHIP, "", 204)


# -- ACLs ----------------------------------------------------------------------------------


async def get_bucket_acl(call: Call) -> web.StreamResponse:
    """GetBucketAcl."""
    rules = await _current(call)
    bucket = await call.store.bucket(call.address.bucket)
    return answer(acl_tree(call.owner_of(bucket), rules.acl))


async def put_bucket_acl(call: Call) -> web.StreamResponse:
    """PutBucketAcl: one of those that have names, by its name or as a document."""
    acl = await wanted_acl(call)

    async def decide(settings: Mapping[str, Any]) -> Mapping[str, Any]:
        _rules(call, settings).check_acl(acl)
        return {ACL: None if kept(acl) == PRIVATE else kept(acl)}

    return await _change(call, decide)


async def wanted_acl(call: Call) -> str:
    """The ACL that a request names, or describes.

    Raises:
        S3Error: it does neither, or both, or that can be none.
    """
    acl = asked_acl(call.headers, call.parameters)
    document = await call.document(_DOCUMENT_BYTES_MAX)
    if acl is not None:
        if document:
            raise S3Error("UnexpectedContent")
        return acl
    if not document:
        raise S3Error("MissingSecurityHeader", MissingHeaderName=HEADER)
    bucket = await call.store.bucket(call.address.bucket)
    return acl_of(parsed(document, "AccessControlPolicy"), call.owner_of(bucket))


def settings_of_new(call: Call) -> Mapping[str, Any]:
    """The settings that a request gives to a bucket which it creates.

    Args:
        call: the request.

    Raises:
        S3Error: a bucket cannot begin so.
    """
    ownership = call.headers.get("x-amz-object-ownership", ENFORCED)
    if ownership not in OWNERSHIPS:
        raise S3Error(
            "InvalidArgument", ArgumentName="x-amz-object-ownership", ArgumentValue=ownership
        )
    acl = asked_acl(call.headers, call.parameters)
    Rules(call.address.bucket, ownership=ownership).check_acl(acl, new=True)
    if acl is not None:
        kept(acl)
    return {} if ownership == ENFORCED else {OWNERSHIP: ownership}


# -- inside --------------------------------------------------------------------------------


def _rules(call: Call, settings: Mapping[str, Any]) -> Rules:
    return rules_of(call.address.bucket, 0, settings)


async def _current(call: Call) -> Rules:
    return _rules(call, await _settings(call))


async def _settings(call: Call) -> Mapping[str, Any]:
    """What is set now.

    Raises:
        S3Error: there is no such bucket.
    """
    bucket = await call.store.directory.find(checked_bucket(call.address.bucket))
    if bucket is None:
        raise no_bucket(call.address.bucket)
    return bucket.settings


async def _change(call: Call, decide: Decision, status: int = 200) -> web.Response:
    await change_settings(call, decide)
    return web.Response(status=status)


def _ownership(root: Element) -> str:
    rules = root.all("Rule")
    ownership = (rules[0].value("ObjectOwnership") or "").strip() if len(rules) == 1 else ""
    if ownership not in OWNERSHIPS or len(root.children) != 1 or len(rules[0].children) != 1:
        raise S3Error("MalformedXML")
    return ownership


def _said(truth: bool) -> str:  # noqa: FBT001 - it is what is said
    return "true" if truth else "false"
