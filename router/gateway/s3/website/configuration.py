"""PutBucketWebsite and its kin: what is set, read from documents, held to S3's limits, told."""

from __future__ import annotations

import re
from collections.abc import Collection
from http import HTTPStatus
from typing import Final

from aiohttp import web

from common.limits import KEY_BYTES_MAX, KIB
from router.gateway.s3.call import Call, answer
from router.gateway.s3.documents import Element, Tree
from router.gateway.s3.failures import S3Error
from router.gateway.s3.subresources import delete_setting, element_of, put_setting, setting_of
from router.gateway.s3.website.model import SETTING, Redirect, Rule, Site, kept, site_of

RULES_MAX: Final = 50
ABSENT: Final = "NoSuchWebsiteConfiguration"
_ROOT: Final = "WebsiteConfiguration"
_DOCUMENT_BYTES_MAX: Final = 128 * KIB
_HOST: Final = re.compile(
    r"(?=.{1,261}$)[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?(?::[0-9]{1,5})?"
)
_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_ERRORS: Final = range(400, 600)
_CODES: Final = frozenset(
    {
        HTTPStatus.MOVED_PERMANENTLY,
        HTTPStatus.FOUND,
        HTTPStatus.SEE_OTHER,
        HTTPStatus.TEMPORARY_REDIRECT,
        HTTPStatus.PERMANENT_REDIRECT,
    }
)
_EVERYTHING: Final = "RedirectAllRequestsTo"
_PARTS: Final = frozenset({"IndexDocument", "ErrorDocument", "RoutingRules"})
_CONDITION: Final = frozenset({"KeyPrefixEquals", "HttpErrorCodeReturnedEquals"})
_REDIRECT: Final = frozenset(
    {"HostName", "Protocol", "HttpRedirectCode", "ReplaceKeyPrefixWith", "ReplaceKeyWith"}
)


async def put_website(call: Call) -> web.StreamResponse:
    """PutBucketWebsite: all of it, in place of what was set."""
    root = await element_of(call, _ROOT, _DOCUMENT_BYTES_MAX, sum_needed=False)
    return await put_setting(call, SETTING, kept(site_in(root)))


async def get_website(call: Call) -> web.StreamResponse:
    """GetBucketWebsite."""
    site = site_of(await setting_of(call, SETTING, ABSENT))
    if site is None:
        raise S3Error(ABSENT, BucketName=call.address.bucket)
    return answer(site_tree(site))


async def delete_website(call: Call) -> web.StreamResponse:
    """DeleteBucketWebsite."""
    return await delete_setting(call, SETTING)


def site_in(root: Element) -> Site:
    """The website in a ``WebsiteConfiguration`` document.

    Args:
        root: its root.

    Raises:
        S3Error: ``MalformedXML``; ``InvalidArgument`` or ``InvalidRequest`` with what is wrong.
    """
    everything = root.all(_EVERYTHING)
    if everything:
        _check_names(root, {_EVERYTHING})
        return Site(everything=_everything(everything[0]))
    _check_names(root, _PARTS)
    index = root.all("IndexDocument")
    if not index:
        raise _argument(
            "IndexDocument",
            "A value for IndexDocument Suffix must be provided if RedirectAllRequestsTo is empty",
        )
    _check_names(index[0], {"Suffix"})
    suffix = index[0].value("Suffix") or ""
    if not suffix or "/" in suffix or _too_long(suffix):
        raise _argument("IndexDocument", "The IndexDocument Suffix is not well formed")
    rules = [rule for each in root.all("RoutingRules") for rule in _rules(each)]
    return Site(suffix, _error_key(root), None, tuple(rules))


def site_tree(site: Site) -> Tree:
    """The document of a website."""
    if site.everything is not None:
        return (_ROOT, [(_EVERYTHING, _told_redirect(site.everything))])
    told: list[Tree] = [("IndexDocument", [("Suffix", site.index)])]
    if site.error:
        told.append(("ErrorDocument", [("Key", site.error)]))
    if site.rules:
        told.append(("RoutingRules", [("RoutingRule", _told_rule(each)) for each in site.rules]))
    return (_ROOT, told)


# -- read ----------------------------------------------------------------------------------


def _error_key(root: Element) -> str:
    found = root.all("ErrorDocument")
    if not found:
        return ""
    _check_names(found[0], {"Key"})
    key = found[0].value("Key") or ""
    if not key or _too_long(key):
        raise _argument("ErrorDocument", "The ErrorDocument Key is not well formed")
    return key


def _everything(element: Element) -> Redirect:
    _check_names(element, {"HostName", "Protocol"})
    redirect = Redirect(host=_host(element), protocol=_protocol(element))
    if not redirect.host:
        raise S3Error("MalformedXML")
    return redirect


