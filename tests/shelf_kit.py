"""A store in memory behind a scripted web door: files that can be written, read, listed, copied."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from email.utils import formatdate
from urllib.parse import parse_qs, unquote, urlsplit

from common.checksum import object_digest
from tests.web_kit import Reply, Request, as_json

PAGE = 3


@dataclass(frozen=True)
class Kept:
    """A file of it."""

    data: bytes
    created_ms: int
    version: int
    etag: str


class Shelf:
    """Answers as a router does.

    Attributes:
        files: by ``bucket/key``.
        now_ms: when the next file is written.
        faults: answered instead, by method and path, as often as there are some.
    """

    def __init__(self) -> None:
        self.files: dict[str, Kept] = {}
        self.buckets: set[str] = set()
        self.now_ms = 1_700_000_000_123
        self.faults: dict[tuple[str, str], list[Reply]] = {}
        self.asked: list[tuple[str, str]] = []
        self._lock = threading.Lock()

    def holds(self, name: str, data: bytes, etag: str = "") -> Kept:
        """Have it hold a file."""
        self.now_ms += 1
        kept = Kept(data, self.now_ms, self.now_ms, etag or object_digest(data).hex()[:32] + "-1")
        self.files[name] = kept
        self.buckets.add(name.partition("/")[0])
        return kept

    def names(self) -> dict[str, bytes]:
        return {name: kept.data for name, kept in self.files.items()}

    def __call__(self, request: Request) -> Reply:
        with self._lock:
            parts = urlsplit(request.path)
            path = unquote(parts.path)
            self.asked.append((request.method, path))
            if self.faults.get((request.method, path)):
                return self.faults[request.method, path].pop()
            if path == "/metadata":
                return self._listing(parse_qs(parts.query, keep_blank_values=True))
            return self._file(request, path.removeprefix("/file/"))

    def _file(self, request: Request, name: str) -> Reply:
        moved = request.headers.get("X-Putter-Move-Source", "")
        source = unquote(moved or request.headers.get("X-Putter-Copy-Source", ""))
        source = source.removeprefix("/") or name
        if request.method == "PUT" and source == name:
            return as_json(self._told(name, self.holds(name, request.body)), 201)
        kept = self.files.get(source)
        if kept is None:
            return as_json({"code": "not-found", "message": f"there is no file {source}"}, 404)
        if request.method == "PUT":
            if moved:
                del self.files[source]
            return as_json(self._told(name, self.holds(name, kept.data, kept.etag)), 201)
        if request.method == "DELETE":
            del self.files[name]
            return Reply(204)
        digest = {"X-Putter-Blake3": object_digest(kept.data).hex()} if kept.data else {}
        headers = digest | {
            "Content-Length": str(len(kept.data)),
            "ETag": f'"{kept.etag}"',
            "Last-Modified": formatdate(kept.created_ms // 1000, usegmt=True),
            "X-Putter-Version": str(kept.version),
        }
        return Reply(200, b"" if request.method == "HEAD" else kept.data, headers)

    def _told(self, name: str, kept: Kept) -> dict[str, object]:
        bucket, _, key = name.partition("/")
        return {
            "bucket": bucket,
            "key": key,
            "size": len(kept.data),
            "etag": kept.etag,
            "version": str(kept.version),
            "blake3": object_digest(kept.data).hex() if kept.data else None,
        }

    def _listing(self, query: dict[str, list[str]]) -> Reply:
        if "bucket" not in query:
            return as_json({"buckets": sorted(self.buckets)})
        [bucket], [prefix] = query["bucket"], query["prefix"]
        after = query.get("after", [""])[0]
        keys = sorted(
            (name.partition("/")[2] for name in self.files if name.startswith(f"{bucket}/")),
            key=str.encode,
        )
        found = [key for key in keys if key.startswith(prefix) and key.encode() > after.encode()]
        entries = [
            {
                "key": key,
                "size": len(kept.data),
                "etag": kept.etag,
                "created_ms": kept.created_ms,
                "version": str(kept.version),
            }
            for key in found[:PAGE]
            for kept in [self.files[f"{bucket}/{key}"]]
        ]
        more = found[PAGE - 1] if len(found) > PAGE else None
        return as_json({"entries": entries, "next_after": more})
