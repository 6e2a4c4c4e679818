"""Remote agents in a configuration."""

from pathlib import Path

import pytest
import torch

from bbrl_exp import run

SHORT = ["agent=ppo", "batch_size=3", "agent.steps_per_chunk=32", "total_steps=192", "eval.every=96", "eval.episodes=2"]
ELSEWHERE = "agent.members.env={_target_: bbrl_exp.agents.remote.NRemoteAgent, n_processes: 2, agent: ${env.agent}}"


def test_a_run_with_its_environments_in_remote_agents_learns_and_is_evaluated_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here, elsewhere = (run([*SHORT, "eval.final_episodes=2", *more]) for more in ([], [ELSEWHERE]))
    assert elsewhere.summary.return_mean == here.summary.return_mean
    assert elsewhere.summary.evaluations == here.summary.evaluations
    states = [
        torch.load(result.folder / "checkpoints" / "last.pt", weights_only=True)["state"]["learner"]
        for result in (here, elsewhere)
    ]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(states[1][name])), name
    assert ELSEWHERE in elsewhere.summary.overrides
