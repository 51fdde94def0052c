"""Connections of the S3 port: what they are told outside of any request is XML too."""

from __future__ import annotations

from aiohttp import web

from common.errors import PutterError
from common.requests import current_request, new_request_id
from common.web_lane import LaneConnection
from router.gateway.s3.documents import CONTENT_TYPE, Tree, document
from router.gateway.s3.mapping import mapped


class S3Connection(LaneConnection):
    """One connection."""

    def _bare(self, error: PutterError) -> bytes:
        request_id = new_request_id()
        answer = _told(error, request_id)
        body = answer.body
        assert isinstance(body, bytes)
        lines = [
            f"HTTP/1.1 {answer.status} {answer.reason}",
            f"Content-Type: {CONTENT_TYPE}",
            f"Content-Length: {len(body)}",
            f"x-amz-request-id: {request_id}",
            "Connection: close",
        ]
        return "\r\n".join([*lines, "", ""]).encode() + body

    def _told(self, error: PutterError) -> web.Response:
        request_id = current_request()
        answer = _told(error, request_id)
        answer.headers["x-amz-request-id"] = request_id
        return answer


def _told(error: PutterError, request_id: str) -> web.Response:
    failure = mapped(error)
    told: list[Tree] = [
        ("Code", failure.code),
        ("Message", error.message),
        ("RequestId", request_id),
    ]
    return web.Response(
        body=document(("Error", told), namespace=""),
        status=failure.status,
        headers={"Content-Type": CONTENT_TYPE},
    )
