"""The learning benchmark: one list of starts for everybody, and tables made of records alone."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from bbrl_exp.envs.gym_agents import NoAutoResetGymAgent
from bbrl_exp.workspace import Workspace

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("learning_records")


class Recorder:
    """A policy that keeps what it is shown and always does 0."""

    def __init__(self) -> None:
        self.shown: list[np.ndarray] = []

    def get_vec_normalize_env(self) -> None:
        return None

    def predict(
        self, observations: np.ndarray, state: None, is_start: np.ndarray, deterministic: bool
    ) -> tuple[np.ndarray, None]:
        assert deterministic
        self.shown.append(observations.copy())
        return np.zeros(len(observations), np.int64), None


@pytest.mark.parametrize("role", ["eval", "final_eval"])
def test_the_peer_is_evaluated_from_the_starts_of_this_project(role: str, records: ModuleType) -> None:
    learning_peer = importlib.import_module("learning_peer")
    evaluation, policy, workspace = learning_peer.Evaluation("cartpole", role, 3), Recorder(), Workspace()
    returns = [evaluation.returns(policy) for _ in range(2)]
    with torch.inference_mode():
        env = NoAutoResetGymAgent("CartPole-v1", 3, seed=records.EVALUATION_SEED, role=role)
        env(workspace, t=0)
    np.testing.assert_array_equal(policy.shown[0], workspace["env/env_obs"][0].numpy())
    assert returns[0] == returns[1]
    assert max(returns[0]) == len(policy.shown) / 2


def test_the_environment_of_a_pair_is_the_longest_that_its_name_ends_with(records: ModuleType) -> None:
    assert records.env_of("recurrent_ppo_masked_cartpole") == "masked_cartpole"
    assert records.env_of("double_dqn_cartpole") == "cartpole"
    with pytest.raises(ValueError, match="ppo_chess"):
        records.env_of("ppo_chess")


def test_the_last_record_of_a_run_counts(tmp_path: Path, records: ModuleType) -> None:
    for final in (1.0, 2.0):
        records.append_record(records.Record("ppo_cartpole", "x", "1", 0, 100, [(50, 7.0)], [final], 3.0), tmp_path)
    read = records.read_records(tmp_path)
    assert {key: record.final for key, record in read.items()} == {("ppo_cartpole", "x", 0): 2.0}


def test_a_row_of_the_table_shows_every_seed(records: ModuleType) -> None:
    learning_table = importlib.import_module("learning_table")
    curves = ([(1000, 100.0), (2000, 480.0)], [(1000, 20.0), (2000, 40.0)])
    row = learning_table.row(
        [
            records.Record("ppo_cartpole", "x", "1", seed, 2000, curve, [final, final + 2], 10.0 * (1 + seed))
            for seed, (curve, final) in enumerate(zip(curves, (499.0, 9.0), strict=True))
        ]
    )
    assert row == "| ppo cartpole | x 1 | 2,000 | 2 | 255.0 [10.0, 500.0] | 500, 10 | 160 ± 184 | 475 | 2k, – | 15 |"
