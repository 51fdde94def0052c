"""Operations on locks, of buckets and of versions, and what others ask of them.

What may not be deleted is decided where it would be (`common.meta.interface.Files.delete`), what a
change of a lock may not do in `router.relock`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web
from msgspec import to_builtins

from common.errors import Locked, WriteConflict
from common.limits import KIB
from common.locks import NO_DEFAULT, SETTING, UNLOCKED, Lock, default_of
from common.records import Version
from common.versions import SETTING as VERSIONING
from common.versions import versioning_of
from router.gateway.s3.address import checked_bucket
from router.gateway.s3.call import Call, Store, answer, no_bucket
from router.gateway.s3.failures import S3Error
from router.gateway.s3.gate import Gate
from router.gateway.s3.locks import (
    ENABLED,
    default_in,
    default_tree,
    denied,
    hold_in,
    hold_tree,
    retention_in,
    retention_tree,
    said_lock,
    told_hold,
    told_retention,
)
from router.gateway.s3.subresources import announces_sum, change_settings, element_of, setting_of
from router.gateway.s3.versioning import find_now
from router.relock import held, retained
from router.retag import Anew

BYPASS: Final = "x-amz-bypass-governance-retention"
_DOCUMENT_BYTES_MAX: Final = 64 * KIB
_ABSENT: Final = "NoSuchObjectLockConfiguration"
_FLAGS: Final = {"true": True, "false": False}


def settings_of_lockable(call: Call) -> Mapping[str, Any]:
    """What a bucket begins with whose creator wants its versions to be locked; else nothing.

    Raises:
        S3Error: nobody knows what he wants.
    """
    text = call.headers.get(ENABLED, "false")
    flag = _FLAGS.get(text.lower())
    if flag is None:
        raise S3Error("InvalidArgument", ArgumentName=ENABLED, ArgumentValue=text)
    return {VERSIONING: "Enabled", SETTING: {}} if flag else {}


async def put_configuration(call: Call) -> web.StreamResponse:
    """PutObjectLockConfiguration: from now on versions can be locked; that stays so."""
    root = await element_of(call, "ObjectLockConfiguration", _DOCUMENT_BYTES_MAX)
    kept = to_builtins(default_in(root))

    async def if_versioned(settings: Mapping[str, Any]) -> Mapping[str, Any]:
        if versioning_of(settings) != "Enabled":
            raise S3Error(
                "InvalidBucketState",
                "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration",
            )
        return {SETTING: kept}

    await change_settings(call, if_versioned)
    return web.Response()


async def get_configuration(call: Call) -> web.StreamResponse:
    """GetObjectLockConfiguration."""
    told = await setting_of(call, SETTING, "ObjectLockConfigurationNotFoundError")
    return answer(default_tree(default_of({SETTING: told}) or NO_DEFAULT))


async def put_retention(call: Call) -> web.StreamResponse:
    """PutObjectRetention: until when a version is kept."""
    await _check_now(call)
    root = await element_of(call, "Retention", _DOCUMENT_BYTES_MAX)
    mode, until_ms = retention_in(root, call.store.writes.clock.now_ms())
    may = await bypass(call, call.address.key, call.parameters.get("versionId"))

    def anew(version: Version, stamp: int) -> Version:
        return retained(version, mode, until_ms, stamp, bypass=may)

    await _change(call, anew)
    return web.Response()


async def get_retention(call: Call) -> web.StreamResponse:
    """GetObjectRetention."""
    lock = await _check_now(call)
    if not lock.mode:
        raise S3Error(_ABSENT)
    return answer(retention_tree(lock))


async def put_hold(call: Call) -> web.StreamResponse:
    """PutObjectLegalHold: whether a version is held, until somebody says something else."""
    await _check_now(call)
    hold = hold_in(await element_of(call, "LegalHold", _DOCUMENT_BYTES_MAX))
    await _change(call, lambda version, stamp: held(version, hold, stamp))
    return web.Response()


async def get_hold(call: Call) -> web.StreamResponse:
    """GetObjectLegalHold."""
    lock = await _check_now(call)
    if not lock.hold:
        raise S3Error(_ABSENT)
    return answer(hold_tree(lock))


async def given_lock(call: Call, *, summed: bool = False) -> Lock:
    """The lock that a request gives the object that it makes.

    Args:
        call: the request.
        summed: whether S3 demands a checksum of what is sent then.

    Raises:
        S3Error: as `said_lock` and `check_lock`, or ``InvalidRequest``.
    """
    lock = said_lock(call.headers, call.store.writes.clock.now_ms())
    if lock != UNLOCKED and summed and not announces_sum(call.headers):
        raise S3Error(
            "InvalidRequest",
            "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with "
            "Object Lock parameters",
        )
    await check_lock(lock, call.store, call.gate, call.address.bucket, call.address.key)
    return lock


async def check_lock(lock: Lock, store: Store, gate: Gate, bucket: str, key: str) -> None:
    """Refuse a lock for an object to who may not, and where there are none.

    Raises:
        S3Error: ``AccessDenied``, or ``InvalidRequest``.
    """
    for said, action in ((lock.mode, "PutObjectRetention"), (lock.hold, "PutObjectLegalHold")):
        if said and not await gate.may(action, bucket, key):
            raise S3Error("AccessDenied")
    if lock != UNLOCKED and SETTING not in (await store.bucket(bucket)).settings:
        raise _not_lockable()


async def told_lock(call: Call, version: Version) -> dict[str, str]:
    """The headers that tell of a version's lock, as far as the caller may know."""
    lock, told = version.lock, dict[str, str]()
    if lock == UNLOCKED:
        return told
    at = call.address.bucket, call.address.key, call.parameters.get("versionId")
    if lock.mode and await call.gate.may("GetObjectRetention", *at):
        told |= told_retention(lock)
    if lock.hold and await call.gate.may("GetObjectLegalHold", *at):
        told |= told_hold(lock)
    return told


async def bypass(call: Call, key: str, version: str | None) -> bool:
    """Whether a lock for ``GOVERNANCE`` does not count: the caller says so, and may.

    Args:
        call: the request.
        key: of what it is about.
        version: that is named, if one is.
    """
    if call.headers.get(BYPASS, "").lower() != "true":
        return False
    return await call.gate.may("BypassGovernanceRetention", call.address.bucket, key, version)


# -- inside --------------------------------------------------------------------------------


async def _check_now(call: Call) -> Lock:
    """The lock of the version that a request is about, in a bucket that has locks.

    Raises:
        S3Error: it has none, or there is no such version.
    """
    name = checked_bucket(call.address.bucket)
    bucket = await call.store.directory.find(name)
    if bucket is None:
        raise no_bucket(name)
    if SETTING not in bucket.settings:
        raise _not_lockable()
    return (await find_now(call)).lock


async def _change(call: Call, what: Anew) -> None:
    """Change the lock of the version that a request is about; durable by the return.

    Raises:
        S3Error: as `find_now`; or it may not be made so; or others change it again and again.
        PutterError: it is as before, or Redis did not answer at the end.
    """
    try:
        await call.store.retag.describe(lambda: find_now(call), what)
    except Locked:
        raise denied() from None
    except WriteConflict as error:
        raise S3Error("OperationAborted", Key=call.address.key) from error


def _not_lockable() -> S3Error:
    return S3Error("InvalidRequest", "Bucket is missing Object Lock Configuration")
