"""Names of folders, and their claim."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bbrl_exp.app.folder import FolderClaim, claim_new_folder, is_complete, job_folder_name
from bbrl_exp.errors import ConfigurationError

HOLD = """
import sys, time
from pathlib import Path
from bbrl_exp.app.folder import FolderClaim
claim = FolderClaim(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
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


def test_a_claim_that_nobody_used_leaves_nothing(tmp_path: Path) -> None:
    FolderClaim(tmp_path / "a" / "b").release()
    assert list(tmp_path.iterdir()) == []


def test_new_folders_of_the_same_second_are_different(tmp_path: Path) -> None:
    one, two = claim_new_folder(tmp_path / "now"), claim_new_folder(tmp_path / "now")
    assert one.folder.name == "now"
    assert two.folder.name == "now_2"
    one.release()
    two.release()


def test_a_folder_is_complete_only_for_the_same_configuration(tmp_path: Path) -> None:
    assert not is_complete(tmp_path, "abc")
    summary = tmp_path / "summary.json"
    summary.write_text(json.dumps({"status": "completed", "config_hash": "abc"}))
    assert is_complete(tmp_path, "abc")
    with pytest.raises(ConfigurationError, match="another configuration"):
        is_complete(tmp_path, "def")
    summary.write_text(json.dumps({"status": "interrupted", "config_hash": "abc"}))
    with pytest.raises(ConfigurationError, match="not complete"):
        is_complete(tmp_path, "abc")


def test_a_folder_of_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ConfigurationError, match="files that are no run's"):
        is_complete(tmp_path, "abc")


def test_job_folders_are_named_by_what_varies() -> None:
    assert job_folder_name("agent=mlp,batch_size=8") == "agent=mlp,batch_size=8"


def test_job_folders_with_unsafe_characters_or_great_length_stay_different() -> None:
    names = {job_folder_name(text) for text in ("x=a/b", "x=a b", "x=a_b", f"x={'y' * 300}", f"x={'y' * 299}z")}
    assert len(names) == 5
    assert all("/" not in name and " " not in name and len(name) < 120 for name in names)
