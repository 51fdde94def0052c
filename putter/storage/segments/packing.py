"""Bodies that are compressed or encrypted: independent blocks behind a table.

Pure: bytes in, bytes out. The body of a packed record (version 2 in its header):

```
offset  size  field
0       1     version of the packing, 1
1       1     cipher: 0 none, 1 AES-256-GCM
2       2     zero
4       4     run: frames in every block but the last; else zero
8       16    salt; zeros without a cipher
24      8     id of the data key; zeros without a cipher
32      16 n  table: one entry for each of the n blocks
…       …     the blocks, without a gap

entry   0     4     stored length
        4     1     bit 0: compressed with zstd, before it was encrypted
        5     3     zero
        8     8     first 8 bytes of the keyed BLAKE3 of the stored bytes
```

A block of a run holds whole frames as on the wire; a commit record is one block. A compressed block
is one zstd frame that names its length. An encrypted one ends with a tag of 16 bytes; its key is
derived from the data key and the salt, which is new for each record, its nonce is its number, and
with it everything is authenticated that says what it is (`_BOUND`), but neither segment nor offset:
compaction copies a body as it is.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common.checksum import Buffer, derive_key
from common.errors import StorageError
from common.limits import FRAME_HEADER_BYTES, KIB, MESSAGE_PAYLOAD_BYTES_MAX
from putter.storage.segments.formats import Header, Kind, seal_of
from putter.storage.segments.squeezer import Squeezer, expand, pays

BLOCK_PLAIN_BYTES: Final = 64 * KIB
"""Plain bytes of a block, at least."""
BLOCK_PLAIN_BYTES_MAX: Final = 2 * MESSAGE_PAYLOAD_BYTES_MAX
"""A larger block is no block of ours, whatever a table says."""
SALT_BYTES: Final = 16
KEY_ID_BYTES: Final = 8
TAG_BYTES: Final = 16
_VERSION: Final = 1
_NO_CIPHER: Final = 0
_AES_256_GCM: Final = 1
_COMPRESSED: Final = 1
_HEAD: Final = struct.Struct("<BB2xI16s8s")
_ENTRY: Final = struct.Struct("<IB3x8s")
_BOUND: Final = struct.Struct("<BBBB I q QII")
"""Kind, raw, flags of the block, length of the ObjectID; number of the block; ticket or stamp; the
field at 40, tickets, data bytes of a frame. The head stands before it, the names stand behind."""
_NONCE: Final = struct.Struct("<I8x")
_RECORD_KEY: Final = "data-putter 2026 packed record"
_KEY_ID: Final = "data-putter 2026 data key id"
_NO_SALT: Final = bytes(SALT_BYTES)
_NO_KEY: Final = bytes(KEY_ID_BYTES)

HEAD_BYTES: Final = _HEAD.size
ENTRY_BYTES: Final = _ENTRY.size
assert HEAD_BYTES == 32
assert ENTRY_BYTES == 16

Made = tuple[Header, tuple[Buffer, ...]]
"""The pieces of a body, packed or not, and its header, which has no place yet."""


class DamagedBlockError(StorageError):
    """A packed record, or a block of it, is not what was written, or its key is not there."""


@dataclass(frozen=True)
class AtRest:
    """How new records are packed, and what old ones are read with.

    Attributes:
        compress: runs are compressed where it pays.
        writing: id of the data key that encrypts new records; None: they are not encrypted.
        keys: data keys of 32 bytes by their ids.
        block_bytes: plain bytes of a block, at least.
        random_bytes: gives each encrypted record its salt; must never give one twice.
    """

    compress: bool = False
    writing: bytes | None = None
    keys: Mapping[bytes, bytes] = field(default_factory=dict, repr=False)
    block_bytes: int = BLOCK_PLAIN_BYTES
    random_bytes: Callable[[int], bytes] = field(default=secrets.token_bytes, repr=False)


@dataclass(frozen=True, slots=True)
class Block:
    """An entry of the table, and where the block lies.

    Attributes:
        at: offset in the body.
        length: stored bytes.
        plain: bytes of the frames in it.
        compressed: it is.
        seal: sum of the stored bytes.
    """

    at: int
    length: int
    plain: int
    compressed: bool
    seal: bytes


@dataclass(frozen=True, slots=True)
class Layout:
    """What stands before the blocks of a body.

    Attributes:
        head: its bytes.
        encrypted: the blocks are.
        salt: of the key.
        key_id: of the data key.
        block_bytes: plain bytes of every block but the last.
        blocks: all of them.
    """

    head: bytes
    encrypted: bool
    salt: bytes
    key_id: bytes
    block_bytes: int
    blocks: tuple[Block, ...]

    @property
    def compressed(self) -> bool:
        """Whether some block is."""
        return any(block.compressed for block in self.blocks)


def data_key_of(head: bytes) -> bytes:
    """The id of the data key that the head of a packed body names; zeros if it names none."""
    return head[HEAD_BYTES - len(_NO_KEY) : HEAD_BYTES]


def key_id_of(key: bytes) -> bytes:
    """The id of a data key; it tells nothing about the key."""
    return derive_key(_KEY_ID, key)[:KEY_ID_BYTES]


class Packer:
    """Packs new records. For one thread.

    Args:
        at_rest: what is wanted.
        secret: of the directory.
    """

    def __init__(self, at_rest: AtRest, secret: bytes) -> None:
        self._at_rest = at_rest
        self._secret = secret
        self._squeezer = Squeezer(at_rest.block_bytes)
        self._wants_runs = at_rest.compress or at_rest.writing is not None

    def run(self, header: Header, frames: memoryview) -> Made:
        """A run's packed body, and the header that goes with it; or as it is, if that is better.

        Args:
            header: of the plain run.
            frames: its body.
        """
        wanted, plain = self._at_rest, len(frames)
        tries = wanted.compress and self._squeezer.promises(frames)
        if not tries and wanted.writing is None:
            return header, (frames,)
        stride = header.frame_bytes + FRAME_HEADER_BYTES
        rows = -(-wanted.block_bytes // stride)
        if rows * stride > BLOCK_PLAIN_BYTES_MAX:
            raise StorageError(f"frames of {stride} bytes are too long to be packed")
        cuts = range(0, plain, rows * stride)
        pieces: list[tuple[Buffer, int]] = []
        for at in cuts:
            piece: Buffer = frames[at : at + rows * stride]
            squeezed = self._squeezer.squeeze(piece) if tries else None
            pieces.append((piece, 0) if squeezed is None else (squeezed, _COMPRESSED))
        size = HEAD_BYTES + sum(len(piece) + ENTRY_BYTES for piece, _ in pieces)
        if wanted.writing is None and not pays(size, plain):
            return header, (frames,)
        packed = replace(header, packed=True, number=plain)
        front, blocks = self._body(packed, rows, pieces)
        size = len(front) + sum(len(block) for block in blocks)
        sealed = seal_of(self._secret, front)
        return replace(packed, body_bytes=size, body_sum=sealed), (front, *blocks)

    def record(self, header: Header, body: bytes) -> tuple[Header, bytes]:
        """A commit record: encrypted if that is wanted, else as it is.

        Args:
            header: of the plain record, with its number.
            body: the record.
        """
        if self._at_rest.writing is None:
            return header, body
        packed = replace(header, packed=True)
        front, blocks = self._body(packed, 0, [(body, 0)])
        whole = front + blocks[0]
        return replace(packed, body_bytes=len(whole), body_sum=seal_of(self._secret, whole)), whole

    def overhead(self, plain: int, frame_bytes: int) -> int:
        """By how much a run's body may grow at most."""
        if not self._wants_runs:
            return 0
        stride = frame_bytes + FRAME_HEADER_BYTES
        blocks = plain // max(stride, self._at_rest.block_bytes) + 1
        return HEAD_BYTES + blocks * (ENTRY_BYTES + TAG_BYTES)

    def is_current(self, layout: Layout | None) -> bool:
        """Whether a record is protected as a new one would be; None stands for a plain one."""
        if layout is None or not layout.encrypted:
            return self._at_rest.writing is None
        return layout.key_id == self._at_rest.writing

    def _body(
        self, header: Header, rows: int, pieces: list[tuple[Buffer, int]]
    ) -> tuple[bytes, list[Buffer]]:
        writing, wanted = self._at_rest.writing, self._at_rest
        if writing is None:
            head = _HEAD.pack(_VERSION, _NO_CIPHER, rows, _NO_SALT, _NO_KEY)
            blocks = [piece for piece, _ in pieces]
        else:
            salt = wanted.random_bytes(SALT_BYTES)
            head = _HEAD.pack(_VERSION, _AES_256_GCM, rows, salt, writing)
            cipher = _cipher(wanted.keys[writing], salt)
            blocks = [
                cipher.encrypt(_NONCE.pack(number), piece, _bound(header, head, number, flags))
                for number, (piece, flags) in enumerate(pieces)
            ]
        entries = [
            _ENTRY.pack(len(block), flags, seal_of(self._secret, block))
            for block, (_, flags) in zip(blocks, pieces, strict=True)
        ]
        return head + b"".join(entries), blocks


