"""The rules of the house that no linter knows: directions, sizes, documents, limits."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common import limits
from common.settings import FIELDS, flag_of, variable_of
from tests.architecture.test_cli_document import commands

ROOT = Path(__file__).parents[2]
PACKAGES = ("common", "putter", "router")
LINES_MAX = 450

MODULES = sorted(
    path.relative_to(ROOT).as_posix()
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
)
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md"))
)


def text_of(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def tree_of(module: str) -> ast.Module:
    return ast.parse(text_of(module), module)


# -- modules -------------------------------------------------------------------------------


def test_imports_only_point_down() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    kept = re.findall(r"^(.*) KEPT$", done.stdout, re.MULTILINE)
    assert {"router never imports putter", "one package imports redis"} <= set(kept)
    assert len(kept) >= 5


def test_every_module_has_a_docstring() -> None:
    assert len(MODULES) > 80
    assert [module for module in MODULES if not ast.get_docstring(tree_of(module))] == []


def test_no_module_is_too_long() -> None:
    lines = {module: len(text_of(module).splitlines()) for module in MODULES}
    assert {module: count for module, count in lines.items() if count > LINES_MAX} == {}


def test_nothing_is_printed_but_by_the_command_line() -> None:
    prints = [
        f"{module}:{node.lineno}"
        for module in MODULES
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"print", "breakpoint"}
    ]
    assert prints == []
    shell = [module for module in MODULES if "typer.echo" in text_of(module)]
    assert [module for module in shell if not module.startswith("putter/cli/")] == []


# -- limits --------------------------------------------------------------------------------


def relations() -> Iterator[ast.expr]:
    """What ``common.limits`` asserts."""
    for node in tree_of("common/limits.py").body:
        if isinstance(node, ast.Assert):
            yield node.test


@pytest.mark.parametrize("relation", [*relations()], ids=ast.unparse)
def test_a_relation_between_limits_holds(relation: ast.expr) -> None:
    names = {node.id for node in ast.walk(relation) if isinstance(node, ast.Name)}
    assert names <= set(vars(limits))
    assert len(names) >= 2, "a relation is between two limits"
    expression = ast.Expression(relation)
    assert eval(compile(expression, "limits", "eval"), vars(limits))


def test_limits_are_asserted_not_hoped_for() -> None:
    asserted = {
        node.id
        for relation in relations()
        for node in ast.walk(relation)
        if isinstance(node, ast.Name)
    }
    assert {
        "RUN_BYTES_TARGET",
        "MESSAGE_PAYLOAD_BYTES_MAX",
        "CONNECTION_PENDING_BYTES_MAX",
        "NODE_PENDING_BYTES_MAX",
        "LINK_WINDOW_BYTES",
        "MEMBER_LOST_MS",
        "OBJECT_LEASE_MS",
        "JANITOR_LEASE_MS",
    } <= asserted


@pytest.mark.parametrize(
    ("name", "value"),
    [("RAW_DATA_BYTES", 1458), ("RAW_FRAME_BYTES", 1474), ("ACK_BYTES", 9)],
)
def test_what_the_wire_promises(name: str, value: int) -> None:
    assert getattr(limits, name) == value


def test_a_limit_that_has_a_unit_says_it() -> None:
    public = {name for name in vars(limits) if name.isupper()} - {"KIB", "MIB", "GIB"}
    bare = sorted(
        name
        for name in public
        if not re.search(
            r"_(BYTES|MS|US|S|CHARS|PER_S|PERCENT)(_(MIN|MAX|TARGET|DEFAULT))?$|_MAX$", name
        )
    )
    assert bare == ["CEILING_STEPS", "OBJECT_LEASE", "TICKET_LEASE"], "these count things"


# -- documents -----------------------------------------------------------------------------


def test_documents_name_every_command() -> None:
    told = "\n".join(text_of(page) for page in PAGES)
    assert [name for name in commands() if not re.search(rf"\bputter {name}\b", told)] == []


@pytest.mark.parametrize("field", FIELDS)
def test_documents_name_every_setting(field: str) -> None:
    page = text_of("docs/reference/settings.md")
    assert f"`{flag_of(field)}`" in page
    assert f"`{variable_of(field)}`" in page


def shell_commands() -> Iterator[tuple[str, list[str]]]:
    """The calls of ``putter`` in the blocks of sh: the page, and the words behind it."""
    for page in PAGES:
        for block in re.findall(r"^```sh\n(.*?)^```$", text_of(page), re.MULTILINE | re.DOTALL):
            script = block.replace("\\\n", " ")
            # Not a word to search for, and not a container of that name in which python runs.
            for call in re.findall(r"(?<![\"\w])putter (?!python)([a-z][^)|;&<>#\n]*)", script):
                yield page, call.split()


def test_documents_show_only_commands_and_flags_that_there_are() -> None:
    known: dict[str, Any] = commands()
    groups = {name.split()[0] for name in known if " " in name}
    calls = list(shell_commands())
    assert len(calls) > 20
    wrong = []
    for page, words in calls:
        name = " ".join(words[:2]) if words[0] in groups else words[0]
        if name not in known:
            wrong.append(f"{page}: putter {' '.join(words)}")
            continue
        params = known[name].params
        flags = {flag for each in params for flag in (*each.opts, *each.secondary_opts)}
        flags |= {"--help", "-h"}
        used = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        wrong += [f"{page}: putter {name} {flag}" for flag in used - flags]
    assert wrong == []


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_lead_somewhere(page: str) -> None:
    text = re.sub(r"^```.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\(([^)#\s]+)(?:#[\w-]+)?\)", text)
    ours = [link for link in links if "://" not in link]
    assert [link for link in ours if not ((ROOT / page).parent / link).exists()] == []


# -- make ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        *("install", "run", "test", "check", "bench", "clean"),
        *("cluster", "attach", "cluster-status", "cluster-stop", "compose", "compose-stop"),
    ],
)
def test_make_has_the_targets(target: str) -> None:
    makefile = text_of("Makefile")
    assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile.replace("\\\n", ""), re.MULTILINE)
    assert target in phony.split()


def test_make_runs_only_programs_of_its_own_environment() -> None:
    recipes = re.findall(r"^\t@?(.*)$", text_of("Makefile"), re.MULTILINE)
    calls = [line for line in recipes if re.match(r"(python|pip|pytest|ruff|mypy)\b", line)]
    assert calls == []


def test_the_long_run_has_every_test_that_can_be_long() -> None:
    (recipe,) = re.findall(r"^soak:.*\n((?:\t.*\n)+)", text_of("Makefile"), re.MULTILINE)
    long = {
        path.relative_to(ROOT).parts[1]
        for path in (ROOT / "tests").glob("*/*.py")
        if re.search(r"\bSOAK\b|PUTTER_SOAK", path.read_text("utf-8"))
    } - {Path(__file__).parent.name}
    assert {"fault", "integration", "simulation"} <= long
    assert {name for name in long if f"tests/{name}" not in recipe} == set()
