"""A run listens on no network, and writes nothing outside its folder."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "run.py"
RUN = ["agent=reinforce", "name=x", "total_steps=600", "batch_size=2"]
RUN += ["eval.every=200", "eval.episodes=2", "eval.final_episodes=2"]
PROCESSES = ["env.workers=2", "eval.workers=1"]


def sockets_of(process: psutil.Process) -> list[str]:
    """The sockets of a process and its children that are no pair between themselves."""
    found = []
    for each in (process, *process.children(recursive=True)):
        try:
            found += [str(connection) for connection in each.net_connections("inet")]
            found += [str(connection) for connection in each.net_connections("unix") if connection.laddr]
        except psutil.NoSuchProcess:
            continue
    return found


@pytest.mark.parametrize("processes", [[], PROCESSES], ids=["alone", "with workers"])
def test_a_run_listens_nowhere_and_writes_in_its_folder_only(processes: list[str], tmp_path: Path) -> None:
    places = {name: tmp_path / name for name in ("home", "temporary", "here", "cache")}
    for place in places.values():
        place.mkdir()
    environment = {
        **os.environ,
        "HOME": str(places["home"]),
        "TMPDIR": str(places["temporary"]),
        "XDG_CACHE_HOME": str(places["cache"]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    running = subprocess.Popen(
        [sys.executable, str(SCRIPT), *RUN, *processes],
        cwd=places["here"],
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    process = psutil.Process(running.pid)
    n_processes, sockets = 1, []
    before: set[int] = set()
    try:
        while running.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):  # some go while they are looked at
                children = {child.pid for child in process.children(recursive=True) if child.name() != "git"}
                n_processes = max(n_processes, 1 + len(children & before))  # git has another name before it begins
                before = children
                sockets += sockets_of(process)
            time.sleep(0.1)
    finally:
        running.kill()
    assert running.wait() == 0
    assert sockets == []
    assert n_processes == (4 if processes else 1)
    assert [path.name for path in places["here"].iterdir()] == ["outputs"]
    assert [path.name for path in (places["here"] / "outputs").iterdir()] == ["x"]
    for name in ("home", "temporary", "cache"):
        # Importing torch's compiler makes a folder for its cache, which stays empty.
        assert [path for path in places[name].rglob("*") if path.is_file()] == []
