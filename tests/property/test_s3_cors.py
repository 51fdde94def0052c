"""Cross-origin rules allow what they say, and nothing else."""

from __future__ import annotations

from fnmatch import fnmatchcase

from hypothesis import given
from hypothesis import strategies as st

from router.gateway.s3.cors import (
    METHODS,
    Rule,
    fits,
    kept,
    matching,
    rules_in,
    rules_of,
    rules_tree,
    told_headers,
)
from router.gateway.s3.documents import document, parsed

WORDS = st.text("ab.:/-", max_size=5)
ORIGINS = st.text("ab.:/-", min_size=1, max_size=5)
PATTERNS = st.one_of(ORIGINS, st.builds(lambda a, b: f"{a}*{b}", WORDS, WORDS))
NAMES = st.text("abAB-", min_size=1, max_size=4)
MANY = st.lists(PATTERNS, min_size=1, max_size=3).map(tuple)
RULES = st.builds(
    Rule,
    origins=MANY,
    methods=st.lists(st.sampled_from(METHODS), min_size=1, max_size=3).map(tuple),
    headers=st.lists(
        st.one_of(NAMES, st.builds(lambda a, b: f"{a}*{b}", NAMES, NAMES)), max_size=2
    ).map(tuple),
    exposed=st.lists(NAMES, max_size=2).map(tuple),
    max_age_s=st.one_of(st.none(), st.integers(0, 10**6)),
    name=st.sampled_from(["", "one"]),
)


@given(WORDS, PATTERNS)
def test_a_pattern_is_a_glob_with_one_star(text: str, pattern: str) -> None:
    assert fits(text, pattern) == fnmatchcase(text, pattern)


@given(
    st.lists(RULES, max_size=4),
    ORIGINS,
    st.sampled_from([*METHODS, "OPTIONS"]),
    st.lists(NAMES, max_size=2),
)
def test_the_first_rule_decides_and_no_other_is_asked(
    rules: list[Rule], origin: str, method: str, headers: list[str]
) -> None:
    def allows(rule: Rule) -> bool:
        return (
            method in rule.methods
            and any(fnmatchcase(origin, each) for each in rule.origins)
            and all(
                any(fnmatchcase(name.lower(), each.lower()) for each in rule.headers)
                for name in headers
            )
        )

    expected = next((rule for rule in rules if allows(rule)), None)
    found = matching(rules, origin, method, headers)
    assert found == expected
    if found is not None:
        told = told_headers(found, origin, headers)
        assert told["Access-Control-Allow-Origin"] in {"*", origin}
        named = told["Access-Control-Allow-Origin"] == origin
        assert (told.get("Access-Control-Allow-Credentials") == "true") == named
        assert not any(char in value for value in told.values() for char in "\r\n")


@given(st.lists(RULES, min_size=1, max_size=4))
def test_rules_come_back_as_they_were_given(rules: list[Rule]) -> None:
    assert rules_in(parsed(document(rules_tree(rules)), "CORSConfiguration")) == rules
    assert rules_of(kept(rules)) == rules
