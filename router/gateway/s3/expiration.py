"""What answers tell of the end of an object: the rule by which it expires first, and when.

By the rules that were read when the request was let in: nothing is asked for them. S3 tells it of
what a name holds now; of a version that is named nothing is told here, for it may be another one.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from common.records import Version
from common.versions import plain_name
from router.gateway.conditions import http_date
from router.gateway.s3.rules import Rules
from router.lifecycle import expiry_of

HEADER: Final = "x-amz-expiration"
_LAST_MS: Final = 253_402_214_400_000
"""The last midnight that a date can tell."""


def expiration(rules: Rules, version: Version) -> dict[str, str]:
    """The header that tells when an object expires; none if no rule is about it.

    Args:
        rules: of its bucket.
        version: what its name holds.
    """
    if not rules.expiring:
        return {}
    found = expiry_of(rules.expiring, plain_name(version)[1], version)
    if found is None:
        return {}
    date, rule = http_date(min(found.at_ms, _LAST_MS)), quote(found.rule, safe="")
    return {HEADER: f'expiry-date="{date}", rule-id="{rule}"'}
