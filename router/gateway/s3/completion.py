"""CompleteMultipartUpload: parts become an object.

```
document ──► parts as they are kept ──► checked ──► their bytes, one after the other ──► written
                                                          as an object of its own, visible at once
```

The object gets tickets of its own, in one pass over the bytes of its parts, each verified as it is
read: until it is published, the upload and its parts stay as they are, whatever happens. Then the
upload is closed. A client that did not hear the answer asks again, and gets the same one while the
name holds what came of the upload.

What takes long is answered like S3 does: the status goes out early, blanks keep the connection
alive, and the document says how it went.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Final

from aiohttp import web

from common.errors import NotFound, PutterError, WriteConflict
from common.limits import MIB, PART_BYTES_MIN, UPLOAD_PARTS_MAX
from common.logs import get_logger
from common.records import Version
from common.requests import current_request
from common.uploads import is_upload_id
from router.events import COMPLETE
from router.gateway.s3.announced import Announced, BodyChecks
from router.gateway.s3.call import Call, answer
from router.gateway.s3.checksums import (
    Algorithm,
    Buffer,
    ChecksumType,
    composite,
    decode,
    encode,
    etag_of_parts,
    full_object,
)
from router.gateway.s3.documents import CONTENT_TYPE, Element, Tree, document, parsed
from router.gateway.s3.encryption import key_of_upload
from router.gateway.s3.failures import S3Error
from router.gateway.s3.hashing import Hashing
from router.gateway.s3.headers import checksum_type, told_encryption
from router.gateway.s3.mapping import mapped
from router.gateway.s3.multipart import Open, no_upload, read_upload, uploads
from router.gateway.s3.object_parts import checksum_trees
from router.gateway.s3.version_ids import VERSION_ID
from router.gateway.s3.writing import condition, destination, told_of_written, write_from
from router.object_keys import joined
from router.targets import Sealed, Target

_log = get_logger(__name__)
_DOCUMENT_BYTES_MAX: Final = 4 * MIB
_ELEMENTS_MAX: Final = 8 * UPLOAD_PARTS_MAX + 8
_PATIENCE_S: Final = 600.0
"""With another request that completes the same upload."""
_SILENCE_S: Final = 5.0
"""After which a client hears that something is being done."""
_MD5: Final = re.compile(r"[0-9a-f]{32}")
_DIGITS_MAX: Final = 9
_KNOWN: Final = frozenset({"PartNumber", "ETag"} | {f"Checksum{each.value}" for each in Algorithm})


@dataclass(frozen=True)
class Wanted:
    """A part as the request names it.

    Attributes:
        number: 1…10,000.
        etag: entity tag without quotes.
        checksums: by the name of the algorithm in lower case.
    """

    number: int
    etag: str
    checksums: dict[str, str]


async def complete_upload(call: Call) -> web.StreamResponse:
    """CompleteMultipartUpload."""
    bucket, key = await destination(call)
    body = await call.document(_DOCUMENT_BYTES_MAX, summed=False)
    wanted = wanted_parts(parsed(body, "CompleteMultipartUpload", _ELEMENTS_MAX))
    upload = call.parameters.get("uploadId", "")
    headers: dict[str, str] = {}

    async def complete() -> Tree:
        version = await _complete(call, bucket, key, upload, wanted)
        headers.update(await told_of_written(call.store, version))
        headers.update(told_encryption(version.encryption))
        told: list[Tree] = [
            ("Location", f"{call.request.scheme}://{call.request.host}{call.address.path}"),
            ("Bucket", bucket),
            ("Key", key),
            ("ETag", f'"{version.etag}"'),
            *checksum_trees(version.checksums),
        ]
        if version.checksums:
            told.append(("ChecksumType", checksum_type(version)))
        return ("CompleteMultipartUploadResult", told)

    return await _answer_in_time(call, complete, headers)


def wanted_parts(root: Element) -> list[Wanted]:
    """The parts that a document names.

    Raises:
        S3Error: it names none, or not in their order, or is something else.
    """
    if not root.children or any(child.name != "Part" for child in root.children):
        raise S3Error("MalformedXML")
    wanted = [_wanted(part) for part in root.children]
    if any(one.number >= other.number for one, other in pairwise(wanted)):
        raise S3Error("InvalidPartOrder")
    return wanted


def checked_parts(
    of: Open, wanted: Sequence[Wanted], found: Sequence[Version | None]
) -> list[Version]:
    """The parts that were found, if they are those that are wanted and long enough.

    Raises:
        S3Error: ``InvalidPart``, or ``EntityTooSmall``.
    """
    parts = []
    for each, part in zip(wanted, found, strict=True):
        if part is None or part.etag != each.etag or _differ(each.checksums, part.checksums):
            raise S3Error(
                "InvalidPart", UploadId=of.upload, PartNumber=str(each.number), ETag=each.etag
            )
        parts.append(part)
    for each, part in zip(wanted[:-1], parts[:-1], strict=True):
        if part.size < PART_BYTES_MIN:
            raise S3Error(
                "EntityTooSmall",
                ProposedSize=str(part.size),
                MinSizeAllowed=str(PART_BYTES_MIN),
                PartNumber=str(each.number),
                ETag=each.etag,
            )
    return parts


def digests_of(of: Open, parts: Sequence[Version]) -> list[bytes]:
    """The checksums of the parts, of the upload's algorithm; none if not all of them have one."""
    name = of.computed.value.lower()
    if any(name not in part.checksums for part in parts):
        return []
    return [decode(of.computed, part.checksums[name]) for part in parts]


