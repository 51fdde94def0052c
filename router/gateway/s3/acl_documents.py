"""ACLs as documents: told, and read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from router.gateway.s3.access import owner_id
from router.gateway.s3.acls import GRANTS, PRIVATE
from router.gateway.s3.call import owner_tree
from router.gateway.s3.documents import Element, Tree
from router.gateway.s3.failures import S3Error

_SCHEMA: Final = "http://www.w3.org/2001/XMLSchema-instance"


def acl_tree(owner: str, acl: str = PRIVATE) -> Tree:
    """An access control list.

    Args:
        owner: of what it is about.
        acl: its name.
    """
    grants = [_grant("CanonicalUser", _who(owner), "FULL_CONTROL")]
    grants += [
        _grant("Group", [("URI", group)], permission) for group, permission in sorted(GRANTS[acl])
    ]
    return ("AccessControlPolicy", [owner_tree(owner), ("AccessControlList", grants)])


def acl_of(root: Element, owner: str) -> str:
    """The name of the ACL that a document describes.

    Args:
        root: ``AccessControlPolicy``.
        owner: of what it is about.

    Raises:
        S3Error: ``MalformedACLError``; or it grants what no canned ACL does.
    """
    lists = root.all("AccessControlList")
    if len(lists) != 1 or {child.name for child in root.children} - {"Owner", "AccessControlList"}:
        raise S3Error("MalformedACLError")
    for told in root.all("Owner"):
        if told.value("ID") not in (None, owner_id(owner)):
            raise S3Error("AccessDenied")
    grants = {_read_grant(each) for each in lists[0].children}
    groups = frozenset(grants - {(owner_id(owner), "FULL_CONTROL")})
    found = next((acl for acl, held in GRANTS.items() if held == groups), None)
    if found is None or len(groups) == len(grants):
        raise S3Error("NotImplemented", "Only what a canned ACL grants can be granted.")
    return found


# -- inside --------------------------------------------------------------------------------


def _who(owner: str) -> Sequence[Tree]:
    _, who = owner_tree(owner)
    assert not isinstance(who, str)
    return who


def _grant(kind: str, who: Sequence[Tree], permission: str) -> Tree:
    grantee: Tree = (f'Grantee xmlns:xsi="{_SCHEMA}" xsi:type="{kind}"', who)
    return ("Grant", [grantee, ("Permission", permission)])


def _read_grant(told: Element) -> tuple[str, str]:
    """Whom, as an ID or the URI of a group, and what."""
    grantees = told.all("Grantee")
    permission = (told.value("Permission") or "").strip()
    if told.name != "Grant" or len(grantees) != 1 or not permission:
        raise S3Error("MalformedACLError")
    named = [grantees[0].value(name) for name in ("ID", "URI", "EmailAddress")]
    given = [each.strip() for each in named if each is not None]
    if len(given) != 1:
        raise S3Error("MalformedACLError")
    return given[0], permission
