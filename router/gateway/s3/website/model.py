"""What a bucket's website is, as its owner set it. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec

SETTING: Final = "website"
"""The setting of a bucket that makes it a website."""
DEFAULT_CODE: Final = 301


class Redirect(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a request is sent instead.

    Attributes:
        host: name of a host, perhaps with a port; "": that of the request.
        protocol: ``http``, ``https``; "": that of the request.
        code: HTTP status; 0: 301.
        prefix: stands in the place of the prefix that the rule is about; None: not.
        key: stands in the place of the whole key; None: not.
    """

    host: str = ""
    protocol: str = ""
    code: int = 0
    prefix: str | None = None
    key: str | None = None


class Rule(msgspec.Struct, frozen=True, omit_defaults=True):
    """A routing rule.

    Attributes:
        redirect: what happens if it applies.
        prefix: the key begins with it; None: whatever it begins with.
        error: the request would fail with this status; 0: whether it fails or not.
    """

    redirect: Redirect
    prefix: str | None = None
    error: int = 0


class Site(msgspec.Struct, frozen=True, omit_defaults=True):
    """A website.

    Attributes:
        index: what is behind the ``/`` at the end of a key; "": it redirects everything.
        error: key of the object that is sent with an error; "": there is none.
        everything: where everything is sent; None: nothing is.
        rules: the first that applies counts.
    """

    index: str = ""
    error: str = ""
    everything: Redirect | None = None
    rules: tuple[Rule, ...] = ()

    def rule(self, key: str, error: int = 0) -> Rule | None:
        """The rule that applies to a request, None if none does.

        Args:
            key: that is asked for.
            error: HTTP status of the error that it would be answered with; 0: it is not known
                yet, so that only rules that ask for none apply.
        """
        for rule in self.rules:
            if rule.error == error and key.startswith(rule.prefix or ""):
                return rule
        return None


def kept(site: Site) -> Any:
    """A website as a setting of its bucket."""
    return msgspec.to_builtins(site)


def site_of(value: object) -> Site | None:
    """The website in a setting of a bucket; None if it is none that can be understood."""
    try:
        return msgspec.convert(value, Site)
    except msgspec.ValidationError:
        return None
