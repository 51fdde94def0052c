"""Every error of the store, with the codes it has on each door.

```
PutterError                    reply code      wire  HTTP  exit
├── UsageError                 usage             7    400     2
│   ├── NameInvalid            invalid-name      7    400     2
│   ├── TicketInvalid          invalid-ticket    7    400     2
│   ├── SettingInvalid         invalid-setting   7    400     2
│   ├── RangeInvalid           invalid-range     7    416     2
│   └── EmptyObject            empty             7    400     2
├── ProtocolError              protocol          7    400     1
│   └── VersionUnknown         version           7    400     1
├── KeyNeeded                  key-needed        7    400     1
├── TooLarge                   too-large         7    413     1
├── NotFound                   not-found         7    404     3
├── PreconditionFailed         precondition      7    412     1
├── WriteConflict              conflict          7    409     1
├── Unavailable                unavailable       3    503     4
│   ├── MetadataUnavailable    redis             3    503     4
│   ├── NodesUnavailable       no-putters        3    503     4
│   ├── TooManyConnections     connections       6    503     4
│   └── ShuttingDown           shutting-down     6    503     4
├── NotAdmitted                not-admitted      6    503     1
├── NotAuthorised              not-authorised    5    401     5
│   └── Forbidden              forbidden         5    403     5
│       └── Locked             locked            5    403     5
├── IntegrityError             integrity         1    500     6
│   └── ChecksumMismatch       checksum          1    500     6
├── TicketTaken                ticket-taken      4    500     1
├── TicketsExhausted           tickets-exhausted 2    507     1
├── NoSpace                    no-space          2    507     1
├── QuotaExceeded              quota-exceeded    7    413     1
├── StorageError               io                3    500     1
│   └── DataDirectoryInUse     in-use            3    500     1
├── ObjectGone                 gone              7    409     1
└── ClientGone                 reset             7    400     1
    └── IdleTimeout            idle              7    408     1
```

A foreign exception is translated into one of these at the seam where it enters (socket, disk,
Redis, HTTP) and nowhere else. The message says what happened, to what, and what to do.
"""

from __future__ import annotations

from typing import ClassVar

from common.wire.status import Status


class PutterError(Exception):
    """Base of all errors of the store.

    Attributes:
        code: the word after ``OBJECT WRITE FAILED`` and in JSON errors.
        status: the status byte of an ack.
        http: the HTTP status.
        exit: the exit code of the command line.
        hint: what the reader can do about it; may be empty.
        request_id: of the request that was answered with it, where a server told one.
    """

    code: ClassVar[str] = "error"
    status: ClassVar[Status] = Status.IO_ERROR
    http: ClassVar[int] = 500
    exit: ClassVar[int] = 1
    request_id: str = ""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(PutterError):
    """The caller asked for something that makes no sense."""

    code = "usage"
    status = Status.MALFORMED
    http = 400
    exit = 2


class NameInvalid(UsageError):
    """A bucket or key that the store does not accept."""

    code = "invalid-name"


class TicketInvalid(UsageError):
    """Text that is not a TicketID."""

    code = "invalid-ticket"


class SettingInvalid(UsageError):
    """A flag, environment variable or line of ``putter.toml`` that cannot be used."""

    code = "invalid-setting"


class RangeInvalid(UsageError):
    """A byte range that lies outside of the object (RFC 9110, section 14.4)."""

    code = "invalid-range"
    http = 416


class EmptyObject(UsageError):
    """A raw stream that ended without a byte."""

    code = "empty"


class ProtocolError(PutterError):
    """Bytes that do not follow the protocol; the connection cannot be re-synchronised."""

    code = "protocol"
    status = Status.MALFORMED
    http = 400


class VersionUnknown(ProtocolError):
    """A session of a version that this side does not speak."""

    code = "version"


class KeyNeeded(PutterError):
    """Bytes that are encrypted with a key of its client, which did not come along."""

    code = "key-needed"
    status = Status.MALFORMED
    http = 400


class TooLarge(PutterError):
    """Past a limit of ``common.limits``."""

    code = "too-large"
    status = Status.MALFORMED
    http = 413


class NotFound(PutterError):
    """No such file, version, object, ticket or bucket."""

    code = "not-found"
    status = Status.MALFORMED
    http = 404
    exit = 3


class PreconditionFailed(PutterError):
    """A condition of the request (If-Match and its kin) does not hold."""

    code = "precondition"
    status = Status.MALFORMED
    http = 412


