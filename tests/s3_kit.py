"""Talking S3 to a store: boto3, and requests signed by hand for what boto3 would never send."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import json
import socket
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote
from xml.etree import ElementTree as ET

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.store_kit import Cluster, cluster

KEY_ID: Final = "TESTKEY"
SECRET: Final = "a/secret+of=tests-0123456789-abcdefghij"
REGION: Final = "us-east-1"
SSE: Final = "x-amz-server-side-encryption"
SSE_SOURCE: Final = "x-amz-copy-source-server-side-encryption"
UNSIGNED: Final = "UNSIGNED-PAYLOAD"
TRAILER: Final = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
SIGNED_CHUNKS: Final = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_TRAILER: Final = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"


@dataclass(frozen=True)
class Told:
    """An answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """Of an error."""
        return ET.fromstring(self.body).findtext("Code") or "" if self.body else ""

    def field(self, name: str) -> str | None:
        return ET.fromstring(self.body).findtext(name)


@dataclass(frozen=True)
class Signer:
    """Signs as the reference says, written down a second time.

    Attributes:
        port: of the store, on loopback.
    """

    port: int
    key_id: str = KEY_ID
    secret: str = SECRET
    offset_s: float = 0.0

    def signed(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        *,
        payload: str = UNSIGNED,
    ) -> tuple[dict[str, str], Chain]:
        """Headers of a request, and what its chunks are signed with."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() + self.offset_s))
        raw, _, query = path.partition("?")
        scope = f"{stamp[:8]}/{REGION}/s3/aws4_request"
        every = {"host": f"127.0.0.1:{self.port}"} | {
            name.lower(): value for name, value in (headers or {}).items()
        }
        every |= {"x-amz-date": stamp, "x-amz-content-sha256": payload}
        names = sorted(name for name in every if name not in {"expect", "connection"})
        pairs = sorted(pair if "=" in pair else pair + "=" for pair in query.split("&") if pair)
        canonical = "\n".join(
            [
                method,
                raw,
                "&".join(pairs),
                *(f"{name}:{every[name].strip()}" for name in names),
                "",
                ";".join(names),
                payload,
            ]
        )
        key = f"AWS4{self.secret}".encode()
        for word in scope.split("/"):
            key = hmac.digest(key, word.encode(), "sha256")
        digest = hashlib.sha256(canonical.encode("utf-8", "surrogateescape")).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        every["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.key_id}/{scope}, "
            f"SignedHeaders={';'.join(names)}, Signature={signature}"
        )
        return every, Chain(key, stamp, scope, signature)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        payload: str = UNSIGNED,
    ) -> Told:
        """A signed request, and its answer."""
        every, _ = self.signed(method, path, headers, payload=payload)
        return self.send(method, path, body, every)

    def send(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Told:
        """A request as it is."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(client):
            client.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            lengths = {"content-length", "transfer-encoding"}
            given = {name.lower() for name in headers}
            for name, value in headers.items():
                client.putheader(name, value)
            if not given & lengths and (body or method in {"PUT", "POST"}):
                client.putheader("content-length", str(len(body)))
            client.endheaders(body or None)
            response = client.getresponse()
            told = {name.lower(): value for name, value in response.getheaders()}
            return Told(response.status, told, response.read())

    @contextlib.contextmanager
    def wire(self) -> Iterator[socket.socket]:
        """A bare connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as client:
            yield client


@dataclass
class Chain:
    """Signatures of chunks, each of the one before."""

    key: bytes
    stamp: str
    scope: str
    last: str

    def chunk(self, data: bytes) -> bytes:
        """A signed chunk."""
        empty = hashlib.sha256(b"").hexdigest()
        digest = hashlib.sha256(data).hexdigest()
        self._sign("AWS4-HMAC-SHA256-PAYLOAD", f"{empty}\n{digest}")
        return b"%x;chunk-signature=%s\r\n%s\r\n" % (len(data), self.last.encode(), data)

    def trailer(self, name: str, value: str) -> bytes:
        """The last chunk without its own end, and a signed trailer."""
        last = self.chunk(b"").removesuffix(b"\r\n")
        line = f"{name}:{value}\n".encode()
        self._sign("AWS4-HMAC-SHA256-TRAILER", hashlib.sha256(line).hexdigest())
        return (
            last
            + line.replace(b"\n", b"\r\n")
            + (f"x-amz-trailer-signature:{self.last}\r\n\r\n".encode())
        )

    def _sign(self, kind: str, rest: str) -> None:
        text = f"{kind}\n{self.stamp}\n{self.scope}\n{self.last}\n{rest}"
        self.last = hmac.digest(self.key, text.encode(), "sha256").hex()


def unsigned_chunks(*chunks: bytes, trailer: str = "") -> bytes:
    """A body framed as aws-chunked, with a trailer."""
    framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return framed + b"0\r\n" + f"{trailer}\r\n\r\n".encode()


@contextlib.contextmanager
def s3_cluster(directory: Path, **options: Any) -> Iterator[Cluster]:
    """A running store whose S3 door knows the key of these tests."""
    flags = (
        *("--s3-domain", "s3.test", "--s3-website-domain", "web.test"),
        *options.pop("router_flags", ()),
    )
    with cluster(directory, router_flags=flags, **options) as store:
        body = json.dumps({"secret_key": SECRET})
        status, _, told = store.http("PUT", f"/key/{KEY_ID}", body)
        assert status == 201, told
        yield store


def begin_anew(store: Cluster) -> None:
    """Kill every process, take all from Redis, and bring it back from the putters."""
    for process in (*store.routers, *store.putters):
        process.kill()
    assert store.valkey.ask("FLUSHALL") == "+OK\r\n"
    for process in (*store.putters, *store.routers):
        process.start()
    done = subprocess.run(
        store.command(
            *("rebuild", "--redis", store.valkey.url, "--json"),
            *("--key-file", str(store.directory / "cluster.key")),
        ),
        cwd=store.directory,
        env=store.environment(),
        capture_output=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    store.wait_ready()


@contextlib.contextmanager
def s3(
    port: int,
    key_id: str = KEY_ID,
    secret: str = SECRET,
    *,
    tls_ca: Path | None = None,
    **options: Any,
) -> Iterator[Any]:
    """A boto3 client that tries once."""
    settings = {
        "retries": {"max_attempts": 0},
        "s3": {"addressing_style": "path"},
        "signature_version": "s3v4",
    }
    client = boto3.client(
        "s3",
        endpoint_url=f"{'http' if tls_ca is None else 'https'}://127.0.0.1:{port}",
        verify=None if tls_ca is None else str(tls_ca),
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        region_name=REGION,
        config=Config(**(settings | options)),
    )
    with contextlib.closing(client):
        yield client


def completion_of(tags: Mapping[int, str]) -> bytes:
    """The document that completes an upload, of the entity tags of its parts by number."""
    lines = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"
        for number, tag in tags.items()
    )
    return f"<CompleteMultipartUpload>{lines}</CompleteMultipartUpload>".encode()


def customer_headers(name: str, prefix: str = SSE) -> dict[str, str]:
    """The headers with a client's key, each with one of its own."""
    secret = customer_secret(name)
    return {
        f"{prefix}-customer-algorithm": "AES256",
        f"{prefix}-customer-key": b64encode(secret).decode(),
        f"{prefix}-customer-key-md5": b64encode(hashlib.md5(secret).digest()).decode(),
    }


def customer_secret(name: str) -> bytes:
    """A client's key."""
    return hashlib.sha256(name.encode()).digest()


def refusal(error: ClientError) -> tuple[str, int]:
    """Code and status of an error."""
    told: Any = error.response
    return told["Error"]["Code"], told["ResponseMetadata"]["HTTPStatusCode"]


def path_of(bucket: str, key: str) -> str:
    """The path of an object, encoded as clients do."""
    return f"/{bucket}/{quote(key, safe='/-_.~')}"
