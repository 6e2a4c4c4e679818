"""The five minutes of docs/start.md: an agent that balances the pole, its film, the files of its dashboard, changes."""

import os
import shutil
from pathlib import Path

from pages import ROOT, Page, lines_of, run, summary
from PIL import Image
from test_commands import run_short

PAGE = Page.read("start.md")
INSTALL, TRAIN, FILM, DASHBOARD, CHANGE, COMPARE = PAGE.commands
ENOUGH = ("stop_when.at_least=495", "eval.every=2_500", "eval.final_episodes=5")


def test_a_newcomer_trains_films_looks_changes_and_compares(tmp_path: Path) -> None:
    assert "pip install" in INSTALL  # as .ci/run does
    assert DASHBOARD == "tensorboard --logdir outputs\n"  # as tests/browser do
    run(tmp_path, TRAIN, *ENOUGH)
    assert summary(tmp_path, "first")["eval_return_mean"] > 450
    assert list((tmp_path / "outputs" / "first").glob("events.out.tfevents.*"))
    assert "\nanimation first.gif\n" in run(tmp_path, FILM).stdout
    with Image.open(tmp_path / "first.gif") as film:
        assert film.n_frames > 100  # type: ignore[attr-defined]
    if pictures := os.environ.get("BBRL_EXP_SCREENSHOTS"):
        shutil.copy(tmp_path / "first.gif", ROOT / pictures / "cartpole.gif")
    for line in lines_of(CHANGE):
        run_short(tmp_path, line)
    assert run(tmp_path, COMPARE).stdout.endswith("report: outputs/compared/index.html\n")
