"""The signature of a form upload: its policy, as it stands in the form, is what was signed.

(AWS: S3 API reference, "Authenticating Requests: Browser-Based Uploads Using POST".)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from router.gateway.s3.canonical import ALGORITHM
from router.gateway.s3.failures import S3Error
from router.gateway.s3.sigv4 import same, sign, signing_key
from router.gateway.s3.sigv4_claim import (
    check_region,
    read_credential,
    read_timestamp,
    refuse_version_two,
)

_SIGNED: Final = ("x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature")


@dataclass(frozen=True)
class FormClaim:
    """Who a form says that it is from.

    Attributes:
        access_key_id: of whom.
        date: when it was signed.
        region: the region it was signed for.
        scope: ``YYYYMMDD/region/s3/aws4_request``.
        policy: the policy as the form has it: JSON in base 64, not yet looked at.
        signature: 64 hex digits, if it is one.
        token: whether it names a session token, which no key of ours has.
    """

    access_key_id: str
    date: datetime
    region: str
    scope: str
    policy: str
    signature: str
    token: bool


def parse_form(fields: Mapping[str, str], *, region: str | None = None) -> FormClaim | None:
    """Read the claim of a form.

    Args:
        fields: its fields, the names in lower case.
        region: the only region that signatures may be for, or None for any.

    Returns:
        The claim, or None: the form has no policy, it is anonymous.

    Raises:
        S3Error: a field that a signed form must have is missing or malformed.
    """
    if "policy" not in fields:
        return None
    if "awsaccesskeyid" in fields:
        refuse_version_two()
    for name in _SIGNED:
        if not fields.get(name):
            raise S3Error(
                "InvalidArgument",
                f"Bucket POST must contain a field named '{name}'. If it is specified, please "
                "check the order of the fields.",
                ArgumentName=name,
            )
    if fields["x-amz-algorithm"] != ALGORITHM:
        raise S3Error(
            "InvalidArgument",
            f"x-amz-algorithm only supports {ALGORITHM}",
            ArgumentName="x-amz-algorithm",
            ArgumentValue=fields["x-amz-algorithm"],
        )
    timestamp = fields["x-amz-date"]
    date = read_timestamp(timestamp)
    if date is None:
        raise S3Error(
            "InvalidArgument",
            "x-amz-date must be in the ISO8601 Long Format",
            ArgumentName="x-amz-date",
            ArgumentValue=timestamp,
        )
    start = "Error parsing the x-amz-credential field"
    access_key_id, named, scope = read_credential(
        fields["x-amz-credential"], timestamp, "InvalidArgument", start
    )
    check_region(named, region, "InvalidArgument", start)
    return FormClaim(
        access_key_id=access_key_id,
        date=date,
        region=named,
        scope=scope,
        policy=fields["policy"],
        signature=fields["x-amz-signature"],
        token="x-amz-security-token" in fields,
    )


def verify_form(claim: FormClaim, secret: str) -> None:
    """Hold a form's claim to the secret of its access key.

    How long the form is good for stands in its policy, which the caller evaluates.

    Args:
        claim: what `parse_form` found.
        secret: the secret access key of ``claim.access_key_id``.

    Raises:
        S3Error: signed with another key, or another policy.
    """
    if claim.token:
        raise S3Error("InvalidToken")
    if not same(sign(signing_key(secret, claim.scope), claim.policy), claim.signature):
        raise S3Error(
            "SignatureDoesNotMatch",
            AWSAccessKeyId=claim.access_key_id,
            StringToSign=claim.policy,
            SignatureProvided=claim.signature,
        )
