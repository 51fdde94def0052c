"""Where the store is, and how the command line shows that it may."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final

import typer

from common.errors import SettingInvalid
from common.keys import Keyring, load_keyring
from putter.client.http import DEFAULT_URL
from putter.client.store import Store

DEFAULT_DATA_DIR: Final = Path("data")
TIMEOUT_S: Final = 60.0
PAIR: Final = ("PUTTER_ACCESS_KEY", "PUTTER_SECRET_KEY")
"""An access key that signs requests: variables, as its secret has no place in a command line."""

Url = Annotated[
    str,
    typer.Option("--url", envvar="PUTTER_URL", help="Web door of the store.", metavar="URL"),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        envvar="PUTTER_TOKEN",
        help="Bearer token; else it comes from the key file, where that can be read.",
        metavar="TOKEN",
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        envvar="PUTTER_KEY_FILE",
        help="Cluster key; else cluster.key in the data directory.",
        metavar="PATH",
    ),
]
TlsCa = Annotated[
    Path | None,
    typer.Option(
        "--tls-ca",
        envvar="PUTTER_TLS_CA",
        help="Authorities that the certificate of an https store may come from; else the system's.",
        metavar="PATH",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
URL = DEFAULT_URL


def key_path(key_file: Path | None) -> Path:
    """The key file that counts for a command without settings of its own."""
    if key_file is not None:
        return key_file
    return Path(os.environ.get("PUTTER_DATA_DIR") or DEFAULT_DATA_DIR) / "cluster.key"


def keyring(key_file: Path | None) -> Keyring:
    """The cluster keys.

    Raises:
        SettingInvalid: there is no key file, or it cannot be read.
    """
    return load_keyring(key_path(key_file), create=False)


def open_store(
    url: str,
    token: str | None,
    key_file: Path | None,
    tls_ca: Path | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
) -> Store:
    """A client for a command.

    A key file that was named must be readable; the default one is used if it can be. An access key
    of the environment takes the place of both, unless a token is given.

    Args:
        url: of the web door.
        token: for it; None: that of the key file.
        key_file: None: the default one.
        tls_ca: authorities of an ``https`` store; None: the system's.
        timeout_s: patience of each read and write on the socket.

    Raises:
        SettingInvalid: the key file that was named, or that of the authorities, cannot be used.
        UsageError: the URL is none, or of the access key one half is missing.
    """
    access_key, secret_key = (None if token else os.environ.get(name) or None for name in PAIR)
    if access_key is None and secret_key is None:
        token = token or _token_of(key_file)
    return Store(
        url,
        token,
        timeout_s=timeout_s,
        tls_ca=tls_ca,
        access_key=access_key,
        secret_key=secret_key,
    )


def _token_of(key_file: Path | None) -> str | None:
    try:
        return keyring(key_file).writing.token
    except SettingInvalid:
        if key_file is not None:
            raise
        return None