def _rules(element: Element) -> list[Rule]:
    _check_names(element, {"RoutingRule"}, many=True)
    if len(element.children) > RULES_MAX:
        raise S3Error(
            "InvalidRequest",
            f"The number of routing rules should not exceed allowed limit of {RULES_MAX} rules.",
        )
    return [_rule(each) for each in element.children]


def _rule(element: Element) -> Rule:
    _check_names(element, {"Condition", "Redirect"})
    redirects = element.all("Redirect")
    if not redirects:
        raise S3Error("MalformedXML")
    redirect = _redirect(redirects[0])
    conditions = element.all("Condition")
    if not conditions:
        return Rule(redirect)
    _check_names(conditions[0], _CONDITION)
    prefix = conditions[0].value("KeyPrefixEquals")
    error = conditions[0].value("HttpErrorCodeReturnedEquals")
    if prefix is None and error is None:
        raise S3Error(
            "InvalidRequest",
            "Condition cannot be empty. To redirect all requests without a condition, the "
            "condition element shouldn't be present.",
        )
    if prefix is not None and _too_long(prefix):
        raise S3Error("InvalidRequest", f"The maximum size of a prefix is {KEY_BYTES_MAX}.")
    status = 0 if error is None else _number(error)
    if error is not None and status not in _ERRORS:
        raise S3Error(
            "InvalidRequest",
            f"The provided HTTP error code ({error}) is not valid. Valid codes are 4XX or 5XX.",
        )
    return Rule(redirect, prefix, status)


def _redirect(element: Element) -> Redirect:
    _check_names(element, _REDIRECT)
    if not element.children:
        raise S3Error("MalformedXML")
    text = element.value("HttpRedirectCode")
    code = 0 if text is None else _number(text)
    if text is not None and code not in _CODES:
        codes = ", ".join(str(int(each)) for each in sorted(_CODES))
        raise S3Error(
            "InvalidRequest",
            f"The provided HTTP redirect code ({text}) is not valid. Valid codes are {codes}.",
        )
    prefix, key = element.value("ReplaceKeyPrefixWith"), element.value("ReplaceKeyWith")
    if prefix is not None and key is not None:
        raise S3Error(
            "InvalidRequest", "You can only define ReplaceKeyPrefix or ReplaceKey but not both."
        )
    if _too_long(prefix or "") or _too_long(key or ""):
        raise S3Error("InvalidRequest", f"The maximum size of a key is {KEY_BYTES_MAX}.")
    return Redirect(_host(element), _protocol(element), code, prefix, key)


def _host(element: Element) -> str:
    """A host that can stand in a URL and is nothing more: no path, no name of a user."""
    host = element.value("HostName")
    if host is None:
        return ""
    if not _HOST.fullmatch(host):
        raise S3Error("InvalidRequest", "The HostName of a redirect is not well formed.")
    return host


def _protocol(element: Element) -> str:
    protocol = element.value("Protocol")
    if protocol is None:
        return ""
    if protocol.lower() not in ("http", "https"):
        raise S3Error(
            "InvalidRequest",
            "Invalid protocol, protocol can be http or https. If not defined the protocol will be "
            "selected automatically.",
        )
    return protocol.lower()


def _check_names(element: Element, known: Collection[str], *, many: bool = False) -> None:
    """Refuse children that are not known, and those that are there twice."""
    names = [child.name for child in element.children]
    if not set(names) <= set(known) or (len(set(names)) < len(names) and not many):
        raise S3Error("MalformedXML")


def _number(text: str) -> int:
    if not _NUMBER.fullmatch(text.strip()):
        raise S3Error("MalformedXML")
    return int(text)


def _too_long(text: str) -> bool:
    return len(text.encode()) > KEY_BYTES_MAX


def _argument(name: str, message: str) -> S3Error:
    return S3Error("InvalidArgument", message, ArgumentName=name)


# -- told ----------------------------------------------------------------------------------


def _told_rule(rule: Rule) -> list[Tree]:
    redirect: Tree = ("Redirect", _told_redirect(rule.redirect))
    if rule.prefix is None and not rule.error:
        return [redirect]
    condition: list[Tree] = []
    if rule.prefix is not None:
        condition.append(("KeyPrefixEquals", rule.prefix))
    if rule.error:
        condition.append(("HttpErrorCodeReturnedEquals", str(rule.error)))
    return [("Condition", condition), redirect]


def _told_redirect(redirect: Redirect) -> list[Tree]:
    told: list[Tree] = []
    if redirect.host:
        told.append(("HostName", redirect.host))
    if redirect.protocol:
        told.append(("Protocol", redirect.protocol))
    if redirect.code:
        told.append(("HttpRedirectCode", str(redirect.code)))
    if redirect.prefix is not None:
        told.append(("ReplaceKeyPrefixWith", redirect.prefix))
    if redirect.key is not None:
        told.append(("ReplaceKeyWith", redirect.key))
    return told
