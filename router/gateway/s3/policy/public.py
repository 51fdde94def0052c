"""Whether a policy lets in anybody, as S3 means it. Pure.

A statement that allows does so unless it names its principals, or holds them to fixed networks or
fixed names. Whatever denies is left out of account: a policy is not less public for that.
"""

from __future__ import annotations

from typing import Final

from router.gateway.s3.policy.conditions import Condition, Network
from router.gateway.s3.policy.model import Policy, Statement

_PREFIX_MIN: Final = {4: 8, 6: 32}
"""A network with a shorter prefix is no fixed place any more."""
_FIXED: Final = {
    "aws:sourceip": frozenset({"IpAddress"}),
    "aws:username": frozenset({"StringEquals", "StringEqualsIgnoreCase", "StringLike"}),
}


def is_public(policy: Policy) -> bool:
    """Whether S3 would call a policy public.

    Args:
        policy: the policy.
    """
    return any(_lets_in_anybody(each) for each in policy.statements if each.allows)


def _lets_in_anybody(statement: Statement) -> bool:
    if not statement.principals.anyone:
        return False
    return not any(_holds_to_some(each) for each in statement.conditions)


def _holds_to_some(condition: Condition) -> bool:
    if condition.negated or condition.if_exists or condition.quantifier == "ForAllValues":
        return False
    if condition.operator not in _FIXED.get(condition.key, ()):
        return False
    return all(
        _is_narrow(test.network)
        if test.network is not None
        else test.pattern is not None and test.pattern.fixed
        for test in condition.tests
    )


def _is_narrow(network: Network) -> bool:
    return network.prefixlen >= _PREFIX_MIN[network.version]
