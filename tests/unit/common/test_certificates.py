"""Files of certificates: which are taken, and what is said of the others."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import structlog

from common.certificates import Certificates, load, web_client
from common.errors import SettingInvalid
from tests.tls_kit import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


def test_what_connections_are_made_with(authority: Authority) -> None:
    found = load(*authority.issue("node"), authority.ca)
    assert found.nodes.verify_mode == found.client.verify_mode == ssl.CERT_REQUIRED
    assert found.web.verify_mode == ssl.CERT_NONE, "clients of the web show a token"
    assert not found.client.check_hostname
    for context in (found.web, found.nodes, found.client):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_a_key_that_the_group_may_read_is_taken(authority: Authority) -> None:
    cert, key = authority.issue("grouped")
    key.chmod(0o640)
    load(cert, key, authority.ca)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o602])
def test_a_key_that_others_may_use_is_not(authority: Authority, mode: int) -> None:
    cert, key = authority.issue("open")
    key.chmod(mode)
    with pytest.raises(SettingInvalid, match="may be read or written by others") as caught:
        load(cert, key, authority.ca)
    assert "chmod 600" in caught.value.hint


def test_a_certificate_that_is_over_or_not_yet_valid(authority: Authority) -> None:
    with pytest.raises(SettingInvalid, match="has expired"):
        load(*authority.issue("old", days=-1, since_days=10), authority.ca)
    with pytest.raises(SettingInvalid, match="is not valid before"):
        load(*authority.issue("early", days=10, since_days=-1), authority.ca)


def test_one_that_ends_soon_is_warned_of(authority: Authority) -> None:
    with structlog.testing.capture_logs() as lines:
        load(*authority.issue("soon", days=5.5), authority.ca)
        load(*authority.issue("later", days=50), authority.ca)
    assert [line["days"] for line in lines] == [5]


def test_files_that_are_something_else(authority: Authority, tmp_path: Path) -> None:
    cert, key = authority.issue("node")
    _, other = authority.issue("other")
    noise = tmp_path / "noise"
    noise.write_text("no certificate")
    missing = tmp_path / "missing"
    for files, reason in (
        ((cert, other, authority.ca), "is not that of the certificate"),
        ((noise, key, authority.ca), "holds no certificate"),
        ((cert, noise, authority.ca), "may be read|no certificate and key in PEM form"),
        ((cert, key, noise), "holds no certificate of an authority"),
        ((missing, key, authority.ca), "cannot read .*missing: No such file"),
        ((cert, missing, authority.ca), "cannot read .*missing: No such file"),
        ((cert, key, missing), "cannot read .*missing: No such file"),
    ):
        with pytest.raises(SettingInvalid, match=reason):
            load(*files)


def test_a_bad_file_does_not_replace_a_good_one(authority: Authority, tmp_path: Path) -> None:
    cert, key = authority.issue("swapped")
    certificates = Certificates(cert, key, authority.ca)
    before = certificates.now
    good = cert.read_bytes()
    cert.write_text("half of a fi")
    with pytest.raises(SettingInvalid):
        certificates.reload()
    assert certificates.now is before
    cert.write_bytes(good)
    certificates.reload()
    assert certificates.now is not before


def test_clients_of_the_web_check_the_name(authority: Authority) -> None:
    for context in (web_client(authority.ca), web_client(None)):
        assert context.check_hostname
        assert context.verify_mode == ssl.CERT_REQUIRED
