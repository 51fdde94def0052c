"""Who may use a bucket, beside those whose access keys may anyway: what its settings say of that.

```
explicit deny of the policy ──► no        the owner can always look at the policy, and replace it
right of the access key     ──► yes       what says who may: only with a key of the owner
allow of the policy         ──► yes       unless the policy is public and public buckets are
                                          restricted
grant of the ACL            ──► yes       unless ACLs are off, or public ones are ignored
else                        ──► no
```

A key that is read-only stays so. All four public access blocks are on, and ACLs are off, until
somebody sets something else. (AWS: S3 user guide, "Access control in Amazon S3".)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from common.logs import get_logger
from common.pairs import ROOT
from router import lifecycle
from router.buckets import created
from router.gateway.s3 import acls
from router.gateway.s3.failures import S3Error
from router.gateway.s3.policy.actions import NEVER, changes
from router.gateway.s3.policy.evaluation import evaluate
from router.gateway.s3.policy.model import Policy, Question, Verdict
from router.gateway.s3.policy.parsing import parse_policy
from router.gateway.s3.policy.public import is_public

_log = get_logger(__name__)

POLICY: Final = "policy"
"""The setting of a bucket that is its policy: the document as it was put."""
BLOCK: Final = "public_access_block"
"""The setting that is its public access block: the flags; empty: it was deleted."""
OWNERSHIP: Final = "ownership_controls"
"""The setting that says whether it has ACLs; "": it was deleted."""
ACL: Final = "acl"
"""The setting that is its canned ACL."""

ENFORCED: Final = "BucketOwnerEnforced"
OWNERSHIPS: Final = (ENFORCED, "BucketOwnerPreferred", "ObjectWriter")
_ALWAYS: Final = frozenset({"GetBucketPolicy", "PutBucketPolicy", "DeleteBucketPolicy"})
"""What an owner can do whatever his policy says: else one mistake would be for ever."""
OWNERS_ONLY: Final = frozenset(
    {
        "DeleteBucketPolicy",
        "PutBucketAcl",
        "PutBucketOwnershipControls",
        "PutBucketPolicy",
        "PutBucketPublicAccessBlock",
    }
)
"""What says who may."""
GRANTED: Final = frozenset({"BypassGovernanceRetention"})
"""What an owner may, and who is let do it; no key may by itself what is another's."""


class Block(msgspec.Struct, frozen=True, rename="pascal", forbid_unknown_fields=True):
    """A public access block.

    Attributes:
        block_public_acls: whether no public ACL can be set.
        ignore_public_acls: whether those that were set count nothing.
        block_public_policy: whether no public policy can be set.
        restrict_public_buckets: whether a public policy lets in nobody but the owner.
    """

    block_public_acls: bool = False
    ignore_public_acls: bool = False
    block_public_policy: bool = False
    restrict_public_buckets: bool = False


ALL: Final = Block(
    block_public_acls=True,
    ignore_public_acls=True,
    block_public_policy=True,
    restrict_public_buckets=True,
)
"""That of a bucket of which nothing was said."""


@dataclass(frozen=True)
class Rights:
    """What somebody may by himself.

    Attributes:
        owner: of his access key; None: he has none.
        own: whether his key may do what he wants to.
        read_only: whether it may change nothing.
    """

    owner: str | None
    own: bool
    read_only: bool


