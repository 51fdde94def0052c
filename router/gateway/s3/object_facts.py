"""What a decision may need of an object: its tags, its ACL, and the tags that a request gives one.

Nothing is looked for unless the policy of the bucket asks, or only its ACL can let somebody in.
What was decided by tags or an ACL holds for these alone: whoever finds others on the object
afterwards is refused, and asks again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from common.meta.interface import Metadata
from common.records import Version
from common.versions import read_version_id, version_name, versions_of
from router.gateway.s3.failures import S3Error
from router.gateway.s3.policy.actions import ON_TAGGED, TAGGING
from router.gateway.s3.policy.conditions import EXISTING_TAG, REQUEST_TAG, REQUEST_TAG_KEYS
from router.gateway.s3.policy.model import Policy
from router.gateway.s3.version_ids import NULL

Tags = Mapping[str, str]
_Name = tuple[str, str, str | None]


class ObjectFacts:
    """What one request has to do with.

    Args:
        meta: knows objects.
        given: asked for the tags that the request gives the object that it is about.
    """

    def __init__(self, meta: Metadata, given: Callable[[], Awaitable[Tags]]) -> None:
        self._meta = meta
        self._given = given
        self._found: dict[_Name, Version | None] = {}

    async def values(
        self, policy: Policy, action: str, name: _Name, given: Tags | None = None
    ) -> dict[str, list[str]]:
        """What the policy asks of tags, by the keys of conditions.

        Args:
            policy: of the bucket.
            action: what is asked about, without ``s3:``.
            name: bucket, key, and the version that is named, if one is.
            given: the tags that the object would get, where it is not the request that says so.

        Raises:
            S3Error: what the request gives cannot be tags.
            MetadataUnavailable: Redis does not answer.
        """
        values: dict[str, list[str]] = {}
        if policy.asks_existing_tags and action in ON_TAGGED:
            found = await self._find(name)
            tags = {} if found is None else found.tags
            values |= {EXISTING_TAG + key: [value] for key, value in tags.items()}
        if policy.asks_given_tags and action in TAGGING:
            given = await self._given() if given is None else given
            values |= {REQUEST_TAG + key: [value] for key, value in given.items()}
            if given:
                values[REQUEST_TAG_KEYS] = list(given)
        return values

    async def acl(self, name: _Name) -> str:
        """The ACL of an object; "" if it has none, or there is no such object.

        Args:
            name: bucket, key, and the version that is named, if one is.

        Raises:
            MetadataUnavailable: Redis does not answer.
        """
        found = await self._find(name)
        return "" if found is None else found.acl.name

    def confirm(self, name: _Name, version: Version) -> None:
        """Hold what was decided by what an object had to the version that was found.

        Args:
            name: bucket, key, and the version that is named, if one is.
            version: what was found.

        Raises:
            S3Error: it was decided by other tags, or another ACL: they were changed meanwhile, or
                the object was.
        """
        if name not in self._found:
            return
        found = self._found[name]
        had = ({}, "") if found is None else (found.tags, found.acl.name)
        if had != (version.tags, version.acl.name):
            raise S3Error("ServiceUnavailable", "The object changed meanwhile. Please try again.")

    async def _find(self, name: _Name) -> Version | None:
        if name not in self._found:
            self._found[name] = await self._held(*name)
        return self._found[name]

    async def _held(self, bucket: str, key: str, version: str | None) -> Version | None:
        if version is None:
            return await self._meta.files.resolve(bucket, key)
        if version == NULL:
            return await self._meta.versions.held(bucket, key)
        number = read_version_id(version)
        if number is None:
            return None  # no version can have this ID, as whoever looks for it is told
        return await self._meta.versions.held(versions_of(bucket), version_name(key, number))


async def none_given() -> Tags:
    """The tags that a request gives which gives none."""
    return {}
