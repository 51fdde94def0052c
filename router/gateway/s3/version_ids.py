"""The IDs of versions as S3 tells them. Pure."""

from __future__ import annotations

from typing import Final

from common.records import Version
from common.versions import read_version_id, version_id
from router.gateway.s3.failures import S3Error

NULL: Final = "null"
"""The ID of a version that was written while its bucket kept none."""
VERSION_ID: Final = "x-amz-version-id"
DELETE_MARKER: Final = "x-amz-delete-marker"


def read_id(text: str) -> int | None:
    """The number of the version that a request names; None for the null version.

    Raises:
        S3Error: no version can have this ID.
    """
    number = read_version_id(text)
    if number is None and text != NULL:
        raise S3Error(
            "InvalidArgument",
            "Invalid version id specified",
            ArgumentName="versionId",
            ArgumentValue=text,
        )
    return number


def id_of(version: Version) -> str:
    """The ID of a version, in a bucket that keeps versions or did."""
    return version_id(version) or NULL


def marker_headers(marker: Version) -> dict[str, str]:
    """The headers that tell of a delete marker."""
    return {DELETE_MARKER: "true", VERSION_ID: id_of(marker)}
