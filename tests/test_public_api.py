"""``import bbrl_exp`` offers what DESIGN promises, and loads it when it is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import bbrl_exp
from bbrl_exp import ConfigurationError, load_runs, sweep

NAMES = {
    *("Workspace", "Agent", "Agents", "TemporalAgent", "AutoResetGymAgent", "NoAutoResetGymAgent"),
    *("EnvironmentAgent", "EnvSpec", "LeafSpec", "Learner", "Progress", "ReplayBuffer", "align", "run", "sweep"),
    *("build_graph", "load_policy", "evaluate", "load_runs", "BbrlExpError", "ConfigurationError"),
}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_public_name_is_there_and_stated(name: str) -> None:
    assert name in bbrl_exp.__all__
    assert getattr(bbrl_exp, name).__name__ == name


def test_nothing_is_loaded_before_it_is_used() -> None:
    code = "import sys, bbrl_exp; print({'torch', 'numpy', 'gymnasium', 'hydra'} & sys.modules.keys())"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


def test_a_sweep_gives_its_table_and_its_runs_can_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = sweep(["agent=random", "seed=1,2", "total_steps=64", "batch_size=2", "tracking=none", "name=mine"])
    assert (result.folder, result.exit_code) == (tmp_path / "outputs" / "multirun" / "mine", 0)
    assert [(row.overrides, row.status) for row in result.rows] == [("seed=1", "completed"), ("seed=2", "completed")]
    found = load_runs("outputs")
    assert [(run.seed, run.env_id, run.numbers["batch_size"]) for run in found] == [
        (1, "CartPole-v1", 2.0),
        (2, "CartPole-v1", 2.0),
    ]
    with pytest.raises(ConfigurationError, match="'dry_run' = true: must be false where the result of a sweep"):
        sweep(["seed=1,2", "dry_run=true"])
    with pytest.raises(ConfigurationError, match="describes a search"):
        sweep(["agent=ppo", "search=ppo"])
    with pytest.raises(ConfigurationError, match="'nowhere': no such folder"):
        load_runs("nowhere")
