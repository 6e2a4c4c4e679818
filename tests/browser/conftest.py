"""A small sweep and a run that diverges, TensorBoard over them, and a browser."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bbrl_exp.commands.run import main

from .browser import Browser, programs

SWEEP = [
    "-m",
    "agent=ppo,random,ddpg",
    "seed=0,1",
    "name=sweep",
    "total_steps=2048",
    "eval.every=1024",
    "eval.episodes=2",
    "eval.final_episodes=4",
    "tracking.animation_steps=20",
    "tracking.histogram_every=1024",
]
DIVERGES = ["agent=ppo", "agent.learner.learning_rate=1e20", "name=diverges", "total_steps=2048"]
SCREENSHOTS = "BBRL_EXP_SCREENSHOTS"


@dataclass(frozen=True)
class Runs:
    """What stands below ``folder``: a sweep and a run."""

    folder: Path

    @property
    def sweep(self) -> Path:
        return self.folder / "multirun" / "sweep"

    def job(self, agent: str, seed: int) -> Path:
        return self.sweep / f"agent={agent},seed={seed}"


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("browser")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(SWEEP) == 1  # DDPG does not fit
        assert main(DIVERGES) == 3
    return Runs(folder / "outputs")


@pytest.fixture(scope="session")
def tensorboard(runs: Runs) -> Iterator[str]:
    """The address of a TensorBoard over the runs."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", runs.folder.name, "--port=0", "--host=127.0.0.1"]
    with subprocess.Popen(command, cwd=runs.folder.parent, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            yield next(found[0] for line in process.stderr if (found := re.search(r"http://127\S+", line)))
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One window for all tests; a folder named by the environment variable gets their screenshots."""
    found = programs()
    if found is None:
        pytest.skip("no browser: chromium and chromedriver are not installed (Debian: chromium, chromium-driver)")
    asked = os.environ.get(SCREENSHOTS)
    browser = Browser(*found, Path(asked).resolve() if asked else None)
    yield browser
    browser.close()
