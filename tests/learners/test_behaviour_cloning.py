"""Behaviour cloning learns what a recording shows, and nothing else."""

from __future__ import annotations

import io
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from chunks import env_spec_of, recorded_chunk

from bbrl_exp.agents import Agent
from bbrl_exp.data.recording import load_recording, save_recording
from bbrl_exp.data.transitions import align
from bbrl_exp.envs import EnvSpec
from bbrl_exp.envs.spec import LeafSpec
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.learners.behaviour_cloning import BehaviourCloning
from bbrl_exp.learners.learner import Progress
from bbrl_exp.policies.stochastic import StochasticPolicy
from bbrl_exp.workspace import Workspace


class KnownPolicy(Agent):
    """Pushes the cart to the side to which the pole falls; or, for a pendulum, -0.5, 0.25 of two observations."""

    def __init__(self, continuous: bool = False) -> None:
        super().__init__()
        self.reads, self.writes = ("env/env_obs",), ("action",)
        self._continuous = continuous

    def forward(self, t: int) -> None:  # type: ignore[override]
        seen = self.get(("env/env_obs", t))
        if self._continuous:
            self.set(("action", t), (0.25 * seen[:, 1] - 0.5 * seen[:, 0]).unsqueeze(1))
        else:
            self.set(("action", t), (seen[:, 2] + seen[:, 3] > 0).long())


def recording_of(env_id: str, path: Path, continuous: bool = False, n_steps: int = 300) -> EnvSpec:
    save_recording(path, recorded_chunk(env_id, 4, n_steps, KnownPolicy(continuous)), env_id)
    return env_spec_of(env_id, 4)


def trained(learner: BehaviourCloning, n_updates: int) -> dict[str, float]:
    found = learner.update(Workspace(), Progress(0, 10 * n_updates, 10 * n_updates, 10 * n_updates))
    return {name: float(value) for name, value in found.items()}


def test_a_known_policy_is_cloned(tmp_path: Path) -> None:
    facts = recording_of("CartPole-v1", tmp_path / "teacher.pt", n_steps=800)
    policy = StochasticPolicy(facts, hidden_sizes=[16])
    learner = BehaviourCloning(policy, str(tmp_path / "teacher.pt"), learning_rate=1e-2)
    metrics = trained(learner, 500)
    fresh = align(recorded_chunk("CartPole-v1", 4, 100, KnownPolicy(), seed=1), ("env/env_obs",), ("action",)).flat()
    agreement = (policy.distribution(fresh.observations).mode()[0] == fresh.actions[0]).float().mean()
    assert agreement > 0.9
    assert metrics["losses/validation"] < 0.5 * math.log(2)
    assert metrics["learner/updates"] == 500


def test_continuous_actions_are_cloned(tmp_path: Path) -> None:
    facts = recording_of("Pendulum-v1", tmp_path / "teacher.pt", continuous=True)
    policy = StochasticPolicy(facts, hidden_sizes=[32], initial_log_std=-1.0)
    trained(BehaviourCloning(policy, str(tmp_path / "teacher.pt"), learning_rate=3e-3), 800)
    fresh = align(
        recorded_chunk("Pendulum-v1", 4, 100, KnownPolicy(True), seed=1), ("env/env_obs",), ("action",)
    ).flat()
    error = (policy.distribution(fresh.observations).mode()[0] - fresh.actions[0]).abs().mean()
    assert error < 0.05


def test_the_loss_is_the_mean_negative_log_likelihood(tmp_path: Path) -> None:
    facts = recording_of("CartPole-v1", tmp_path / "teacher.pt", n_steps=20)
    policy = StochasticPolicy(facts)
    learner = BehaviourCloning(policy, str(tmp_path / "teacher.pt"))
    seen, chosen = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 1, 0, 1])
    probabilities = policy.network(seen).softmax(dim=1)[torch.arange(5), chosen]
    torch.testing.assert_close(learner.loss([seen, chosen]), -probabilities.log().mean())


def test_the_validation_loss_is_that_of_what_is_held_out_and_the_loss_that_of_the_rest(tmp_path: Path) -> None:
    facts = recording_of("CartPole-v1", tmp_path / "teacher.pt", n_steps=20)
    policy = StochasticPolicy(facts)
    torch.nn.init.normal_(policy.network.layers[-1].weight)
    learner = BehaviourCloning(
        policy, str(tmp_path / "teacher.pt"), minibatch_size=1000, updates_per_step=1.0, held_out=0.25
    )

    @torch.no_grad()
    def losses() -> tuple[float, float]:
        return float(learner.loss(learner._pairs)), float(learner.loss(learner._held_out))

    before, before_of_held_out = losses()
    metrics = learner.update(Workspace(), Progress(0, 1, 100, 1))
    after, after_of_held_out = losses()
    assert before != pytest.approx(before_of_held_out, rel=1e-3)
    assert after != pytest.approx(after_of_held_out, rel=1e-3)
    assert float(metrics["losses/policy"]) == pytest.approx(before, rel=1e-5)
    assert float(metrics["losses/validation"]) == pytest.approx(after_of_held_out, rel=1e-5)


