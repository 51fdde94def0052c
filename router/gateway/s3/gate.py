"""Who may come in: the rights of an access key, and what the settings of a bucket say.

A router reads those settings again after a second, and uses them for at most two
(`router.recent`): so long a change made through another router or worker may not count here yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from common.errors import NameInvalid
from common.limits import RULES_BYTES_MAX
from common.meta.buckets import Buckets
from common.names import check_bucket
from common.records import Version
from router.gateway.s3.access import NOBODY, AccessKey, owner_id
from router.gateway.s3.acls import READS
from router.gateway.s3.address import Address
from router.gateway.s3.facts import Facts
from router.gateway.s3.failures import S3Error
from router.gateway.s3.object_facts import ObjectFacts, Tags
from router.gateway.s3.policy.actions import changes, needed, of_version
from router.gateway.s3.policy.model import Question, Who
from router.gateway.s3.rules import GRANTED, OWNERS_ONLY, Rights, Rules, rules_of
from router.recent import Recent

_REMEMBERED_MAX: Final = 4_096
_MULTIPART: Final = "Anonymous users cannot initiate multipart uploads. Please authenticate."
_ABSENT: Final = frozenset({"NoSuchKey", "NoSuchVersion"})


class AllRules:
    """The rules of all buckets, as one router knows them.

    Args:
        buckets: knows their settings.
    """

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets
        self._recent: Recent[Rules] = Recent(self._read, "who may use a bucket", _REMEMBERED_MAX)
        self._bytes = 0

    async def of(self, bucket: str) -> Rules:
        """The rules of a bucket, whether it is there or not.

        Args:
            bucket: what a request calls it.

        Raises:
            MetadataUnavailable: Redis does not answer.
        """
        try:
            return await self._recent.of(check_bucket(bucket))
        except NameInvalid:
            return Rules(bucket)

    def last(self, bucket: str) -> Rules:
        """The rules of a bucket as they were last read, without asking for them.

        Args:
            bucket: that a request was let in to.
        """
        return self._recent.last(bucket, None) or Rules(bucket)

    def changed(self, bucket: str) -> None:
        """The settings of a bucket were changed here: what was read before counts no more."""
        self._recent.changed(bucket)

    async def stop(self) -> None:
        """End what is under way."""
        await self._recent.stop()

    async def _read(self, bucket: str) -> Rules:
        configured = await self._buckets.get(bucket)
        if configured is None:
            return Rules(bucket)
        record = configured.record
        last = self._recent.last(bucket, None)
        if last is not None and last.stamp == record.stamp:
            return last
        rules = rules_of(bucket, record.stamp, record.settings)
        self._bytes += rules.size
        if self._bytes > RULES_BYTES_MAX:
            # Policies that were replaced count too: then it is only emptied more often.
            self._recent.clear()
            self._bytes = rules.size
        return rules


class Gate:
    """Lets one request do things, or not.

    Args:
        rules: of the buckets.
        key: that it is signed with; `NOBODY` if it is not.
        facts: asked for what else is known of it, if a policy may want to know.
        about: asked for what is known of objects, in the same way.
    """

    def __init__(
        self, rules: AllRules, key: AccessKey, facts: Callable[[], Facts], about: ObjectFacts
    ) -> None:
        self._rules = rules
        self._key = key
        self._anonymous = key is NOBODY
        self._make = facts
        self._facts: Facts | None = None
        self._object = about

    async def admit(self, operation: str, address: Address) -> None:
        """Let a request in.

        Args:
            operation: what it is.
            address: what it is about.

        Raises:
            S3Error: ``AccessDenied``.
            MetadataUnavailable: Redis does not answer.
        """
        if not address.bucket:
            if self._anonymous:
                raise S3Error("AccessDenied")
            return  # what is about all buckets tells of those that the key may use
        if self._anonymous and operation == "CreateMultipartUpload":
            raise S3Error("AccessDenied", _MULTIPART)
        if operation == "DeleteObjects":
            await self._admit_many(address.bucket)
            return
        version = address.parameters.get("versionId") if address.key else None
        for action in needed(operation):
            if not await self.may(action, address.bucket, address.key, version):
                raise S3Error("AccessDenied")

    async def may(
        self,
        action: str,
        bucket: str,
        key: str = "",
        version: str | None = None,
        tags: Tags | None = None,
    ) -> bool:
        """Whether it may do something.

        Args:
            action: without ``s3:``; not that for versions.
            bucket: with which bucket.
            key: with what in it; "": the bucket itself.
            version: with which version, if one is named: that is another action.
            tags: what the object would be tagged with, where the request itself does not say it.

        Raises:
            S3Error: the request gives tags that cannot be, and a policy asks for them.
            MetadataUnavailable: Redis does not answer.
        """
        rules = await self._rules.of(bucket)
        if version is not None:
            action = of_version(action)
        held = self._key
        own = held.may(bucket, write=changes(action))
        if own and rules.plain and action not in OWNERS_ONLY | GRANTED:
            return True
        owner = None if self._anonymous else held.owner
        who = None if owner is None else Who(owner, owner_id(owner))
        if self._facts is None:
            self._facts = self._make()
        values = self._facts.values(action, version)
        if rules.policy is not None:
            values |= await self._object.values(rules.policy, action, (bucket, key, version), tags)
        resource = f"{bucket}/{key}" if key else bucket
        question = Question(who, action, resource, values)
        rights = Rights(owner, own, held.read_only)
        if rules.let(rights, question):
            return True
        if not rules.hears_objects or action not in READS:
            return False
        return rules.let(rights, question, await self._object.acl((bucket, key, version)))

    def confirm(self, bucket: str, key: str, text: str | None, version: Version) -> None:
        """Hold what was decided of an object to the version that was found then.

        Args:
            bucket: which holds it.
            key: of it.
            text: the ID of the version that was named, if one was.
            version: what was found.

        Raises:
            S3Error: its tags, or its ACL, are others than it was decided by.
        """
        self._object.confirm((bucket, key, text), version)

    async def masked(self, error: S3Error, bucket: str) -> S3Error:
        """What to tell instead of an error: who may not list a bucket learns of no name in it.

        Args:
            error: what came of the request.
            bucket: with which bucket.

        Raises:
            MetadataUnavailable: Redis does not answer.
        """
        if error.code not in _ABSENT or await self.may("ListBucket", bucket):
            return error
        return S3Error("AccessDenied")

    async def _admit_many(self, bucket: str) -> None:
        """Let a request in that deletes many: may it perhaps delete one? Each is looked at then."""
        rules = await self._rules.of(bucket)
        if not self._key.may(bucket, write=True) and not rules.shares:
            raise S3Error("AccessDenied")
