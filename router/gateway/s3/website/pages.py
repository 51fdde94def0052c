"""What a visitor of a website sees of an error: a page of its own, or the one that its owner made.

Whatever a page tells of a request is escaped, and it may run and load nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from http import HTTPStatus
from typing import Final

from aiohttp import web

from common.requests import current_request
from router.gateway.s3.failures import TABLE, S3Error

_TYPE: Final = "text/html; charset=utf-8"
_SHUT: Final = "default-src 'none'"


def error_page(error: S3Error, host_id: str, second: S3Error | None = None) -> web.Response:
    """An error as a page.

    Args:
        error: what to tell.
        host_id: what answers tell of this process.
        second: why the error document of the website is not sent; None: it has none.
    """
    title = f"{error.status} {HTTPStatus(error.status).phrase}"
    told = [*_told(error), ("RequestId", current_request()), ("HostId", host_id)]
    parts = [
        f"<!DOCTYPE html>\n<html>\n<head><title>{title}</title></head>\n<body>",
        f"<h1>{title}</h1>",
        _list(told),
    ]
    if second is not None:
        parts.append("<h3>The error document of this website cannot be sent</h3>")
        parts.append(_list(_told(second)))
    parts.append("</body>\n</html>\n")
    headers = error.headers | error_headers(error) | {"Content-Type": _TYPE}
    return web.Response(
        body="\n".join(parts).encode("utf-8", "replace"),
        status=error.status,
        headers=headers | {"Content-Security-Policy": _SHUT},
    )


def error_headers(error: S3Error) -> dict[str, str]:
    """What headers tell of an error, whatever the page is."""
    _, usual = TABLE[error.code]
    return {"x-amz-error-code": error.code, "x-amz-error-message": usual}


def _told(error: S3Error) -> list[tuple[str, str]]:
    return [("Code", error.code), ("Message", error.message), *error.fields.items()]


def _list(told: Sequence[tuple[str, str]]) -> str:
    lines = (f"<li>{escape(name)}: {escape(value)}</li>" for name, value in told)
    return "\n".join(["<ul>", *lines, "</ul>"])