def test_resets_are_no_pairs_and_every_other_pair_is_learned_or_held_out(tmp_path: Path) -> None:
    facts = recording_of("CartPole-v1", tmp_path / "teacher.pt")
    recording = load_recording(tmp_path / "teacher.pt")
    learner = BehaviourCloning(StochasticPolicy(facts), str(tmp_path / "teacher.pt"), held_out=0.25)
    known = align(recording, ("env/env_obs",), ("action",)).flat().observations[0]
    assert len(known) == int((~recording["env/done"][:-1]).sum())
    shared = torch.cat((learner._pairs[0], learner._held_out[0]))
    assert len(learner._held_out[0]) == round(0.25 * len(known))
    assert torch.equal(shared.sort(dim=0).values, known.sort(dim=0).values)


@pytest.mark.parametrize("cuts", [[1000], [130, 1000], [*range(7, 1000, 7), 1000]])
def test_the_pace_does_not_depend_on_chunks(tmp_path: Path, cuts: list[int]) -> None:
    facts = recording_of("CartPole-v1", tmp_path / "teacher.pt", n_steps=50)
    learner = BehaviourCloning(StochasticPolicy(facts), str(tmp_path / "teacher.pt"), updates_per_step=0.03)
    news = [steps - before for before, steps in itertools.pairwise([0, *cuts])]
    found = [learner.update(Workspace(), Progress(0, steps, 1000, new)) for steps, new in zip(cuts, news, strict=True)]
    assert [metrics["learner/updates"] for metrics in found if metrics][-1] == 30
    straight = BehaviourCloning(StochasticPolicy(facts), str(tmp_path / "teacher.pt"), updates_per_step=0.03)
    straight.update(Workspace(), Progress(0, 1000, 1000, 1000))
    for one, other in zip(learner.parameters(), straight.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_restored_learner_goes_on_as_before(tmp_path: Path) -> None:
    facts = recording_of("CartPole-v1", tmp_path / "teacher.pt")
    learners = [BehaviourCloning(StochasticPolicy(facts), str(tmp_path / "teacher.pt")) for _ in range(2)]
    learners[0].update(Workspace(), Progress(0, 170, 1000, 170))
    file = io.BytesIO()
    torch.save(learners[0].state_dict(), file)
    file.seek(0)
    learners[1].load_state_dict(torch.load(file, weights_only=True))
    for learner in learners:
        learner.update(Workspace(), Progress(0, 400, 1000, 230))
    for one, other in zip(*(learner.parameters() for learner in learners), strict=True):
        assert torch.equal(one, other)


def test_what_cannot_be_learned_from_is_refused(tmp_path: Path) -> None:
    facts = recording_of("CartPole-v1", tmp_path / "teacher.pt", n_steps=20)
    policy, teacher = StochasticPolicy(facts), str(tmp_path / "teacher.pt")
    with pytest.raises(ConfigurationError, match=r"recording=null: a file is needed; bbrl-exp record"):
        BehaviourCloning(policy)
    with pytest.raises(ConfigurationError, match="there is no such file"):
        BehaviourCloning(policy, str(tmp_path / "nothing.pt"))
    (tmp_path / "text.pt").write_text("nonsense")
    with pytest.raises(ConfigurationError, match="no recording that bbrl-exp record"):
        BehaviourCloning(policy, str(tmp_path / "text.pt"))
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(ConfigurationError, match="no recording of format 1"):
        BehaviourCloning(policy, str(tmp_path / "other.pt"))
    with pytest.raises(ConfigurationError, match="normalized/env/env_obs"):
        BehaviourCloning(StochasticPolicy(facts, observation_prefix="normalized/"), teacher)
    other_env = env_spec_of("Acrobot-v1", 4)
    with pytest.raises(ConfigurationError, match="of CartPole-v1, and the environment is Acrobot-v1"):
        BehaviourCloning(StochasticPolicy(other_env), teacher, env_spec=other_env)
    wide = LeafSpec("env/env_obs", "box", (6,), "float32", low=np.full(6, -1.0), high=np.full(6, 1.0))
    with pytest.raises(ConfigurationError, match="does not fit the policy"):
        BehaviourCloning(StochasticPolicy(EnvSpec("Toy", 4, (wide,), facts.actions)), teacher)
    two = LeafSpec("action", "multi_discrete", (2,), "int64", counts=np.array([2, 2]), start=np.array([0, 0]))
    with pytest.raises(ConfigurationError, match="does not fit the policy"):
        BehaviourCloning(StochasticPolicy(EnvSpec("Toy", 4, facts.observations, (two,))), teacher)
    for name, value in (("minibatch_size", 0), ("updates_per_step", 0.0), ("held_out", 1.0), ("held_out", 0.999)):
        with pytest.raises(ConfigurationError, match=f"{name}="):
            BehaviourCloning(policy, teacher, **{name: value})  # type: ignore[arg-type]
