"""What the policies of buckets take away from access keys, at REST as at S3.

A statement that denies counts at both ports; what a policy or an ACL allows to others counts at S3
alone, as all that has to do with callers whose keys may nothing by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from aiohttp import web

from common.clock import Clock
from common.errors import Forbidden
from common.meta.interface import Metadata
from router.gateway.s3.access import owner_id
from router.gateway.s3.facts import Facts, Signature
from router.gateway.s3.gate import AllRules
from router.gateway.s3.object_facts import ObjectFacts, none_given
from router.gateway.s3.policy.model import Question, Who
from router.gateway.s3.rules import Rights
from router.gateway.s3.sigv4 import Claim
from router.rights import Key

_OF_SIGNATURES: Final = ("s3:authtype", "s3:signatureage", "s3:signatureversion")
_LISTED: Final[Mapping[str, str]] = {"prefix": "prefix", "limit": "max-keys"}
"""Parameters of a listing, and what S3 calls them."""


class Denials:
    """Refuses what a policy denies.

    Args:
        rules: of the buckets.
        meta: knows the tags of objects.
        clock: tells the time that conditions compare.
    """

    def __init__(self, rules: AllRules, meta: Metadata, clock: Clock) -> None:
        self._rules = rules
        self._meta = meta
        self._clock = clock

    async def check(
        self,
        request: web.Request,
        key: Key,
        claim: Claim | None,
        action: str,
        name: tuple[str, str],
    ) -> None:
        """Let a request do something that its access key may.

        Args:
            request: the request.
            key: its access key.
            claim: how it is signed; None: it came with the secret.
            action: what it does, in the words of policies, without ``s3:``.
            name: bucket and key that it does that with; "" for the bucket itself.

        Raises:
            Forbidden: the policy of the bucket denies it, or cannot be read.
            MetadataUnavailable: Redis does not answer.
        """
        bucket, file = name
        rules = await self._rules.of(bucket)
        if rules.plain:
            return
        values = self._facts(request, key, claim).values(action, None)
        if claim is None:
            for fact in _OF_SIGNATURES:
                del values[fact]
        if rules.policy is not None:
            tags = ObjectFacts(self._meta, none_given)
            values |= await tags.values(rules.policy, action, (bucket, file, None))
        who = Who(key.owner, owner_id(key.owner))
        question = Question(who, action, f"{bucket}/{file}" if file else bucket, values)
        if not rules.let(Rights(key.owner, own=True, read_only=key.read_only), question):
            raise Forbidden(
                f"the policy of bucket {bucket!r} denies this to access key {key.access_key_id}"
            )

    def _facts(self, request: web.Request, key: Key, claim: Claim | None) -> Facts:
        query, now_ms = request.query, self._clock.now_ms()
        date = datetime.fromtimestamp(now_ms / 1000, UTC)
        kind = "REST-HEADER"
        if claim is not None:
            date = claim.date
            kind = "REST-QUERY-STRING" if claim.presigned else kind
        headers: dict[str, list[str]] = {}
        for name, value in request.headers.items():
            headers.setdefault(name.lower(), []).append(value)
        return Facts(
            "ListObjects",  # what it says of a listing counts for actions that list
            headers,
            {name: query[word] for word, name in _LISTED.items() if word in query},
            None,
            Signature(key.owner, kind, date),
            request.remote or "",
            request.secure,
            now_ms,
        )
