"""Access key pairs: what an id, a secret and an owner may look like, and random ones."""

from __future__ import annotations

import re
import secrets
import string
from typing import Final

import msgspec

from common.errors import UsageError

ROOT: Final = "root"
"""Owner of the key that a new store begins with, and of others that name none."""

FIRST_PAIR: Final = "first pair"
"""What the parent of a router's workers asks the first of them, to show it (`common.siblings`)."""

_ID: Final = re.compile(r"[A-Za-z0-9._-]{3,128}")
_SECRET: Final = re.compile(r"[!-~]{8,128}")
_OWNER: Final = re.compile(r"[A-Za-z0-9._@+-]{1,64}")
_ID_LETTERS: Final = string.ascii_uppercase + "234567"
_SECRET_LETTERS: Final = string.ascii_letters + string.digits
_SHOWN_CHARS_MAX: Final = 128


class Pair(msgspec.Struct, frozen=True):
    """An access key with its secret, on its way to be shown. Its representation lacks the secret.

    Attributes:
        access_key_id: its public half.
        secret_key: the other.
    """

    access_key_id: str
    secret_key: str

    def __repr__(self) -> str:
        return f"Pair({self.access_key_id!r})"


def new_id() -> str:
    """A random access key id."""
    return "PK" + "".join(secrets.choice(_ID_LETTERS) for _ in range(18))


def new_secret() -> str:
    """A random secret of 238 bits, in letters that no shell and no client minds."""
    return "".join(secrets.choice(_SECRET_LETTERS) for _ in range(40))


def is_id(text: str) -> bool:
    """Whether this can be an access key id."""
    return _ID.fullmatch(text) is not None


def check_id(text: str) -> str:
    """The id itself, if it can be one.

    Raises:
        UsageError: it cannot.
    """
    if not is_id(text):
        raise UsageError(
            f"{text[:_SHOWN_CHARS_MAX]!a} is no access key id",
            hint="3…128 of A-Z, a-z, 0-9, '.', '_' and '-'",
        )
    return text


def check_secret(text: str) -> str:
    """The secret itself, if it can be one; no message ever shows it.

    Raises:
        UsageError: it cannot.
    """
    if _SECRET.fullmatch(text) is None:
        raise UsageError(
            "this secret key cannot be used", hint="8…128 printable characters without blanks"
        )
    return text


def check_owner(text: str) -> str:
    """The name of an owner itself, if it can be one.

    Raises:
        UsageError: it cannot.
    """
    if _OWNER.fullmatch(text) is None:
        raise UsageError(
            f"{text[:_SHOWN_CHARS_MAX]!a} is no name of an owner",
            hint="1…64 of A-Z, a-z, 0-9, '.', '_', '@', '+' and '-'",
        )
    return text
