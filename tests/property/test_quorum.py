"""The arithmetic of N, W and R: never more than there is, never less than has to be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import NodesUnavailable
from router.quorum import Policy


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    replicas = draw(st.integers(1, 8))
    return Policy(
        replicas,
        draw(st.integers(1, replicas)),
        draw(st.sampled_from(["available", "strict"])),
        draw(st.integers(1, replicas)),
    )


@given(policies(), st.integers(1, 12))
def test_a_write(policy: Policy, live: int) -> None:
    if policy.consistency == "strict" and live < policy.write_quorum:
        for ask in (policy.copies, policy.needed):
            with pytest.raises(NodesUnavailable):
                ask(live)
        return
    copies = policy.copies(live)
    assert copies == min(policy.replicas, live)
    needed = policy.needed(copies)
    assert 1 <= needed <= min(copies, policy.write_quorum)
    assert needed == policy.write_quorum or live < policy.write_quorum
    assert policy.degraded(copies) == (live < policy.replicas)


@given(policies(), st.integers(0, 12))
def test_a_read(policy: Policy, answering: int) -> None:
    if policy.consistency == "strict" and answering < policy.read_quorum:
        with pytest.raises(NodesUnavailable, match=f"only {answering} of the {policy.read_quorum}"):
            policy.verified(answering)
        return
    assert policy.verified(answering) == min(policy.read_quorum, answering)
