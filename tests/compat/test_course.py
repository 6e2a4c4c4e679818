"""The base classes of ``bbrl_utils``, where that package is not installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bbrl.agents import Agent
from bbrl.workspace import Workspace
from bbrl_utils.algorithms import EpisodicAlgo, EpochBasedAlgo, iter_episodes, iter_replay_buffers
from bbrl_utils.nn import build_mlp, build_ortho_mlp, copy_parameters, setup_optimizer, soft_update_params
from bbrl_utils.notebook import outputs_dir, setup_tensorboard, tqdm
from omegaconf import OmegaConf
from torch import nn

from bbrl_exp.errors import ConfigurationError


class Policy(Agent):
    def __init__(self, obs_size: int, n_actions: int) -> None:
        super().__init__("policy")
        self.model = build_mlp([obs_size, 16, n_actions], nn.ReLU())

    def forward(self, t: int, stochastic: bool = False, **kwargs: Any) -> None:
        scores = self.model(self.get(("env/env_obs", t)))
        self.set(("scores", t), scores)
        drawn = torch.distributions.Categorical(logits=scores).sample()
        self.set(("action", t), drawn if stochastic else scores.argmax(dim=1))


@pytest.fixture
def cfg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    outputs_dir.cache_clear()
    algorithm = {"seed": 1, "n_envs": 2, "n_steps": 6, "max_epochs": 4, "buffer_size": 100, "learning_starts": 15}
    return OmegaConf.create(
        {
            "base_dir": "lab",
            "collect_stats": True,
            "gym_env": {"env_name": "CartPole-v1"},
            "algorithm": {**algorithm, "nb_evals": 3, "eval_interval": 10},
            "optimizer": {"classname": "torch.optim.Adam", "lr": 0.01},
        }
    )


def test_a_lab_learns_from_a_replay_buffer(cfg: Any, capsys: pytest.CaptureFixture[str]) -> None:
    class Lab(EpochBasedAlgo):
        def __init__(self, cfg: Any) -> None:
            super().__init__(cfg)
            self.train_policy = Policy(*self.train_env.get_obs_and_actions_sizes())

    lab = Lab(cfg)
    optimizer = setup_optimizer(cfg.optimizer, lab.train_policy)
    sizes = []
    for buffer in iter_replay_buffers(lab):
        sizes.append(buffer.size())
        loss = buffer.get_shuffled(4)["scores"].sum() + sum(p.sum() for p in lab.train_policy.parameters())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lab.evaluate()
    assert len(sizes) == 3
    assert sizes[-1] == lab.nb_steps > 40
    assert isinstance(lab.best_policy, Policy)  # BBRL loses it where a lab has no eval_policy
    assert lab.best_reward == max(rewards.mean() for rewards in lab.eval_rewards)
    lab.save_stats()
    assert np.loadtxt("outputs/lab/stats.npy").shape == (3, len(lab.eval_rewards))
    lab.visualize_best()
    assert list(Path("outputs/lab/best_agent").iterdir())
    lab.logger.logger.close()
    setup_tensorboard("outputs")
    assert "tensorboard --logdir" in capsys.readouterr().out
    rows = (Path("outputs/tblogs/lab") / "scalars.csv").read_text().splitlines()
    assert {row.split(",")[0] for row in rows[1:]} == {f"reward/{name}" for name in ("mean", "max", "min", "median")}


def test_a_lab_learns_from_episodes_and_from_parts_of_them(cfg: Any) -> None:
    class Lab(EpisodicAlgo):
        def __init__(self, cfg: Any, **options: Any) -> None:
            super().__init__(cfg, **options)
            self.train_policy = Policy(*self.train_env.get_obs_and_actions_sizes())

    lab = Lab(cfg)
    episodes = list(iter_episodes(lab))
    assert lab.evaluate(force=True)
    lab.eval_agent(evaluated := Workspace(), t=0, n_steps=1)
    assert not set(evaluated["env/env_obs"][0, :, 0].tolist()) & {
        first for workspace in episodes for first in workspace["env/env_obs"][0, :, 0].tolist()
    }
    assert all(workspace["env/done"][-1].all() for workspace in episodes)
    assert lab.nb_steps == sum(int((~workspace["env/done"]).sum()) for workspace in episodes)
    lab.logger.logger.close()
    lab = Lab(cfg, autoreset=True)
    last = None
    for workspace in lab.iter_partial_episodes(5):
        assert workspace.time_size() == 5
        assert last is None or torch.equal(workspace["env/env_obs"][0], last)
        last = workspace["env/env_obs"][-1]
    lab.logger.logger.close()


def test_what_a_lab_has_not_set_is_named(cfg: Any) -> None:
    lab = EpochBasedAlgo(cfg)
    with pytest.raises(ConfigurationError) as caught:
        lab.evaluate(force=True)
    assert str(caught.value) == "EpochBasedAlgo: set self.train_policy before it is run"
    with pytest.raises(ConfigurationError) as caught:
        lab.visualize_best()
    assert str(caught.value) == "visualize_best: there is no best policy before the first evaluation"
    lab.logger.logger.close()


def test_networks_and_their_parameters() -> None:
    one, other = build_mlp([2, 3, 1], nn.Tanh()), build_ortho_mlp([2, 3, 1], nn.Tanh(), nn.Sigmoid())
    assert [type(layer).__name__ for layer in other] == ["Linear", "Tanh", "Linear", "Sigmoid"]
    assert torch.allclose(other[0].weight.T @ other[0].weight, 2 * torch.eye(2), atol=1e-5)
    expected = 0.1 * one[0].weight.detach() + 0.9 * other[0].weight.detach()
    soft_update_params(one, other, 0.1)
    assert torch.allclose(other[0].weight, expected)
    copy_parameters(one, other)
    assert torch.equal(other[2].weight, one[2].weight)
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = setup_optimizer({"classname": "torch.optim.SGD", "lr": 1.0}, one, parameter)
    assert len(optimizer.param_groups[0]["params"]) == 5
    assert list(tqdm(range(3), disable=True)) == [0, 1, 2]