class WriteConflict(PutterError):
    """Another conditional write of the name, or change of the settings, is not decided yet."""

    code = "conflict"
    status = Status.MALFORMED
    http = 409


class Unavailable(PutterError):
    """Something that the request needs cannot be reached; a retry may succeed."""

    code = "unavailable"
    http = 503
    exit = 4


class MetadataUnavailable(Unavailable):
    """Redis did not answer within the patience of the request."""

    code = "redis"


class NodesUnavailable(Unavailable):
    """Too few putters took (or hold) the bytes within the patience of the request."""

    code = "no-putters"


class TooManyConnections(Unavailable):
    """The port, or the remote address at it, has as many connections as it may have.

    Attributes:
        of_address: whether it is the address that has too many.
    """

    code = "connections"
    status = Status.SHUTTING_DOWN

    def __init__(self, message: str, *, hint: str = "", of_address: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.of_address = of_address


class ShuttingDown(Unavailable):
    """This process is stopping; another one, or this one later, will take the request."""

    code = "shutting-down"
    status = Status.SHUTTING_DOWN


class NotAdmitted(PutterError):
    """This process may not speak for its node: another one does, or the directory is older."""

    code = "not-admitted"
    status = Status.SHUTTING_DOWN
    http = 503


class NotAuthorised(PutterError):
    """Wrong or missing key, proof or token."""

    code = "not-authorised"
    status = Status.NOT_AUTHORISED
    http = 401
    exit = 5


class Forbidden(NotAuthorised):
    """An access key that may not do this."""

    code = "forbidden"
    http = 403


class Locked(Forbidden):
    """A version is kept by its lock, or a lock may not be made weaker."""

    code = "locked"


class IntegrityError(PutterError):
    """Stored bytes are not the bytes that were written; nothing wrong was served."""

    code = "integrity"
    status = Status.CHECKSUM_MISMATCH
    exit = 6


class ChecksumMismatch(IntegrityError):
    """A frame's checksum does not fit its ticket and data."""

    code = "checksum"


class TicketTaken(PutterError):
    """The ticket already holds other data: the last fence against numbers used twice."""

    code = "ticket-taken"
    status = Status.TICKET_TAKEN


class TicketsExhausted(PutterError):
    """All 2.9·10¹² TicketIDs of 8 characters were given out."""

    code = "tickets-exhausted"
    status = Status.NO_SPACE
    http = 507


class NoSpace(PutterError):
    """The disk is full, or below its reserve."""

    code = "no-space"
    status = Status.NO_SPACE
    http = 507


class QuotaExceeded(PutterError):
    """The bucket would hold more than it may."""

    code = "quota-exceeded"
    status = Status.MALFORMED
    http = 413


class StorageError(PutterError):
    """The disk refused to read, write or sync."""

    code = "io"


class DataDirectoryInUse(StorageError):
    """Another process owns the data directory."""

    code = "in-use"


class ObjectGone(PutterError):
    """The object is not ``writing`` any more: a janitor gave it up, or it was aborted."""

    code = "gone"
    status = Status.MALFORMED
    http = 409


class ClientGone(PutterError):
    """The sender reset the connection, went silent, or announced more than it sent."""

    code = "reset"
    status = Status.MALFORMED
    http = 400


class IdleTimeout(ClientGone):
    """The sender was silent for longer than the limit."""

    code = "idle"
    http = 408


def error_for_status(status: int, message: str) -> PutterError:
    """The error that an ack's or a reply's status byte stands for.

    Args:
        status: a value of `Status` other than ``WRITTEN``.
        message: what happened, to what.

    Returns:
        An instance to raise; an unknown status becomes a `ProtocolError`.
    """
    by_status: dict[int, type[PutterError]] = {
        Status.CHECKSUM_MISMATCH: ChecksumMismatch,
        Status.NO_SPACE: NoSpace,
        Status.IO_ERROR: StorageError,
        Status.TICKET_TAKEN: TicketTaken,
        Status.NOT_AUTHORISED: NotAuthorised,
        Status.SHUTTING_DOWN: ShuttingDown,
        Status.MALFORMED: ProtocolError,
    }
    kind = by_status.get(status)
    if kind is None:
        return ProtocolError(f"{message} (status {status} is unknown to this version)")
    hint = "delete something, or add a putter" if kind is NoSpace else ""
    return kind(message, hint=hint)
