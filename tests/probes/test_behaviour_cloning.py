"""Behaviour cloning plays as the policy that was recorded, where that one is the best there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from harness import assert_best_actions, train_probe

from bbrl_exp.agents import Agent, Agents, TemporalAgent
from bbrl_exp.data.recording import save_recording
from bbrl_exp.envs import AutoResetGymAgent
from bbrl_exp.learners.behaviour_cloning import BehaviourCloning
from bbrl_exp.policies.stochastic import StochasticPolicy
from bbrl_exp.workspace import Workspace


class Teacher(Agent):
    """Does what the cue asks for: 0 or 1, or -0.5 or 0.5."""

    def __init__(self, continuous: bool) -> None:
        super().__init__()
        self.reads, self.writes = ("env/env_obs",), ("action",)
        self._continuous = continuous

    def forward(self, t: int, **kwargs: Any) -> None:
        cue = self.get(("env/env_obs", t))[:, 0]
        self.set(("action", t), 0.5 * cue.unsqueeze(1) if self._continuous else (cue > 0).long())


@pytest.mark.parametrize(("continuous", "batch_size"), [(False, 1), (True, 2)])
def test_what_the_best_policy_did_is_done(continuous: bool, batch_size: int, tmp_path: Path) -> None:
    env_id = f"bbrl_exp/ProbeObservationAction{'Continuous' if continuous else ''}-v0"
    env, workspace, path = AutoResetGymAgent(env_id, 4), Workspace(), tmp_path / "teacher.pt"
    TemporalAgent(Agents(env, Teacher(continuous)))(workspace, t=0, n_steps=100)
    env.close()
    save_recording(path, workspace, env_id)
    trained = train_probe(
        env_id,
        lambda env_spec: StochasticPolicy(env_spec, hidden_sizes=[16], initial_log_std=-1.0),
        lambda _, policy: BehaviourCloning(policy, str(path), learning_rate=1e-2, minibatch_size=64),  # type: ignore[arg-type]
        batch_size=batch_size,
        steps_per_chunk=20,
        total_steps=2000,
    )
    assert_best_actions(trained, discount=0.9)