def checksum_of(of: Open, parts: Sequence[Version], digests: Sequence[bytes]) -> str | None:
    """The checksum of the object by those of its parts; None if it does not follow from them.

    Args:
        of: the upload.
        parts: of it, at least one.
        digests: from `digests_of`.
    """
    if not digests:
        return None
    if of.kind is ChecksumType.COMPOSITE:
        return composite(of.computed, digests)
    sizes = [part.size for part in parts]
    return encode(full_object(of.computed, zip(digests, sizes, strict=True)))


# -- inside --------------------------------------------------------------------------------


async def _complete(
    call: Call, bucket: str, key: str, upload: str, wanted: Sequence[Wanted]
) -> Version:
    """What the name holds then.

    Raises:
        S3Error, PutterError: nothing is visible, and the upload is as it was.
    """
    if not is_upload_id(upload):
        raise no_upload(upload)
    store = uploads(call)
    etag = etag_of_parts(bytes.fromhex(each.etag) for each in wanted)
    async with store.alone(upload, _PATIENCE_S):
        kept = await store.find(bucket, key, upload)
        made = await _made_before(call, bucket, key, upload, etag)
        if made is None:
            if kept is None:
                raise no_upload(upload)
            of = read_upload(key, upload, kept, bucket)
            numbers = [each.number for each in wanted]
            parts = checked_parts(of, wanted, await store.parts(bucket, upload, numbers))
            made = await _make(call, of, parts, etag)
        if kept is not None:
            await store.close(bucket, key, upload)
        return made


async def _made_before(call: Call, bucket: str, key: str, upload: str, etag: str) -> Version | None:
    """What the name holds, if it came of these parts of this upload."""
    held = await call.store.meta.files.resolve(bucket, key)
    return held if held is not None and (held.upload, held.etag) == (upload, etag) else None


async def _make(call: Call, of: Open, parts: Sequence[Version], etag: str) -> Version:
    """Write the object.

    Raises:
        S3Error, PutterError: nothing of it is visible.
    """
    name = of.computed.value.lower()
    size = sum(part.size for part in parts)
    _check_size(call, size)
    digests = digests_of(of, parts)
    checksum = checksum_of(of, parts, digests)
    key = key_of_upload(call, of.encryption)
    hashing = None
    if checksum is None and of.encryption is not None and key is None:
        _check_no_sum(call)
    elif checksum is None:
        checks = BodyChecks(Announced(), md5=False, default=of.computed)
        hashing = Hashing(checks, call.store.threads)
    else:
        _check_sum(call, of, checksum)
    if_match = await condition(call)
    lengths = [(len(list(same)), length) for length, same in groupby(part.size for part in parts)]

    async def chunks() -> AsyncGenerator[Buffer, None]:
        nonlocal checksum
        reads = call.store.lately.reads.as_stored()
        for part in parts:
            stream = reads.stream(part, 0, part.size)
            plain = bytes if key is None else key.like(part).transform().bytes_of
            async with aclosing(stream):
                async for view in stream:
                    if hashing is not None:
                        await hashing.feed(plain(view))  # its memory is used again
                    yield view
        if hashing is not None:
            digest = (await hashing.finish({})).digest
            assert digest is not None
            checksum = encode(digest)
            _check_sum(call, of, checksum)

    def seal() -> Sealed:
        sums = {} if checksum is None else {name: checksum}
        return Sealed(etag, sums, of.upload, tuple(lengths), b"".join(digests))

    target = Target(
        of.bucket,
        of.key,
        dict(of.kept),
        if_match,
        empty_allowed=True,
        tags=dict(of.tags),
        acl=of.acl,
        seal=seal,
        encryption=None if of.encryption is None else joined(of.encryption, parts),
        size=sum(part.size for part in parts),
        upload=of.upload,
        lock=of.lock,
        event=COMPLETE,
    )
    return (await write_from(call, chunks(), target)).version


