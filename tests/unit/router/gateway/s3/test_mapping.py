"""Every error of the store has a code of S3, and stays the fault of whom it was."""

from __future__ import annotations

import pytest

from common import errors
from common.errors import PutterError
from router.gateway.s3.failures import S3Error
from router.gateway.s3.mapping import mapped


def kinds(base: type[PutterError]) -> list[type[PutterError]]:
    found = [kind for child in base.__subclasses__() for kind in kinds(child)]
    return [base, *(kind for kind in found if kind.__module__ == errors.__name__)]


@pytest.mark.parametrize("kind", kinds(PutterError), ids=lambda kind: kind.__name__)
def test_whose_fault_it_is_stays_the_same(kind: type[PutterError]) -> None:
    error = mapped(kind("what happened"))
    ours = kind.http >= 500 or kind in (errors.ObjectGone, errors.NotAuthorised)
    assert (error.status >= 500) == ours, error.code


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (errors.TooManyConnections("x"), "SlowDown", 503),
        (errors.MetadataUnavailable("x"), "ServiceUnavailable", 503),
        (errors.ObjectGone("x"), "ServiceUnavailable", 503),
        (errors.NoSpace("x"), "ServiceUnavailable", 507),
        (errors.WriteConflict("x"), "ConditionalRequestConflict", 409),
        (errors.IdleTimeout("x"), "RequestTimeout", 400),
        (errors.IntegrityError("x"), "InternalError", 500),
        (S3Error("NoSuchBucket"), "NoSuchBucket", 404),
    ],
)
def test_codes(error: PutterError | S3Error, code: str, status: int) -> None:
    told = mapped(error)
    assert (told.code, told.status) == (code, status)


def test_what_went_wrong_inside_is_not_told() -> None:
    assert "secret" not in mapped(errors.StorageError("/secret/path")).message
