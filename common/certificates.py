"""The TLS certificate of this process, its key, and the authority that others are verified with.

Between nodes both sides show a certificate that the authority signed. No name is looked for in it:
nodes are known by their identity, not by their address, and the greeting proves in both directions
that they hold the cluster key, and that the server is who showed this certificate. Clients of a web
port verify certificate and name, and show none.
"""

from __future__ import annotations

import ssl
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from common.checksum import object_digest
from common.errors import SettingInvalid
from common.logs import get_logger
from common.settings import Settings
from common.tls import TlsContext

_log = get_logger(__name__)
_SOON_DAYS: Final = 14


@dataclass(frozen=True)
class Contexts:
    """What connections are made with.

    Attributes:
        web: of web ports: the client shows nothing.
        nodes: of ports for sessions and acks: the client shows a certificate of the authority.
        client: towards such ports.
        expires_s: when the certificate ends, seconds since 1970.
    """

    web: ssl.SSLContext
    nodes: ssl.SSLContext
    client: ssl.SSLContext
    expires_s: float


class Certificates:
    """The files, and what was last read of them.

    Args:
        cert: PEM file: the certificate, and those between it and the authority.
        key: PEM file of its private key.
        ca: PEM file of the authorities.

    Raises:
        SettingInvalid: they cannot be used.
    """

    def __init__(self, cert: Path, key: Path, ca: Path) -> None:
        self._files: Final = (cert, key, ca)
        self._contexts = load(cert, key, ca)

    @property
    def now(self) -> Contexts:
        """What new connections are made with."""
        return self._contexts

    def reload(self) -> None:
        """Read the files again; connections that stand are not touched.

        Raises:
            SettingInvalid: they cannot be used; what was read before still counts.
        """
        self._contexts = load(*self._files)


def certificates_of(settings: Settings) -> Certificates | None:
    """Those that the settings name, or None if they name none.

    Raises:
        SettingInvalid: they cannot be used.
    """
    if settings.tls_cert is None or settings.tls_key is None or settings.tls_ca is None:
        return None
    return Certificates(settings.tls_cert, settings.tls_key, settings.tls_ca)


def load(cert: Path, key: Path, ca: Path) -> Contexts:
    """Read the files, and make of them what connections are made with.

    Raises:
        SettingInvalid: one is missing, unreadable, malformed, does not fit the others, has expired,
            or lets others read the private key.
    """
    _check_private(key)
    expires, digest = _look_at(cert)
    web = TlsContext(ssl.PROTOCOL_TLS_SERVER)
    nodes = TlsContext(ssl.PROTOCOL_TLS_SERVER)
    client = TlsContext(ssl.PROTOCOL_TLS_CLIENT)
    nodes.digest = digest
    client.check_hostname = False
    for context in (web, nodes, client):
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION
        _load_own(context, cert, key)
    for context in (nodes, client):
        load_authority(context, ca)
        context.verify_mode = ssl.CERT_REQUIRED
    nodes.num_tickets = 0  # links live long
    return Contexts(web, nodes, client, expires)


def web_client(ca: Path | None) -> ssl.SSLContext:
    """What a client connects to a web port with.

    Args:
        ca: file of the authorities; the system's if None.

    Raises:
        SettingInvalid: the file cannot be used.
    """
    if ca is None:
        return ssl.create_default_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_authority(context, ca)
    return context


def load_authority(context: ssl.SSLContext, ca: Path) -> None:
    """Let a context verify with these authorities only.

    Raises:
        SettingInvalid: the file cannot be used.
    """
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError as error:
        raise SettingInvalid(f"{ca} holds no certificate of an authority: {error}") from error
    except OSError as error:
        raise SettingInvalid(f"cannot read {ca}: {error.strerror}") from error


def _load_own(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    def no_password() -> str:
        raise SettingInvalid(f"the key in {key} is protected by a password")

    try:
        context.load_cert_chain(cert, key, password=no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise SettingInvalid(
                f"the key in {key} is not that of the certificate in {cert}"
            ) from error
        raise SettingInvalid(
            f"{cert} and {key} are no certificate and key in PEM form: {error.reason or error}"
        ) from error
    except OSError as error:
        raise SettingInvalid(f"cannot read {cert} and {key}: {error.strerror}") from error


def _check_private(key: Path) -> None:
    try:
        mode = key.stat().st_mode
    except OSError as error:
        raise SettingInvalid(f"cannot read {key}: {error.strerror}") from error
    if mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP):
        raise SettingInvalid(
            f"the private key {key} may be read or written by others", hint=f"chmod 600 {key}"
        )


def _look_at(cert: Path) -> tuple[float, bytes]:
    """When the first certificate of a file ends, and its digest; warns if it ends soon."""
    from cryptography import x509  # takes a while, and most processes need it not
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        found = x509.load_pem_x509_certificate(cert.read_bytes())
    except OSError as error:
        raise SettingInvalid(f"cannot read {cert}: {error.strerror}") from error
    except ValueError as error:
        raise SettingInvalid(f"{cert} holds no certificate in PEM form") from error
    now = datetime.now(UTC)
    begin, end = found.not_valid_before_utc, found.not_valid_after_utc
    if now >= end:
        raise SettingInvalid(f"the certificate in {cert} has expired: {end:%Y-%m-%d %H:%M} UTC")
    if now < begin:
        raise SettingInvalid(
            f"the certificate in {cert} is not valid before {begin:%Y-%m-%d %H:%M} UTC"
        )
    left = end - now
    if left.days < _SOON_DAYS:
        _log.warning("the TLS certificate ends soon", file=str(cert), days=left.days)
    return end.timestamp(), object_digest(found.public_bytes(Encoding.DER))
