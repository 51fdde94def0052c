"""What a policy says: a statement that denies wins over all that allow. Pure."""

from __future__ import annotations

from router.gateway.s3.policy.model import Policy, Question, Verdict


def evaluate(policy: Policy, question: Question) -> Verdict:
    """What a policy says to a question.

    Args:
        policy: the policy.
        question: who wants what.
    """
    verdict = Verdict.NOTHING
    for statement in policy.statements:
        if (statement.allows and verdict is Verdict.ALLOW) or not statement.is_about(question):
            continue
        if not statement.allows:
            return Verdict.DENY
        verdict = Verdict.ALLOW
    return verdict
