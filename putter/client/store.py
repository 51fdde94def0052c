"""A store behind its web door: the client of scripts and of the command line.

```python
from pathlib import Path
from putter.client import Store

with Store() as store:
    store.put("photos/cat.jpg", Path("cat.jpg"))
    for entry in store.list("photos"):
        print(entry.key, entry.size)
```
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from common.checksum import object_digest
from common.errors import IntegrityError, ProtocolError
from common.limits import LIST_PAGE_MAX
from common.names import check_bucket, parse_name
from common.tickets import format_id, parse_ticket
from putter.client.buckets import BucketInfo, BucketList
from putter.client.explanation import Explanation
from putter.client.fields import bucket_path, byte_range, conditions, file_path
from putter.client.http import DEFAULT_URL, Answer, Connect, Exchange, connector
from putter.client.keys import Keys
from putter.client.models import Buckets, Entry, FileInfo, Page, TicketInfo, info_from_headers
from putter.client.reader import Reader, save
from putter.client.signing import signer_of
from putter.client.sources import Progress, Source, opened
from putter.client.status import Drain, Drains, NodeScrub, Repairs, Scrubs, StoreStatus

JSON_BYTES_MAX: Final = 64 * 1024 * 1024
"""A file of many extents has a long description."""
_PARTIAL: Final = 206
T = TypeVar("T")


class Store:
    """The files of one store. Not for use by several threads at once."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        token: str | None = None,
        timeout_s: float = 60.0,
        connect: Connect | None = None,
        tls_ca: Path | None = None,
        access_key: str | None = None,
        secret_key: str | None = None,
    ) -> None:
        """Prepare a client; nothing is connected yet.

        Args:
            url: the web door, ``http://host:port`` or ``https://host:port``.
            token: bearer token; a store on loopback asks for none.
            timeout_s: patience of each read and write on the socket.
            connect: opens connections instead of the URL; for tests.
            tls_ca: PEM file of the authorities that an ``https`` store's certificate may come from;
                the system's if None.
            access_key: id of an access key that signs the requests, in place of the token.
            secret_key: its secret, which is not sent.

        Raises:
            UsageError: the URL is none, or half an access key is missing.
            SettingInvalid: the file of authorities cannot be used.
        """
        self.url = url.rstrip("/")
        connect = connect or connector(url, timeout_s, tls_ca)
        self._exchange = Exchange(self.url, connect, token, signer_of(access_key, secret_key))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._exchange.close()

    def put(
        self,
        name: str,
        source: Source,
        *,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
        progress: Progress | None = None,
        if_none_match: str | None = None,
        if_match: str | None = None,
    ) -> FileInfo:
        """Store a file; when this returns, its bytes are durable.

        The bytes are hashed while they are sent and compared with what the router received.

        Args:
            name: ``bucket/key``; one segment is a key in the bucket ``files``.
            source: bytes, a path, or an open binary file; a pipe is sent to its end.
            content_type: media type to keep with the file.
            headers: more header fields to keep with the file.
            progress: called with bytes done and bytes in total.
            if_none_match: ``*`` writes only if there is no such file.
            if_match: an ETag: writes only if the file is this one.

        Raises:
            NameInvalid: no valid name.
            PreconditionFailed: a condition does not hold.
            IntegrityError: the router received other bytes than were sent.
            StorageError: the source cannot be read.
            PutterError: anything else that the router answered.
        """
        path = file_path(*parse_name(name))
        fields = dict(headers or {})
        fields |= conditions(if_match, if_none_match)
        if content_type is not None:
            fields["Content-Type"] = content_type
        if isinstance(source, bytes | bytearray | memoryview):
            data = bytes(source)
            info = self._told(self._exchange.send("PUT", path, headers=fields, body=data), FileInfo)
            sent = object_digest(data)
            if progress is not None:
                progress(len(data), len(data))
        else:
            with opened(source, progress) as outgoing:
                if outgoing.size is not None:
                    fields["Content-Length"] = str(outgoing.size)
                answer = self._exchange.send("PUT", path, headers=fields, body=outgoing)
                info = self._told(answer, FileInfo)
                sent = outgoing.hash.digest()
        if info.blake3 is not None and info.blake3 != sent.hex():
            raise IntegrityError(
                f"{info.name} was stored with BLAKE3 {info.blake3}, but {sent.hex()} was sent",
                hint="something between here and the router changes bytes; delete the file",
            )
        return info

    def copy(self, source: str, name: str) -> FileInfo:
        """Have the store write the bytes of a file under another name, with its header fields.

        Args:
            source: ``bucket/key`` of the file that is there.
            name: ``bucket/key`` of the copy; what it held is replaced.

        Raises:
            NameInvalid: one of them is no valid name.
            NotFound: there is no file to copy.
        """
        return self._take("X-Putter-Copy-Source", source, name)

    def move(self, source: str, name: str) -> FileInfo:
        """Rename a file: the store copies its bytes, then the old name holds nothing.

        Args:
            source: ``bucket/key`` that it has.
            name: ``bucket/key`` that it shall have; what that held is replaced.

        Raises:
            NameInvalid, NotFound: as `copy`.
            UsageError: both are the same, or one of the buckets keeps versions.
            WriteConflict: it was changed meanwhile; look at both.
        """
        return self._take("X-Putter-Move-Source", source, name)

    def head(self, name: str) -> FileInfo:
        """What is known of a file, without its places; its time to the second.

        Raises:
            NotFound: no such file.
        """
        bucket, key = parse_name(name)
        answer = self._exchange.send("HEAD", file_path(bucket, key))
        answer.body.close()
        return info_from_headers(bucket, key, answer.headers)

    def open(
        self,
        name: str,
        start: int | None = None,
        end: int | None = None,
        progress: Progress | None = None,
    ) -> Reader:
        """Begin to read a file, or the bytes from ``start`` up to but not including ``end``.

        Args:
            name: ``bucket/key``.
            start: first byte; a negative one counts from the end, as in a slice.
            end: the byte after the last one, more than ``start``.
            progress: called with bytes done and bytes in total.

        Returns:
            A reader to iterate and to close.

        Raises:
            NameInvalid: no valid name.
            NotFound: no such file.
            RangeInvalid: the range is empty or lies outside of the file.
            PutterError: anything else that the router answered.
        """
        bucket, key = parse_name(name)
        wanted = byte_range(start, end)
        fields = {} if wanted is None else {"Range": wanted}
        answer = self._exchange.send("GET", file_path(bucket, key), headers=fields)
        if wanted is not None and answer.status != _PARTIAL:
            self.close()
            raise ProtocolError(f"{self.url} answered {answer.status} to a request for a range")
        info = info_from_headers(bucket, key, answer.headers)
        length = int(answer.headers.get("content-length", info.size))
        return Reader(self._exchange, answer, info, length, progress)

    def iter(self, name: str, start: int | None = None, end: int | None = None) -> Iterator[bytes]:
        """The chunks of a file or range; see `open`.

        Raises:
            IntegrityError: after the last chunk: the bytes are not those that were written.
        """
        with self.open(name, start, end) as reader:
            yield from reader

    def get(
        self,
        name: str,
        start: int | None = None,
        end: int | None = None,
        progress: Progress | None = None,
    ) -> bytes:
        """A whole file or range in memory; see `open`.

        Raises:
            IntegrityError: too few bytes came, or they are not those that were written.
        """
        with self.open(name, start, end, progress) as reader:
            return reader.read()

    def download(self, name: str, path: Path, progress: Progress | None = None) -> FileInfo:
        """Copy a file to the local disk: whole, verified and synced, or not at all.

        Raises:
            NotFound: no such file in the store.
            IntegrityError: too few bytes came, or they are not those that were written.
            StorageError: the local disk refused.
        """
        with self.open(name, progress=progress) as reader:
            save(reader, path)
            return reader.info

    def stat(self, name: str) -> FileInfo:
        """Everything that is known of a file, down to the tickets of its objects.

        Raises:
            NotFound: no such file.
        """
        answer = self._exchange.send("GET", file_path(*parse_name(name), "/metadata"))
        return self._told(answer, FileInfo)

    def explain(self, name: str) -> Explanation:
        """Where each replica of a file is, and what becomes of it if a node is lost.

        Raises:
            NotFound: no such file.
        """
        answer = self._exchange.send("GET", file_path(*parse_name(name), "/explain"))
        return self._told(answer, Explanation)

    def list(self, bucket: str, prefix: str = "") -> Iterator[Entry]:
        """The files of a bucket whose keys begin with a prefix, in the order of their keys.

        Pages are asked for as they are needed.

        Raises:
            NameInvalid: no valid bucket.
            NotFound: no such bucket.
        """
        query = {"bucket": check_bucket(bucket), "prefix": prefix, "limit": str(LIST_PAGE_MAX)}
        while True:
            answer = self._exchange.send("GET", f"/metadata?{urlencode(query)}")
            page = self._told(answer, Page)
            yield from page.entries
            if page.next_after is None:
                return
            if page.next_after <= query.get("after", ""):
                raise ProtocolError(f"{self.url} lists {bucket} in circles")
            query["after"] = page.next_after

    def buckets(self) -> tuple[str, ...]:
        """The names of all buckets."""
        return self._told(self._exchange.send("GET", "/metadata"), Buckets).buckets

    def bucket(self, bucket: str) -> BucketInfo:
        """The settings of a bucket, and what counts for it.

        Raises:
            NameInvalid: no valid bucket.
        """
        return self._told(self._exchange.send("GET", bucket_path(bucket)), BucketInfo)

    def set_bucket(self, bucket: str, changes: Mapping[str, int | str | None]) -> BucketInfo:
        """Change settings of a bucket; when this returns, the change is durable.

        Args:
            bucket: its name.
            changes: values by name; None: as in the whole store. Others stay.

        Raises:
            NameInvalid: no valid bucket.
            UsageError: no such settings, or they contradict each other.
            WriteConflict: somebody else is changing them.
        """
        fields, body = {"Content-Type": "application/json"}, msgspec.json.encode(changes)
        answer = self._exchange.send("PUT", bucket_path(bucket), headers=fields, body=body)
        return self._told(answer, BucketInfo)

    def reset_bucket(self, bucket: str) -> BucketInfo:
        """Let a bucket be as the whole store again; durable when this returns.

        Raises:
            NameInvalid: no valid bucket.
        """
        return self._told(self._exchange.send("DELETE", bucket_path(bucket)), BucketInfo)

    def bucket_settings(self) -> BucketList:
        """All buckets with their settings, and those of the store."""
        return self._told(self._exchange.send("GET", "/buckets"), BucketList)

    @property
    def keys(self) -> Keys:
        """The access keys of this store."""
        return Keys(self._exchange, self._told)

    def delete(self, name: str, *, if_match: str | None = None) -> None:
        """Delete a file; when this returns, the deletion is durable.

        Args:
            name: ``bucket/key``; one segment is a key in the bucket ``files``.
            if_match: an ETag: deletes only if the file is this one.

        Raises:
            NotFound: no such file.
            PreconditionFailed: it is another one.
        """
        path, fields = file_path(*parse_name(name)), conditions(if_match)
        answer = self._exchange.send("DELETE", path, headers=fields)
        self._exchange.text(answer, JSON_BYTES_MAX)

    def ticket(self, ticket_id: str) -> TicketInfo:
        """What a ticket holds and where.

        Raises:
            TicketInvalid: not a TicketID.
            NotFound: no object has this ticket.
        """
        ticket = format_id(parse_ticket(ticket_id))
        return self._told(self._exchange.send("GET", f"/ticket/{ticket}"), TicketInfo)

    def status(self) -> StoreStatus:
        """The cluster as the router sees it."""
        return self._told(self._exchange.send("GET", "/status"), StoreStatus)

    def drain(
        self, node: str, action: Literal["begin", "gone", "cancel", "status"] = "status"
    ) -> Drain | None:
        """Have a putter emptied, or ask how far that is.

        Args:
            node: its identity.
            action: to begin; to say that it is lost; to take that back; or only to ask.

        Returns:
            How far it is; None if it is not emptied.

        Raises:
            NotFound: no such putter.
        """
        path = f"/drain/{quote(node, safe='')}"
        match action:
            case "begin":
                answer = self._exchange.send("PUT", path)
            case "gone":
                answer = self._exchange.send("PUT", f"{path}?gone=1")
            case "cancel":
                answer = self._exchange.send("DELETE", path)
            case "status":
                answer = self._exchange.send("GET", "/drain")
        told = self._told(answer, Drains)
        return next((each for each in told.nodes if each.node == node), None)

    def repair(
        self, action: Literal["begin", "status"] = "status", nodes: Sequence[str] = ()
    ) -> Repairs:
        """Have what putters hold compared with what they should, or ask how far that is.

        Args:
            action: to begin, or only to ask.
            nodes: compare only what these hold; all if none is named.

        Raises:
            NotFound: no such putter.
        """
        query = f"?{urlencode([('node', node) for node in nodes])}" if nodes else ""
        method = "PUT" if action == "begin" else "GET"
        return self._told(self._exchange.send(method, f"/repair{query}"), Repairs)

    def scrub(
        self,
        action: Literal["start", "stop", "status"] = "status",
        nodes: Sequence[str] = (),
        rate: int | None = None,
    ) -> tuple[NodeScrub, ...]:
        """Have putters verify their disks, or ask what they found.

        Args:
            action: to begin, to give up, or only to ask.
            nodes: identities of putters; all if there are none.
            rate: bytes per second and putter, 0 as fast as can be; None: as the putter likes.

        Raises:
            NotFound: no such putter.
        """
        query = [("node", node) for node in nodes]
        if rate is not None and action == "start":
            query.append(("rate", str(rate)))
        method = {"start": "PUT", "stop": "DELETE", "status": "GET"}[action]
        path = f"/scrub?{urlencode(query)}" if query else "/scrub"
        answer = self._exchange.send(method, path)
        return self._told(answer, Scrubs).nodes

    def _take(self, header: str, source: str, name: str) -> FileInfo:
        fields = {header: file_path(*parse_name(source), top="")}
        answer = self._exchange.send("PUT", file_path(*parse_name(name)), headers=fields)
        return self._told(answer, FileInfo)

    def _told(self, answer: Answer, kind: type[T]) -> T:
        body = self._exchange.text(answer, JSON_BYTES_MAX)
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ProtocolError(f"{self.url} answered what no router answers: {error}") from error
