"""Names of folders, and their claim."""

import contextlib
import errno
import os
import platform
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.records.claim import FolderClaim, FolderInUseError, claim_new_folder
from bbrl_exp.records.layout import check_sweep_folder, job_folder_name

HOLD = """
import sys, time
from pathlib import Path
from bbrl_exp.records.claim import FolderClaim
claim = FolderClaim(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""

CLAIM = """
import os, sys, time
from pathlib import Path
from bbrl_exp.records.claim import claim_new_folder
print("ready", flush=True)
while not os.path.exists(sys.argv[2]):
    time.sleep(0.001)
claim = claim_new_folder(Path(sys.argv[1]))
(claim.folder / "mine").touch()
print(claim.folder)
"""


def test_a_folder_held_by_another_process_is_refused_and_taken_over_when_it_dies(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "x")], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ConfigurationError, match=f"in use by process {holder.pid}"):
            FolderClaim(tmp_path / "x")
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    FolderClaim(tmp_path / "x").release()


def test_a_claim_removes_the_unfinished_files_of_a_holder_that_was_killed(tmp_path: Path) -> None:
    replace = "import os, pathlib; pathlib.Path.replace = lambda *_: os.kill(os.getpid(), 9)"
    for name in ("summary.json", "provenance.json", "sweep.json", "search.json", "notes.json"):
        write = f"from bbrl_exp.records.files import write_json; write_json(pathlib.Path({name!r}), 1)"
        assert subprocess.run([sys.executable, "-c", f"{replace}\n{write}"], cwd=tmp_path).returncode == -9
    replay = tmp_path / "checkpoints" / "replay"
    replay.mkdir(parents=True)
    kept = {"best.pt", "replay_0_9.pt", "replay_0_9.pt.sha256"}
    for name in kept:
        (replay / name).write_bytes(b"")
    for name in ("best.pt", "best.pt.sha256", "step_9.pt", "replay/replay_0_9.pt", "replay/replay_0_9.pt.sha256"):
        write = f"from bbrl_exp.records.files import replace_file; replace_file(pathlib.Path({name!r}), b'1')"
        killed = subprocess.run([sys.executable, "-c", f"{replace}\n{write}"], cwd=replay.parent)
        assert killed.returncode == -9
    assert len(list(tmp_path.rglob("*.part"))) == 10
    with FolderClaim(tmp_path):
        assert {path.name for path in replay.parent.rglob("*") if path.is_file()} == kept
        left = sorted(path.name.rpartition(".json")[0] for path in tmp_path.glob("*.part"))
    assert left == [".notes"]


def test_a_claim_that_nobody_used_leaves_nothing(tmp_path: Path) -> None:
    FolderClaim(tmp_path / "a" / "b").release()
    assert list(tmp_path.iterdir()) == []


def test_new_folders_of_the_same_second_are_different(tmp_path: Path) -> None:
    one, two = claim_new_folder(tmp_path / "now"), claim_new_folder(tmp_path / "now")
    assert one.folder.name == "now"
    assert two.folder.name == "now_2"
    one.release()
    two.release()


def test_processes_that_start_in_the_same_instant_have_folders_of_their_own(tmp_path: Path) -> None:
    wanted = tmp_path / "outputs" / "now"
    processes = [
        subprocess.Popen([sys.executable, "-c", CLAIM, str(wanted), str(tmp_path / "go")], stdout=subprocess.PIPE)
        for _ in range(8)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    (tmp_path / "go").touch()
    printed = [process.communicate(timeout=120)[0].decode().strip() for process in processes]
    assert sorted(printed) == sorted(str(path) for path in wanted.parent.iterdir())
    assert len(set(printed)) == 8


def test_a_name_is_taken_by_whatever_stands_there(tmp_path: Path) -> None:
    (tmp_path / "now").mkdir()
    (tmp_path / "now_2").touch()
    with claim_new_folder(tmp_path / "now") as claim:
        assert claim.folder.name == "now_3"


def test_claims_that_come_and_go_do_not_disturb_each_other(tmp_path: Path) -> None:
    def come_and_go(_: int) -> int:
        held = 0
        for _ in range(200):
            with contextlib.suppress(FolderInUseError), FolderClaim(tmp_path / "a" / "b"):
                held += 1
        return held

    with ThreadPoolExecutor(4) as pool:
        held = list(pool.map(come_and_go, range(4)))
    assert sum(held) > 0
    assert list(tmp_path.rglob(".lock")) == []


def test_a_message_names_the_host_of_the_holder_and_since_when(tmp_path: Path) -> None:
    with FolderClaim(tmp_path / "x"), pytest.raises(FolderInUseError) as caught:
        FolderClaim(tmp_path / "x")
    match = re.search(r"in use by process (\d+) on (.+) since (\S+)$", str(caught.value))
    assert match is not None
    assert (int(match[1]), match[2]) == (os.getpid(), platform.node())
    assert datetime.fromisoformat(match[3]).tzinfo is not None


def test_a_file_in_the_place_of_the_folder_or_above_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("thesis")
    with pytest.raises(ConfigurationError, match=r"x cannot be used: it is a file$"):
        FolderClaim(tmp_path / "x")
    for claim in (FolderClaim, claim_new_folder):
        with pytest.raises(ConfigurationError, match=r"x/y cannot be used: Not a directory$"):
            claim(tmp_path / "x" / "y")
    assert (tmp_path / "x").read_text() == "thesis"


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EACCES, errno.ENOLCK])
@pytest.mark.parametrize("call", ["os.mkdir", "os.open", "os.pwrite", "fcntl.flock"])
def test_a_disk_that_refuses_is_named_in_one_line(
    call: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(call, refuse)
        for claim in (FolderClaim, claim_new_folder):
            with pytest.raises(ConfigurationError, match=rf"x cannot be used: {os.strerror(number)}$"):
                claim(tmp_path / claim.__name__ / "x")
    assert call == "fcntl.flock" or list(tmp_path.iterdir()) == []


def test_a_folder_of_other_files_is_no_sweeps(tmp_path: Path) -> None:
    check_sweep_folder(tmp_path / "new")
    check_sweep_folder(tmp_path)
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ConfigurationError, match="other files than those of a sweep"):
        check_sweep_folder(tmp_path)
    (tmp_path / "multirun.yaml").touch()
    check_sweep_folder(tmp_path)


def test_job_folders_are_named_by_what_varies() -> None:
    assert job_folder_name("agent=mlp,batch_size=8") == "agent=mlp,batch_size=8"


def test_job_folders_with_unsafe_characters_or_great_length_stay_different() -> None:
    names = {job_folder_name(text) for text in ("x=a/b", "x=a b", "x=a_b", f"x={'y' * 300}", f"x={'y' * 299}z")}
    assert len(names) == 5
    assert all("/" not in name and " " not in name and len(name) < 120 for name in names)