@dataclass(frozen=True)
class Rules:
    """What the settings of a bucket say.

    Attributes:
        bucket: its name.
        stamp: of the settings.
        owner: who created it; "" if nobody did.
        policy: what is set.
        public: whether that lets in anybody.
        readable: whether all could be read; if not, nobody is let in.
        block: what is set, or `ALL`.
        ownership: what is set, or `ENFORCED`.
        acl: what is set, or private.
        expiring: the lifecycle rules by which what names hold expires.
        size: bytes of the policy's document, and of those rules.
    """

    bucket: str
    stamp: int = 0
    owner: str = ""
    policy: Policy | None = None
    public: bool = False
    readable: bool = True
    block: Block = ALL
    ownership: str = ENFORCED
    acl: str = acls.PRIVATE
    expiring: tuple[lifecycle.Rule, ...] = ()
    size: int = 0

    @property
    def plain(self) -> bool:
        """Whether no policy takes anything away from those whose keys may."""
        return self.policy is None and self.readable

    @property
    def shares(self) -> bool:
        """Whether others than those may perhaps do something."""
        return self.policy is not None or self.acl != acls.PRIVATE

    @property
    def hears_objects(self) -> bool:
        """Whether the ACLs of its objects let in anybody."""
        return self.readable and self.ownership != ENFORCED and not self.block.ignore_public_acls

    def is_owner(self, owner: str | None) -> bool:
        """Whether the keys of an owner decide who may: those of the bucket's, and of the store's.

        Args:
            owner: of a key; None: there is none.
        """
        return owner is not None and owner in (self.owner or ROOT, ROOT)

    def let(self, rights: Rights, question: Question, acl: str = "") -> bool:
        """Whether somebody may do something.

        Args:
            rights: what he may by himself.
            question: what he wants; about this bucket.
            acl: that of the object, if that is about one that has some, and `hears_objects`.
        """
        action, owns = question.action, self.is_owner(rights.owner)
        if not self.readable:
            return rights.own and owns and action in _ALWAYS | OWNERS_ONLY
        verdict = Verdict.NOTHING if self.policy is None else evaluate(self.policy, question)
        if verdict is Verdict.DENY:
            return rights.own and owns and action in _ALWAYS
        if rights.own and (owns or action not in OWNERS_ONLY | GRANTED):
            return True
        if action in OWNERS_ONLY | NEVER or (rights.read_only and changes(action)):
            return False
        restricted = self.public and self.block.restrict_public_buckets and not owns
        if verdict is Verdict.ALLOW and not restricted:
            return True
        if self.ownership == ENFORCED or self.block.ignore_public_acls:
            return False
        with_key = rights.owner is not None
        if acls.lets_read(acl, action, with_key=with_key):
            return True
        return acls.allows(self.acl, action, with_key=with_key)

    def check_acl(self, acl: str | None, *, new: bool = False) -> None:
        """Refuse an ACL that something in this bucket cannot have.

        Args:
            acl: its name; None: none is wanted.
            new: whether the bucket itself is only being created.

        Raises:
            S3Error: ``AccessControlListNotSupported``, or ``AccessDenied``: it is public.
        """
        if acl is None or acl in acls.ALWAYS:
            return
        if self.ownership == ENFORCED:
            code = "AccessControlListNotSupported"
            raise S3Error("InvalidBucketAclWithObjectOwnership" if new else code)
        if acls.is_public(acl) and self.block.block_public_acls:
            raise S3Error("AccessDenied")


def rules_of(bucket: str, stamp: int, settings: Mapping[str, Any]) -> Rules:
    """What the settings of a bucket say.

    What cannot be read, because a newer version wrote it, closes the bucket: whatever it says,
    nobody is let in by mistake.

    Args:
        bucket: its name.
        stamp: of the settings.
        settings: by name.
    """
    made = created(bucket, settings)
    owner = made.owner if made is not None else ""
    try:
        told = msgspec.convert({n: settings[n] for n in _NAMES if n in settings}, _Told)
        policy = None if told.policy is None else parse_policy(told.policy.encode(), bucket)
    except (ValueError, S3Error) as error:
        _log.error("a bucket is closed, for it is not known who may", bucket=bucket, why=str(error))
        return Rules(bucket, stamp, owner, readable=False)
    # What expires is only told here: `router.expiry` says so of rules that cannot be read.
    expiring = tuple(lifecycle.of_latest(lifecycle.rules_of(settings.get(lifecycle.SETTING)) or ()))
    return Rules(
        bucket,
        stamp,
        owner,
        policy,
        policy is not None and is_public(policy),
        block=told.public_access_block,
        ownership=told.ownership_controls,
        acl=told.acl,
        expiring=expiring,
        size=len(told.policy or "") + (len(msgspec.msgpack.encode(expiring)) if expiring else 0),
    )


class _Told(msgspec.Struct, frozen=True):
    """What the settings of a bucket say of who may."""

    policy: str | None = None
    public_access_block: Block = ALL
    ownership_controls: Literal[
        "BucketOwnerEnforced", "BucketOwnerPreferred", "ObjectWriter", ""
    ] = ENFORCED
    acl: Literal["private", "public-read", "public-read-write", "authenticated-read"] = "private"


_NAMES: Final = _Told.__struct_fields__
assert _NAMES == (POLICY, BLOCK, OWNERSHIP, ACL)
