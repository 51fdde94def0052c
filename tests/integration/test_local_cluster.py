"""`putter cluster`: real processes under one supervisor, and other terminals beside it."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from putter.client import Store
from tests.cluster_kit import LocalCluster, local_cluster
from tests.store_kit import ROOT, digest, eventually
from tests.traffic_kit import payload

pytestmark = pytest.mark.slow
CHILDREN = ["valkey", "putter0", "putter1", "putter2", "router0", "router1"]
STOP_S = 60.0
LOOPBACK = "0100007F"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """One that nobody stops."""
    with local_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


def stored(cluster: LocalCluster, seed: str, router: int = 0) -> tuple[str, bytes]:
    """Name and bytes of something that was acknowledged."""
    data = payload(300_000, seed)
    answer = cluster.send(data, router)
    assert (answer.ok, answer.size, answer.digest) == (True, len(data), digest(data)), answer.line
    return f"objects/{answer.object_id}", data


def place_of(text: str, *needles: str) -> list[int]:
    """Where each of these stands for the last time."""
    assert all(needle in text for needle in needles), (needles, text[-3000:])
    return [text.rindex(needle) for needle in needles]


# -- one that runs -----------------------------------------------------------------------------


def test_what_goes_in_through_one_router_comes_out_through_the_other(
    cluster: LocalCluster,
) -> None:
    for router in (0, 1):
        name, data = stored(cluster, f"through {router}", router)
        assert cluster.read(name, 1 - router) == data


def test_status_tells_of_all(cluster: LocalCluster) -> None:
    told = cluster.status()
    assert (told["phase"], told["pid"]) == ("running", cluster.process.pid)
    assert (told["replicas"], told["write_quorum"]) == (2, 2)
    assert [child["name"] for child in told["children"]] == CHILDREN
    assert {child["state"] for child in told["children"]} == {"running"}
    pids = {child["pid"] for child in told["children"]}
    assert pids | {cluster.process.pid} == set(cluster.pids())
    for child in told["children"]:
        assert child["memory_bytes"] > 0
        assert (child["inflight_bytes"] is None) == (child["kind"] == "valkey")
    table = cluster.run("status").stdout.splitlines()
    assert [line.split()[0] for line in table] == ["cluster:", "process", *CHILDREN]


def test_nothing_listens_but_on_the_loopback_address(cluster: LocalCluster) -> None:
    ports = {port for child in cluster.status()["children"] for port in child["ports"].values()}
    assert len(ports) == 2 * 4 + 3 * 2
    listening = set()
    for pid in cluster.pids():
        inodes = set()
        for handle in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                inodes.update(re.findall(r"^socket:\[(\d+)\]$", str(handle.readlink())))
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[9] in inodes and fields[3] == "0A":
                    address, _, port = fields[1].rpartition(":")
                    listening.add((address, int(port, 16)))
    assert listening == {(LOOPBACK, port) for port in ports}


def test_the_welcome_names_ports_that_work(cluster: LocalCluster) -> None:
    (ingest,) = re.findall(
        r"^  store a file   nc -N 127.0.0.1 (\d+) < FILE$", cluster.text, re.MULTILINE
    )
    assert int(ingest) == cluster.child("router0")["ports"]["ingest_port"]
    (web,) = re.findall(r"curl http://127.0.0.1:(\d+)/file/objects/<ObjectID>", cluster.text)
    assert int(web) == cluster.child("router1")["ports"]["web_port"]


def test_the_first_access_key_is_shown_once_and_works(cluster: LocalCluster) -> None:
    told = re.findall(r"(access|secret) key +(\S+)$", cluster.text, re.MULTILINE)
    assert [word for word, _ in told] == ["access", "secret"]
    (_, name), (_, secret) = told
    web = cluster.status()["children"][-1]["ports"]["web_port"]
    with Store(f"http://127.0.0.1:{web}", access_key=name, secret_key=secret) as store:
        assert [each.access_key_id for each in store.keys.every()] == [name]
    for log in cluster.data.rglob("*.log"):
        assert secret.encode() not in log.read_bytes()


def test_each_line_has_its_name_and_no_colour_in_a_file(cluster: LocalCluster) -> None:
    assert re.search(r"^putter2 \| .* putter listens ", cluster.text, re.MULTILINE)
    assert re.search(r"^valkey  \| .* Ready to accept connections", cluster.text, re.MULTILINE)
    assert "\x1b" not in cluster.text
    assert " putter listens " in cluster.log("putter2")
    assert "putter2 |" not in cluster.log("putter2")


def test_a_putter_that_is_killed_is_started_again(cluster: LocalCluster) -> None:
    name, data = stored(cluster, "before the kill")
    before = cluster.child("putter1")
    os.kill(before["pid"], signal.SIGKILL)
    after = cluster.wait_child("putter1", "running", other_than=before["pid"])
    assert after["restarts"] == before["restarts"] + 1
    assert after["ended"] == "killed by signal 9"
    assert after["ports"] == before["ports"]
    assert re.search(
        r"^cluster \| .*a child died: starting it again .*child=putter1", cluster.text, re.MULTILINE
    )
    assert cluster.read(name, 1) == data
    name, data = stored(cluster, "after the kill")
    assert cluster.read(name, 1) == data


def test_a_view_follows_one_process_and_leaves_it_alone(cluster: LocalCluster) -> None:
    out = cluster.home / "view"
    pid = cluster.child("router0")["pid"]
    with out.open("wb") as file:
        view = subprocess.Popen(
            cluster.argv("attach", "router0", "-n", "0"),
            cwd=cluster.home,
            env=cluster.environment | {"PYTHONUNBUFFERED": "1"},
            stdout=file,
            stderr=file,
        )
    try:
        eventually(lambda: "== router0  running" in out.read_text())
        assert f"pid {pid}" in out.read_text()
        mark = cluster.log("router0")
        os.kill(cluster.child("putter2")["pid"], signal.SIGKILL)
        eventually(lambda: cluster.log("router0") != mark)
        line = cluster.log("router0")[len(mark) :].splitlines()[0]
        eventually(lambda: line in out.read_text())
    finally:
        view.send_signal(signal.SIGINT)
        code = view.wait(STOP_S)
    assert code == 0, out.read_text()
    assert out.read_text().endswith("router0 goes on\n")
    cluster.wait_child("putter2", "running")
    assert cluster.child("router0")["pid"] == pid


def test_a_view_on_a_terminal_has_the_state_on_top(cluster: LocalCluster) -> None:
    ours, theirs = pty.openpty()
    view = subprocess.Popen(
        cluster.argv("attach", "0"),
        cwd=cluster.home,
        env=cluster.environment | {"TERM": "xterm", "COLUMNS": "100", "LINES": "20"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen, asked = b"", False
    with contextlib.suppress(OSError):  # the other end was closed
        while data := os.read(ours, 65_536):
            seen += data
            if b"putter listens" in seen and not asked:
                asked = True
                view.send_signal(signal.SIGINT)
    assert view.wait(STOP_S) == 0, seen
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen.decode(errors="replace"))
    head, listens = place_of(text, "putter0  running", "putter listens")
    assert head < listens
    assert b"\x1b[?1049h" in seen, "a screen of its own"
    assert b"\x1b[?1049l" in seen, "which it gives back"
    assert text.rstrip().endswith("putter0 goes on")


def test_who_is_meant_must_be_there(cluster: LocalCluster) -> None:
    done = cluster.run("attach", "7")
    assert done.returncode == 2
    assert "there is no 'putter7' in this cluster" in done.stderr
    assert "valkey, putter0" in done.stderr


def test_a_second_start_says_who_holds_the_directory(cluster: LocalCluster) -> None:
    done = cluster.run("start", "--router-base", "0", "--putter-base", "0")
    assert done.returncode == 1
    assert f"(process {cluster.process.pid})" in done.stderr
    assert "putter cluster stop" in done.stderr
    assert cluster.child("putter0")["state"] == "running"


def test_a_port_that_is_taken_is_named_before_anything_starts(cluster: LocalCluster) -> None:
    taken = cluster.child("putter0")["ports"]["putter_port"]
    done = cluster.run(
        "start", "--data-dir", "b", "--router-base", "0", "--putter-base", f"{taken}"
    )
    assert done.returncode == 2
    assert f"taken: {taken} (putter0, frames in)" in done.stderr
    assert "--putter-base" in done.stderr
    assert done.stdout == ""
    assert not (cluster.home / "b" / "cluster.json").exists()


# -- beginnings and ends -----------------------------------------------------------------------


def test_stop_ends_all_in_order_and_what_was_stored_is_there_again(tmp_path: Path) -> None:
    with local_cluster(tmp_path, "--putters", "2", "--storage", "tree") as cluster:
        name, data = stored(cluster, "kept")
        done = cluster.run("stop")
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        told = done.stdout.splitlines()
        assert told[0] == (f"stopping the cluster on cluster-data (process {cluster.process.pid})")
        ended = [line.split()[0] for line in told[1:-1]]
        assert sorted(ended) == ["putter0", "putter1", "router0", "router1", "valkey"]
        assert told[-1] == "all have ended"
        assert cluster.process.wait(STOP_S) == 0
        assert cluster.pids() == {}
        routers, putters, valkey = place_of(
            cluster.text, "router stopped", "putter stopped", "Received SIGTERM"
        )
        assert routers < putters < valkey
        assert not (cluster.data / "cluster.json").exists()
        assert cluster.run("status").returncode == 4
        assert cluster.run("stop").stdout == "no cluster runs on cluster-data\n"
        cluster.start()
        assert cluster.read(name, 1) == data
        assert (cluster.data / "putter0" / "putter").is_dir()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_during_the_start_ends_it_in_order(tmp_path: Path, number: int) -> None:
    cluster = LocalCluster(tmp_path, "--putters", "1", "--routers", "1")
    try:
        cluster.process.start()
        eventually(lambda: "Ready to accept connections" in cluster.text)
        cluster.process.signal(number)
        assert cluster.process.wait(STOP_S) == 0, cluster.text
        assert cluster.pids() == {}
        assert "Traceback" not in cluster.text
        assert "The cluster is ready" not in cluster.text
    finally:
        cluster.end()


def test_nothing_outlives_a_supervisor_that_was_killed(tmp_path: Path) -> None:
    with local_cluster(tmp_path, "--putters", "2") as cluster:
        name, data = stored(cluster, "before the supervisor died")
        stopped = cluster.child("putter1")["pid"]
        os.kill(stopped, signal.SIGSTOP)  # it does not hear that it should end
        cluster.process.kill()
        eventually(lambda: set(cluster.pids()) <= {stopped})
        assert cluster.run("status").returncode == 4
        done = cluster.run("stop")
        assert (done.returncode, done.stdout) == (0, "no cluster runs on cluster-data\n")
        assert cluster.pids() == {}, "it was woken up"
        cluster.start()
        assert cluster.read(name, 1) == data


def test_what_dies_again_and_again_is_given_up_and_the_others_go_on(tmp_path: Path) -> None:
    with local_cluster(tmp_path, "--putters", "3") as cluster:
        broken = cluster.data / "putter2" / "putter"
        pid = cluster.child("putter2")["pid"]
        os.kill(pid, signal.SIGSTOP)
        broken.rename(tmp_path / "away")
        broken.write_text("no directory")
        os.kill(pid, signal.SIGKILL)
        gone = cluster.wait_child("putter2", "given up")
        assert gone["pid"] is None
        assert re.search(
            r"^cluster \| .*a child is given up.*child=putter2 deaths=8", cluster.text, re.MULTILINE
        )
        name, data = stored(cluster, "without it")
        assert cluster.read(name, 1) == data
        assert cluster.run("stop").returncode == 0
        assert cluster.pids() == {}


def test_a_child_that_cannot_start_ends_all_with_its_name(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path, "--putters", "1", "--routers", "1")
    (cluster.data / "putter0").mkdir(parents=True)
    (cluster.data / "putter0" / "putter").write_text("no directory")
    try:
        cluster.process.start()
        assert cluster.process.wait(STOP_S) != 0
        assert "error: putter0 ended at its start: exit code" in cluster.text
        assert re.search(r"^putter0 \| error: ", cluster.text, re.MULTILINE)
        assert cluster.pids() == {}
    finally:
        cluster.end()


def test_one_putter_makes_a_store_too(tmp_path: Path) -> None:
    with local_cluster(tmp_path, "--putters", "1", "--routers", "1") as cluster:
        assert (cluster.status()["replicas"], cluster.status()["write_quorum"]) == (1, 1)
        name, data = stored(cluster, "alone")
        assert cluster.read(name, 0) == data


def test_make_runs_these_commands() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target, words in {
        "cluster": "start --putters $(N) $(ARGS)",
        "attach": "attach $(NODE) $(ARGS)",
        "cluster-status": "status $(ARGS)",
        "cluster-stop": "stop $(ARGS)",
    }.items():
        (recipe,) = re.findall(rf"^{target}: install\n\t(.*)$", makefile, re.MULTILINE)
        assert recipe == f"@$(BIN)/python -m putter cluster {words}"