class Unpacker:
    """Reads packed bodies. For any thread.

    Args:
        keys: data keys by their ids.
        secret: of the directory.
    """

    def __init__(self, keys: Mapping[bytes, bytes], secret: bytes) -> None:
        self._keys = keys
        self._secret = secret

    def front_bytes(self, header: Header, body: Buffer) -> int:
        """Length of what stands before the blocks.

        Args:
            header: of the record.
            body: its beginning, `HEAD_BYTES` or more.

        Raises:
            DamagedBlockError: that is no beginning of a packed body.
        """
        if len(body) < HEAD_BYTES:
            raise DamagedBlockError("a packed record is too short")
        version, cipher, rows = _HEAD.unpack_from(body)[:3]
        if version != _VERSION or cipher not in (_NO_CIPHER, _AES_256_GCM):
            raise DamagedBlockError(f"unknown packing {version}, cipher {cipher}")
        if header.kind != Kind.RUN:
            return HEAD_BYTES + ENTRY_BYTES
        if not 0 < rows * (header.frame_bytes + FRAME_HEADER_BYTES) <= BLOCK_PLAIN_BYTES_MAX:
            raise DamagedBlockError(f"blocks of {rows} frames of {header.frame_bytes} bytes")
        size: int = HEAD_BYTES + -(-header.count // rows) * ENTRY_BYTES
        if header.count < 1 or size > header.body_bytes:
            raise DamagedBlockError(f"a table of {size} bytes does not fit the record")
        return size

    def layout(self, header: Header, front: Buffer) -> Layout:
        """The table.

        Args:
            header: of the record.
            front: the body up to the first block, or more.

        Raises:
            DamagedBlockError: it is damaged, or contradicts the header.
        """
        size = self.front_bytes(header, front)
        table = bytes(front[HEAD_BYTES:size])
        head = bytes(front[:HEAD_BYTES])
        if header.kind == Kind.RUN and seal_of(self._secret, head, table) != header.body_sum:
            raise DamagedBlockError("the table of a packed run is damaged")
        if len(table) != size - HEAD_BYTES:
            raise DamagedBlockError("a packed record is too short")
        _, cipher, rows, salt, key_id = _HEAD.unpack(head)
        entries = list(_ENTRY.iter_unpack(table))
        starts = list(accumulate((length for length, _, _ in entries), initial=size))
        if starts[-1] != header.body_bytes:
            raise DamagedBlockError("the blocks of a packed record do not fill it")
        if header.kind == Kind.RUN:
            step = rows * (header.frame_bytes + FRAME_HEADER_BYTES)
            plain = header.number
        else:
            plain = step = max(1, entries[0][0] - (TAG_BYTES if cipher else 0))
        if not 0 < plain - step * (len(entries) - 1) <= step:
            raise DamagedBlockError(f"{plain} bytes do not fill {len(entries)} blocks")
        blocks = tuple(
            Block(at, length, min(step, plain - step * number), bool(flags & _COMPRESSED), seal)
            for number, (at, (length, flags, seal)) in enumerate(
                zip(starts[:-1], entries, strict=True)
            )
        )
        return Layout(head, cipher == _AES_256_GCM, salt, key_id, step, blocks)

    def is_whole(self, header: Header, body: Buffer) -> bool:
        """Whether a run's body is what was written; no data key is needed."""
        try:
            layout = self.layout(header, body)
        except DamagedBlockError:
            return False
        return all(
            seal_of(self._secret, body[block.at : block.at + block.length]) == block.seal
            for block in layout.blocks
        )

    def blocks(
        self, header: Header, layout: Layout, wanted: range, stored: Buffer
    ) -> Iterator[bytes | DamagedBlockError]:
        """The plain bytes of blocks, or what is wrong with them.

        Args:
            header: of the record.
            layout: its table.
            wanted: which blocks.
            stored: what is stored of exactly these.
        """
        cipher: AESGCM | None = None
        if layout.encrypted:
            key = self._keys.get(layout.key_id)
            if key is None:
                missing = DamagedBlockError(f"data key {layout.key_id.hex()} is not here")
                yield from (missing for _ in wanted)
                return
            cipher = _cipher(key, layout.salt)
        base = layout.blocks[wanted.start].at
        view = memoryview(stored)
        for number in wanted:
            block = layout.blocks[number]
            piece = view[block.at - base : block.at - base + block.length]
            try:
                yield self._block(header, layout, number, piece, cipher)
            except DamagedBlockError as error:
                yield error

    def body(self, header: Header, body: bytes) -> bytes:
        """The plain body of a record that is no run.

        Raises:
            DamagedBlockError: it cannot be read.
        """
        if not header.packed:
            return body
        layout = self.layout(header, body)
        (plain,) = self.blocks(header, layout, range(1), body[layout.blocks[0].at :])
        if isinstance(plain, DamagedBlockError):
            raise plain
        return plain

    def _block(
        self, header: Header, layout: Layout, number: int, piece: Buffer, cipher: AESGCM | None
    ) -> bytes:
        block = layout.blocks[number]
        if seal_of(self._secret, piece) != block.seal:
            raise DamagedBlockError(f"block {number} is damaged")
        flags = _COMPRESSED if block.compressed else 0
        if cipher is not None:
            bound = _bound(header, layout.head, number, flags)
            try:
                piece = cipher.decrypt(_NONCE.pack(number), piece, bound)
            except InvalidTag as error:
                raise DamagedBlockError(f"block {number} is not authentic") from error
        if block.compressed:
            data = expand(piece, block.plain)
            if data is None:
                raise DamagedBlockError(f"block {number} does not expand to {block.plain} bytes")
            return data
        if len(piece) != block.plain:
            raise DamagedBlockError(f"block {number} has {len(piece)} bytes, not {block.plain}")
        return bytes(piece)


def _cipher(key: bytes, salt: bytes) -> AESGCM:
    return AESGCM(derive_key(_RECORD_KEY, key + salt))


def _bound(header: Header, head: bytes, number: int, flags: int) -> bytes:
    """What is authenticated with a block besides its bytes."""
    object_id = header.object_id.encode()
    fixed = _BOUND.pack(
        header.kind,
        header.raw,
        flags,
        len(object_id),
        number,
        header.first,
        header.number,
        header.count,
        header.frame_bytes,
    )
    return head + fixed + object_id + header.key_id.encode()


assert _NONCE.size == 12
