from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from common.clock import ManualClock
from common.errors import DataDirectoryInUse, SettingInvalid, StorageError
from putter.storage.datadir import open_data_directory

HOLDER = """
import sys
from pathlib import Path
from putter.storage.datadir import open_data_directory
open_data_directory(Path(sys.argv[1]), "tree")
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_new_directory_gets_an_identity_once(tmp_path: Path) -> None:
    path = tmp_path / "some" / "where"
    source = random.Random(1)
    directory = open_data_directory(
        path, "tree", random_bytes=source.randbytes, clock=ManualClock(123_456)
    )
    expected = random.Random(1).randbytes(6).hex()
    assert directory.identity == expected
    assert json.loads((path / "node.json").read_text()) == {
        "format": 1,
        "layout": "tree",
        "identity": expected,
        "created_ms": 123_456,
    }
    directory.close()
    again = open_data_directory(path, "tree", random_bytes=source.randbytes)
    assert again.node == directory.node
    again.close()
    again.close()


def test_another_process_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(DataDirectoryInUse, match=f"process {holder.pid}") as caught:
            open_data_directory(tmp_path, "tree")
        assert "--data-dir" in caught.value.hint
        holder.kill()
    open_data_directory(tmp_path, "tree").close()


def test_the_same_process_is_refused_too(tmp_path: Path) -> None:
    directory = open_data_directory(tmp_path, "tree")
    with pytest.raises(DataDirectoryInUse, match=str(os.getpid())):
        open_data_directory(tmp_path, "tree")
    directory.close()
    open_data_directory(tmp_path, "tree").close()


def test_another_layout_is_refused(tmp_path: Path) -> None:
    open_data_directory(tmp_path, "segments").close()
    with pytest.raises(SettingInvalid, match="'segments', not 'tree'") as caught:
        open_data_directory(tmp_path, "tree")
    assert "--storage segments" in caught.value.hint
    open_data_directory(tmp_path, "segments").close()


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    open_data_directory(tmp_path, "tree").close()
    node = json.loads((tmp_path / "node.json").read_text())
    (tmp_path / "node.json").write_text(json.dumps({**node, "format": 3}))
    with pytest.raises(StorageError, match="format 3"):
        open_data_directory(tmp_path, "tree")


@pytest.mark.parametrize("text", ["", "{}", "no json", '{"format": "1"}'])
def test_a_damaged_description_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "node.json").write_text(text)
    with pytest.raises(StorageError, match="damaged"):
        open_data_directory(tmp_path, "tree")
    assert (tmp_path / "node.json").read_text() == text


def test_data_without_a_description_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "tickets").mkdir()
    with pytest.raises(StorageError, match="holds tickets but no"):
        open_data_directory(tmp_path, "tree")


def test_files_of_others_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "cluster.key").write_text("secret")
    (tmp_path / "node.json.new").write_text("torn")
    open_data_directory(tmp_path, "tree").close()
    assert (tmp_path / "cluster.key").read_text() == "secret"


def test_a_file_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="data directory"):
        open_data_directory(tmp_path / "file", "tree")
    (tmp_path / "lock").mkdir()
    with pytest.raises(StorageError, match="lock"):
        open_data_directory(tmp_path, "tree")
