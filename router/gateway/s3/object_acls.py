"""ACLs of objects: given when one is written, changed afterwards, told.

An object keeps a canned ACL if that lets in others than its bucket's owner, each version its own
(`router.gateway.s3.acls`). They count while ownership controls turn ACLs on, and the public access
block does not ignore them; a copy gets none of its source.
"""

from __future__ import annotations

from aiohttp import web
from msgspec.structs import replace

from common.errors import WriteConflict
from common.records import Acl, Version
from router.events import ACL
from router.gateway.s3.acl_documents import acl_tree
from router.gateway.s3.acls import GRANTS, PRIVATE, asked_acl, kept_of_object
from router.gateway.s3.call import Call, Store, answer
from router.gateway.s3.failures import S3Error
from router.gateway.s3.gate import Gate
from router.gateway.s3.rules import ENFORCED
from router.gateway.s3.sharing import wanted_acl
from router.gateway.s3.versioning import find, find_now, told_id


async def given_acl(call: Call) -> str:
    """The ACL that a request gives the object that it makes; "" if that lets in nobody.

    Raises:
        S3Error: it cannot be, or whoever makes the object may not set it.
    """
    asked = asked_acl(call.headers, call.parameters)
    return await allowed_acl(call.store, call.gate, call.address.bucket, call.address.key, asked)


async def allowed_acl(store: Store, gate: Gate, bucket: str, key: str, asked: str | None) -> str:
    """What a new object keeps of an ACL.

    Args:
        store: the store.
        gate: of whoever makes the object.
        bucket: which holds the object.
        key: of the object.
        asked: the name of the ACL; None: none is wanted.

    Raises:
        S3Error: the object cannot have it, or whoever makes it may not set it.
    """
    (await store.rules.of(bucket)).check_acl(asked)
    acl = kept_of_object(asked)
    if acl and not await gate.may("PutObjectAcl", bucket, key):
        raise S3Error("AccessDenied")
    return acl


async def put_object_acl(call: Call) -> web.StreamResponse:
    """PutObjectAcl: durable before the answer; the bytes are not written again."""
    wanted = await wanted_acl(call)
    await find_now(call)
    (await call.store.rules.of(call.address.bucket)).check_acl(wanted)
    acl = kept_of_object(wanted)

    def described(version: Version, stamp: int) -> Version:
        return version if version.acl.name == acl else replace(version, acl=Acl(acl, stamp))

    try:
        version = await call.store.retag.describe(lambda: find_now(call), described, ACL)
    except WriteConflict as error:
        raise S3Error("OperationAborted", Key=call.address.key) from error
    return web.Response(headers=await told_id(call.store, version))


async def get_object_acl(call: Call) -> web.StreamResponse:
    """GetObjectAcl: the bucket's owner may do everything; where ACLs are off, nobody else."""
    version = (await find(call)).version
    bucket = await call.store.bucket(call.address.bucket)
    on = (await call.store.rules.of(bucket.name)).ownership != ENFORCED
    acl = version.acl.name if on and version.acl.name in GRANTS else PRIVATE
    return answer(acl_tree(call.owner_of(bucket), acl), **await told_id(call.store, version))
