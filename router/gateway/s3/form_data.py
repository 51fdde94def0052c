"""A form as browsers send it (``multipart/form-data``, RFC 7578): bytes in, fields and a file out.

```
--boundary CRLF headers CRLF CRLF value CRLF --boundary CRLF … CRLF --boundary--
```

What stands before the bytes of the file is small and kept; the file passes through; what comes
behind it is not looked at, as S3 has it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from common.limits import S3_FORM_BYTES_MAX
from router.gateway.s3.failures import S3Error

FILE: Final = "file"
_TYPE: Final = "multipart/form-data"
_BOUNDARY: Final = re.compile(
    r"""(?:[^"]*;)?\s*boundary=(?:"([0-9A-Za-z'()+_,./:=? -]{1,70})"|([^\s;"]{1,70}))\s*(?:;.*)?""",
    re.IGNORECASE | re.DOTALL,
)
_PARAMETER: Final = re.compile(r';\s*([A-Za-z*]+)=(?:"((?:[^"\\]|\\.)*)"|([^;"]*))')
_END_OF_HEADERS: Final = b"\r\n\r\n"
_PATH: Final = re.compile(r".*[/\\]", re.DOTALL)


def boundary_of(content_type: str) -> bytes:
    """What parts the fields of a form.

    Args:
        content_type: header of the request.

    Raises:
        S3Error: it is no form, or does not say.
    """
    kind, _, rest = content_type.partition(";")
    if kind.strip().lower() != _TYPE:
        raise S3Error("RequestIsNotMultiPartContent")
    match = _BOUNDARY.fullmatch(rest)
    if match is None:
        raise S3Error("MalformedPOSTRequest")
    try:
        return (match[1] or match[2]).encode("ascii")
    except UnicodeEncodeError:
        raise S3Error("MalformedPOSTRequest") from None


@dataclass(frozen=True)
class _Part:
    """The head of a part."""

    name: str
    filename: str


class FormData:
    """Reads one form.

    Args:
        boundary: what parts its fields.

    Attributes:
        fields: by names in lower case, those before the file.
        filename: of the file, without a path; None: it has not begun.
        complete: whether the file has ended.
    """

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._held = bytearray(b"\r\n")  # the first boundary has no line before it
        self._tail = b""
        self._at_head = False
        self._part: _Part | None = None
        self._kept_bytes = 0
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self.complete = False

    def feed(self, data: bytes) -> bytes | memoryview:
        """Take what came.

        Returns:
            The bytes of the file among it.

        Raises:
            S3Error: it is no form, or what stands before the file is too much.
        """
        if self.complete:
            return b""
        if self.filename is None:
            self._held += data
            if not self._read_fields():
                return b""
            data = bytes(self._held)
            self._held.clear()
        return self._file_bytes(self._tail + data)

    def finish(self) -> None:
        """Nothing more comes.

        Raises:
            S3Error: there was no file, or it has not ended.
        """
        if self.complete:
            return
        if self.filename is None and self._held.startswith(b"--") and self._at_head:
            raise S3Error("IncorrectNumberOfFilesInPostRequest")
        raise S3Error("MalformedPOSTRequest")

    # -- inside ----------------------------------------------------------------------------

    def _read_fields(self) -> bool:
        """As many fields as are there; whether the file has begun."""
        while self.filename is None:
            step = self._head() if self._at_head else self._value()
            if not step:
                if self._kept_bytes + len(self._held) > S3_FORM_BYTES_MAX:
                    raise S3Error("MaxPostPreDataLengthExceededError")
                return False
        return True

    def _value(self) -> bool:
        """Up to the next boundary; before the first one nothing may stand."""
        at = self._held.find(self._delimiter)
        if at < 0:
            return False
        value = self._take(at, len(self._delimiter))
        if self._part is not None:
            self._keep(self._part.name, value)
        elif value:
            raise S3Error("MalformedPOSTRequest")
        self._part, self._at_head = None, True
        return True

    def _head(self) -> bool:
        """The headers of a part."""
        if len(self._held) < 2 or self._held.startswith(b"--"):
            return False  # the last boundary: `finish` tells that there was no file
        if not self._held.startswith(b"\r\n"):
            raise S3Error("MalformedPOSTRequest")
        at = self._held.find(_END_OF_HEADERS)
        if at < 0:
            return False
        self._part = _part_of(self._take(at, len(_END_OF_HEADERS)))
        self._at_head = False
        if self._part.name == FILE:
            if self._kept_bytes > S3_FORM_BYTES_MAX:
                raise S3Error("MaxPostPreDataLengthExceededError")
            self.filename = self._part.filename
        return True

    def _take(self, size: int, behind: int) -> bytes:
        """The next bytes, without what stands behind them."""
        taken = bytes(self._held[:size])
        del self._held[: size + behind]
        self._kept_bytes += size + behind
        return taken

    def _keep(self, name: str, value: bytes) -> None:
        if name in self.fields:
            raise S3Error(
                "InvalidArgument",
                "POST requires exactly one field of each name.",
                ArgumentName=name,
            )
        try:
            self.fields[name] = value.decode()
        except UnicodeDecodeError:
            raise S3Error("MalformedPOSTRequest") from None

    def _file_bytes(self, data: bytes) -> memoryview:
        """What is known to be of the file; a boundary may begin at its end."""
        size = data.find(self._delimiter)
        self.complete = size >= 0
        if not self.complete:
            size = max(0, len(data) - len(self._delimiter) + 1)
            self._tail = data[size:]
        return memoryview(data)[:size]


def _part_of(head: bytes) -> _Part:
    """Name and file name in the headers of a part."""
    try:
        lines = head.decode().split("\r\n")
    except UnicodeDecodeError:
        raise S3Error("MalformedPOSTRequest") from None
    for line in lines:
        word, _, value = line.partition(":")
        kind, semicolon, rest = value.partition(";")
        if word.strip().lower() == "content-disposition" and kind.strip().lower() == "form-data":
            found = {
                match[1].lower(): _unquoted(match[2]) if match[2] is not None else match[3].strip()
                for match in _PARAMETER.finditer(semicolon + rest)
            }
            name = found.get("name", "")
            if name:
                return _Part(name.lower(), _PATH.sub("", found.get("filename", "")))
    raise S3Error("MalformedPOSTRequest")


def _unquoted(text: str) -> str:
    r"""A name as browsers quote it: ``%22`` is a quotation mark, as ``\"`` is of other clients.

    Any other backslash stays: it may part the directories of a path.
    """
    return text.replace('\\"', '"').replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")
