"""The web door as an OpenAPI 3.1 document; a test holds it against the routes."""

from __future__ import annotations

from typing import Any

from common.errors import PutterError

_NAME = [
    {
        "name": "bucket",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "minLength": 3, "maxLength": 63},
    },
    {
        "name": "key",
        "in": "path",
        "required": True,
        "description": "percent-encoded UTF-8, at most 1024 bytes; may hold slashes",
        "schema": {"type": "string", "minLength": 1, "maxLength": 1024},
    },
]
_KEY_ID = {
    "name": "access_key_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{3,128}$"},
}
_BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_JSON = {"application/json": {"schema": {"type": "object"}}}
_ERROR = {
    "description": "what went wrong",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["code", "message", "hint", "request_id"],
                "properties": {
                    "code": {"type": "string", "example": PutterError.code},
                    "message": {"type": "string"},
                    "hint": {"type": "string"},
                    "request_id": {"type": "string"},
                },
            }
        }
    },
}


def document(version: str) -> dict[str, Any]:
    """The document for a release."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "data-putter", "version": version},
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "access_key": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "id and secret of an access key, on loopback and over TLS",
                },
                "signature": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "Signature Version 4 of an access key, for the service s3",
                },
            },
        },
        "security": [{}, {"token": []}, {"access_key": []}, {"signature": []}],
        "paths": {
            "/file/{bucket}/{key}": {
                "parameters": _NAME,
                "get": _operation(
                    "The bytes of a file; Range, If-Match, If-None-Match, If-Modified-Since, "
                    "If-Unmodified-Since and If-Range are honoured",
                    {
                        "200": _BYTES,
                        "206": _BYTES,
                        "304": None,
                        "404": None,
                        "412": None,
                        "416": None,
                    },
                ),
                "head": _operation("The headers of GET", {"200": None, "304": None, "404": None}),
                "put": _operation(
                    "Store the body, or with X-Putter-Copy-Source the bytes of another file, or "
                    "rename that of X-Putter-Move-Source; If-Match and If-None-Match: * are "
                    "honoured",
                    {
                        "200": _JSON,
                        "201": _JSON,
                        "400": None,
                        "404": None,
                        "409": None,
                        "412": None,
                        "503": None,
                        "507": None,
                    },
                    body=True,
                ),
                "delete": _operation(
                    "Remove the file; If-Match is honoured",
                    {"204": None, "404": None, "409": None, "412": None},
                ),
            },
            "/metadata": {
                "parameters": [
                    _query("bucket", "without it, the buckets are listed"),
                    _query("prefix", "only keys that start with this"),
                    _query("after", "only keys that sort behind this: next_after of a page"),
                    _query("limit", "1 … 1000 entries"),
                ],
                "get": _operation("A page of names", {"200": _JSON, "400": None}),
            },
            "/metadata/{bucket}/{key}": {
                "parameters": _NAME,
                "get": _operation("Where each byte of a file is", {"200": _JSON, "404": None}),
            },
            "/explain/{bucket}/{key}": {
                "parameters": _NAME,
                "get": _operation(
                    "Where each replica of a file is, and what is left without it",
                    {"200": _JSON, "404": None},
                ),
            },
            "/buckets": {"get": _operation("All buckets with their settings", {"200": _JSON})},
            "/bucket/{bucket}": {
                "parameters": [_NAME[0]],
                "get": _operation("The settings of a bucket", {"200": _JSON, "400": None}),
                "put": _operation(
                    "Change the settings that the body names; null is the store's value",
                    {"200": _JSON, "400": None, "409": None, "503": None},
                )
                | {"requestBody": {"required": True, "content": _JSON}},
                "delete": _operation(
                    "Let a bucket be as the store again",
                    {"200": _JSON, "400": None, "409": None, "503": None},
                ),
            },
            "/keys": {"get": _operation("All access keys, without their secrets", {"200": _JSON})},
            "/keys/first": {
                "put": _operation(
                    "Make the access key that a new store begins with",
                    {"201": _JSON, "204": None, "409": None, "503": None},
                )
            },
            "/key/{access_key_id}": {
                "parameters": [_KEY_ID],
                "put": _operation(
                    "Make an access key; the answer has its secret",
                    {"201": _JSON, "400": None, "409": None, "503": None},
                )
                | {"requestBody": {"content": _JSON}},
                "delete": _operation(
                    "Take an access key away",
                    {"204": None, "404": None, "409": None, "503": None},
                ),
            },
            "/key/{access_key_id}/secret": {
                "parameters": [_KEY_ID],
                "put": _operation(
                    "Give an access key another secret, which the answer has",
                    {"200": _JSON, "400": None, "404": None, "409": None, "503": None},
                )
                | {"requestBody": {"content": _JSON}},
            },
            "/key/{access_key_id}/rights": {
                "parameters": [_KEY_ID],
                "put": _operation(
                    "Change whose an access key is and what it may; its secret stays",
                    {"200": _JSON, "400": None, "404": None, "409": None, "503": None},
                )
                | {"requestBody": {"content": _JSON}},
            },
            "/ticket/{ticket}": {
                "parameters": [
                    {
                        "name": "ticket",
                        "in": "path",
                        "required": True,
                        "schema": {"type": "string", "pattern": "^[0-9A-Za-z]{1,8}$"},
                    }
                ],
                "get": _operation("What a ticket belongs to", {"200": _JSON, "404": None}),
            },
            "/status": {"get": _operation("The cluster at a glance", {"200": _JSON})},
            "/scrub": {
                "parameters": [_query("node", "only this putter; may be given several times")],
                "get": _operation("Where each scrub is, and what is damaged", {"200": _JSON}),
                "put": _operation(
                    "Have the putters verify their disks", {"200": _JSON, "400": None, "404": None}
                )
                | {"parameters": [_query("rate", "bytes per second; 0 as fast as can be")]},
                "delete": _operation("Give up the passes under way", {"200": _JSON, "404": None}),
            },
            "/repair": {
                "get": _operation("What putters are owed, and how that is found", {"200": _JSON}),
                "put": _operation(
                    "Compare what putters hold with what they should",
                    {"200": _JSON, "404": None, "503": None},
                )
                | {"parameters": [_query("node", "only this putter; may be given several times")]},
            },
            "/drain": {
                "get": _operation(
                    "Putters that are emptied, and what is left on them", {"200": _JSON}
                )
            },
            "/drain/{node}": {
                "parameters": [_NODE],
                "put": _operation("Have a putter emptied", {"200": _JSON, "400": None, "404": None})
                | {"parameters": [_query("gone", "1: it is lost and does not come back")]},
                "delete": _operation("Let it stay", {"200": _JSON, "404": None}),
            },
            "/healthz": {"get": _operation("The process lives", {"200": None})},
            "/readyz": {"get": _operation("It can do its work", {"200": None, "503": None})},
            "/metrics": {"get": _operation("Prometheus metrics", {"200": None})},
            "/openapi.json": {"get": _operation("This document", {"200": _JSON})},
        },
    }


_NODE: dict[str, Any] = {
    "name": "node",
    "in": "path",
    "required": True,
    "description": "identity of a putter",
    "schema": {"type": "string", "minLength": 1},
}


def _operation(
    summary: str, answers: dict[str, dict[str, Any] | None], *, body: bool = False
) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, content in answers.items():
        if int(status) >= 400:
            responses[status] = _ERROR
        else:
            responses[status] = {"description": "done", **({"content": content} if content else {})}
    operation: dict[str, Any] = {"summary": summary, "responses": responses}
    if body:
        operation["requestBody"] = {"required": True, "content": _BYTES}
    return operation


def _query(name: str, text: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}