def _check_size(call: Call, size: int) -> None:
    text = call.headers.get("x-amz-mp-object-size")
    if text is not None and text.strip() != str(size):
        raise S3Error(
            "InvalidRequest",
            f"The provided 'x-amz-mp-object-size' header value {text} does not match what was "
            f"computed: {size}",
        )


def _check_no_sum(call: Call) -> None:
    """Hold an object whose bytes cannot be read to no checksum that does not follow from its parts.

    Raises:
        S3Error: its client says one.
    """
    if any(algorithm.header in call.headers for algorithm in Algorithm):
        raise S3Error(
            "InvalidRequest",
            "The checksum of the object does not follow from those of its parts: give the key that "
            "it is encrypted with, or no checksum.",
        )


def _check_sum(call: Call, of: Open, checksum: str) -> None:
    """Hold the object to what its client says of its checksum.

    Raises:
        S3Error: it has another one, or one of another kind.
    """
    kind = call.headers.get("x-amz-checksum-type")
    if kind is not None and kind.upper() != of.kind.value:
        raise S3Error(
            "InvalidRequest",
            f"The upload was created using the {of.kind.value} checksum mode. The complete request "
            "must use the same checksum mode.",
        )
    for algorithm in Algorithm:
        said = call.headers.get(algorithm.header)
        if said is None:
            continue
        if algorithm is not of.computed:
            raise S3Error(
                "InvalidRequest",
                f"The upload was created using a {of.computed.value.lower()} checksum. The "
                "complete request must have the same.",
            )
        # A composite one may come without the number of parts.
        if said.strip() not in (checksum, checksum.partition("-")[0]):
            raise S3Error(
                "BadDigest",
                f"The {algorithm.value} you specified did not match the calculated checksum.",
            )


def _wanted(part: Element) -> Wanted:
    if {child.name for child in part.children} - _KNOWN:
        raise S3Error("MalformedXML")
    number, etag = (part.value("PartNumber") or "").strip(), part.value("ETag")
    digits = number.isascii() and number.isdigit() and len(number) <= _DIGITS_MAX
    if not digits or etag is None:
        raise S3Error("MalformedXML")
    if not 1 <= int(number) <= UPLOAD_PARTS_MAX:
        raise S3Error(
            "InvalidArgument",
            f"PartNumber must be >= 1 and <= {UPLOAD_PARTS_MAX}",
            ArgumentName="partNumber",
            ArgumentValue=number,
        )
    tag = etag.strip().strip('"').lower()
    if not _MD5.fullmatch(tag):
        raise S3Error("InvalidPart", PartNumber=number, ETag=tag)
    sums = {
        child.name.removeprefix("Checksum").lower(): child.text.strip()
        for child in part.children
        if child.name.startswith("Checksum") and child.text.strip()
    }
    return Wanted(int(number), tag, sums)


def _differ(said: dict[str, str], kept: dict[str, str]) -> bool:
    return any(kept.get(name) != value for name, value in said.items())


async def _answer_in_time(
    call: Call, work: Callable[[], Awaitable[Tree]], headers: Mapping[str, str]
) -> web.StreamResponse:
    """Answer with a tree; if that takes long, begin to answer before, without further headers.

    The ID of the version then stands in the tree. The work, which fills in the headers, goes on to
    its end if the client goes away.
    """
    outcome: asyncio.Future[Tree | S3Error] = asyncio.get_running_loop().create_future()

    async def run() -> None:
        told: Tree | S3Error = S3Error("InternalError")
        try:
            told = await work()
        except NotFound:
            told = S3Error("InvalidPart")  # it was replaced, and freed, while it was read
        except WriteConflict as error:
            told = S3Error("OperationAborted", error.message)
        except (S3Error, PutterError) as error:
            told = mapped(error)
        except Exception:  # noqa: BLE001 - the client gets an answer, the log the trace
            _log.exception("an upload could not be completed")
        finally:
            if not outcome.done():
                outcome.set_result(told)

    call.store.writes.in_background(run())
    await asyncio.wait({outcome}, timeout=_SILENCE_S)
    if outcome.done():
        told = outcome.result()
        if isinstance(told, S3Error):
            raise told
        return answer(told, **headers)
    response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE})
    await response.prepare(call.request)
    head, _, _ = document(("Error", "")).partition(b"<Error")
    await response.write(head)
    while not outcome.done():
        await response.write(b" ")
        await asyncio.wait({outcome}, timeout=_SILENCE_S)
    told = outcome.result()
    if isinstance(told, S3Error):
        fields = [("Code", told.code), ("Message", told.message), *told.fields.items()]
        body = document(("Error", [*fields, ("RequestId", current_request())]), namespace="")
    else:
        name, inside = told
        late = [("VersionId", headers[VERSION_ID])] if VERSION_ID in headers else []
        body = document((name, [*inside, *late]))
    await response.write(body.removeprefix(head))
    await response.write_eof()
    return response
