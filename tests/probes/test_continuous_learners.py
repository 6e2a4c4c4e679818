"""The learners of continuous actions, and discrete SAC, find true values and right actions in probe environments."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from harness import TrainedProbe, assert_best_actions, assert_true_values, train_probe
from torch import Tensor

from bbrl_exp.agents import Agent
from bbrl_exp.envs import EnvSpec
from bbrl_exp.envs.probes import probe_states
from bbrl_exp.learners.crossq import CrossQ
from bbrl_exp.learners.ddpg import DDPG
from bbrl_exp.learners.discrete_sac import DiscreteSAC
from bbrl_exp.learners.droq import DroQ
from bbrl_exp.learners.learner import Learner, Metrics, Progress
from bbrl_exp.learners.sac import SAC
from bbrl_exp.learners.td3 import TD3
from bbrl_exp.learners.tqc import TQC
from bbrl_exp.policies.deterministic import DeterministicPolicy
from bbrl_exp.policies.q_ensemble import DiscreteQEnsemble, QEnsemble
from bbrl_exp.policies.squashed import SquashedNormalPolicy
from bbrl_exp.policies.stochastic import StochasticPolicy
from bbrl_exp.workspace import Workspace

DISCOUNT = 0.5
HIDDEN = (32,)
TOTAL_STEPS = 1200  # all of them with actions at random: what is learned is off-policy
REPLAY: dict[str, Any] = {
    "discount": DISCOUNT,
    "batch_size": 128,
    "learning_starts": 64,
    "replay_capacity": 2000,
    "critic_learning_rate": 1e-2,
}
# Probe and number of environments. The other probes are special cases of these.
PROBES = (("DelayedReward", 2), ("ObservationAction", 1), ("TimeLimit", 2))
COLD: dict[str, Any] = {"initial_temperature": 1e-3, "temperature_learning_rate": None}


class Annealed(Learner):
    """A learner of which all learning rates fall linearly over the run, so that what it learns comes to rest."""

    def __init__(self, learner: Any) -> None:
        super().__init__()
        self.learner = learner
        self._groups = [*learner._policy_optimizer.param_groups, *learner._critic_optimizer.param_groups]
        self._learning_rates = [group["lr"] for group in self._groups]

    def update(self, workspace: Workspace, progress: Progress) -> Metrics:
        for group, learning_rate in zip(self._groups, self._learning_rates, strict=True):
            group["lr"] = learning_rate * (1.0 - progress.fraction)
        return self.learner.update(workspace, progress)


def deterministic(env_spec: EnvSpec) -> Agent:
    return DeterministicPolicy(env_spec, HIDDEN, activation="tanh", random_steps=TOTAL_STEPS)


def squashed(env_spec: EnvSpec) -> Agent:
    return SquashedNormalPolicy(env_spec, HIDDEN, activation="tanh", random_steps=TOTAL_STEPS)


def critic(env_spec: EnvSpec, n_critics: int = 2, **options: Any) -> QEnsemble:
    return QEnsemble(env_spec, n_critics, (32, 32), **{"activation": "tanh", "normalization": "layer", **options})


def renormalized(env_spec: EnvSpec) -> QEnsemble:
    """Critics whose statistics are believed soon: the noise of small batches bends values by percents."""
    made = critic(env_spec, normalization="batch")
    for layer in made.network.renormalizations:
        layer._rate, layer._n_warm_up = 0.05, 150
    return made


LEARNERS: dict[str, tuple[Callable[[EnvSpec], Agent], Callable[[EnvSpec, Any], Learner]]] = {
    "ddpg": (
        deterministic,
        lambda spec, policy: DDPG(policy, critic(spec, 1), policy_learning_rate=3e-3, target_rate=0.05, **REPLAY),
    ),
    "td3": (
        deterministic,
        lambda spec, policy: TD3(
            policy, critic(spec), policy_learning_rate=1e-2, target_rate=0.1, smoothing_std=0.02, **REPLAY
        ),
    ),
    "sac": (
        squashed,
        lambda spec, policy: SAC(policy, critic(spec), policy_learning_rate=3e-3, target_rate=0.05, **COLD, **REPLAY),
    ),
    "tqc": (
        squashed,
        lambda spec, policy: TQC(
            policy,
            critic(spec, n_quantiles=3),
            dropped_quantiles=0,
            policy_learning_rate=3e-3,
            target_rate=0.05,
            **COLD,
            **REPLAY,
        ),
    ),
    "droq": (
        squashed,
        lambda spec, policy: DroQ(
            policy,
            critic(spec),
            policy_delay=2,
            policy_learning_rate=3e-3,
            updates_per_step=1.0,
            target_rate=0.05,
            **COLD,
            **REPLAY,
        ),
    ),
    "crossq": (
        squashed,
        lambda spec, policy: CrossQ(
            policy,
            renormalized(spec),
            policy_delay=2,
            first_moment_decay=0.9,
            policy_learning_rate=3e-3,
            **COLD,
            **REPLAY,
        ),
    ),
}


def value_of(trained: TrainedProbe, workspace: Workspace) -> Tensor:
    """Of what the policy does in the last row, by the mean of the critics."""
    critic = trained.learner.learner.critic.eval()
    observations = [workspace["env/env_obs"][-1]]
    if isinstance(critic, DiscreteQEnsemble):
        return critic.values(observations).mean(dim=0).gather(1, workspace["action"][-1][:, None]).squeeze(1)
    return critic.values(observations, critic.bounds.to_unit(workspace["action"][-1])).mean(dim=0)


@pytest.mark.parametrize(("probe", "batch_size"), PROBES)
@pytest.mark.parametrize("name", list(LEARNERS))
def test_true_values_and_right_actions_are_learned(name: str, probe: str, batch_size: int) -> None:
    torch.manual_seed(0)
    make_policy, make_learner = LEARNERS[name]
    trained = train_probe(
        f"bbrl_exp/Probe{probe}Continuous-v0",
        make_policy,
        lambda spec, policy: Annealed(make_learner(spec, policy)),
        batch_size=batch_size,
        steps_per_chunk=4,
        total_steps=TOTAL_STEPS,
        chunks_per_recording=8,
    )
    assert_best_actions(trained, discount=DISCOUNT)
    assert_true_values(trained, lambda workspace: value_of(trained, workspace), discount=DISCOUNT)


def trained_in_two(make_learner: Callable[[EnvSpec, Any], Learner]) -> TrainedProbe:
    """In two environments in which the action matters, and what is right is shown."""
    return train_probe(
        "bbrl_exp/ProbeObservationActionContinuous-v0",
        squashed,
        lambda spec, policy: Annealed(make_learner(spec, policy)),
        batch_size=2,
        steps_per_chunk=4,
        total_steps=TOTAL_STEPS,
        chunks_per_recording=8,
    )


def test_a_learned_temperature_brings_the_entropy_to_its_target() -> None:
    warm: dict[str, Any] = {"initial_temperature": 0.1, "temperature_learning_rate": 1e-2}
    trained = trained_in_two(
        lambda spec, policy: SAC(policy, critic(spec), policy_learning_rate=3e-3, target_rate=0.05, **warm, **REPLAY)
    )
    assert_best_actions(trained, discount=DISCOUNT)
    policy: Any = trained.policy
    observations = [torch.tensor([state.observations[-1] for state in probe_states(trained.env_id, DISCOUNT)] * 5000)]
    with torch.no_grad():
        entropy = -float(policy.sample(observations, torch.randn(len(observations[0]), 1)).log_prob.mean())
    assert entropy == pytest.approx(-1.0, abs=0.1)  # minus the number of components, the default
    # Where an action a pays 1 - (a - right)², the best policy for α is normal around `right` with variance α / 2; of
    # that policy the entropy is ½ log(π e α).
    temperature = math.exp(2.0 * -1.0) / (math.pi * math.e)
    assert temperature / 1.5 < trained.metrics["learner/temperature"] < temperature * 1.5


def test_droq_finds_the_right_actions_by_critics_of_which_units_are_silent() -> None:
    trained = trained_in_two(
        lambda spec, policy: DroQ(
            policy,
            critic(spec, dropout=0.1),
            policy_delay=2,
            policy_learning_rate=3e-3,
            updates_per_step=1.0,
            target_rate=0.05,
            **COLD,
            **REPLAY,
        )
    )
    assert_best_actions(trained, discount=DISCOUNT)


@pytest.mark.parametrize(("probe", "batch_size"), PROBES)
def test_discrete_sac_learns_true_values_and_right_actions(probe: str, batch_size: int) -> None:
    trained = train_probe(
        f"bbrl_exp/Probe{probe}-v0",
        lambda spec: StochasticPolicy(spec, HIDDEN),
        lambda spec, policy: Annealed(
            DiscreteSAC(
                policy,
                DiscreteQEnsemble(spec, 2, HIDDEN, normalization="layer"),
                policy_learning_rate=3e-3,
                target_rate=0.05,
                **COLD,
                **REPLAY,
            )
        ),
        batch_size=batch_size,
        steps_per_chunk=4,
        total_steps=TOTAL_STEPS,
        chunks_per_recording=8,
    )
    assert_best_actions(trained, discount=DISCOUNT)
    assert_true_values(trained, lambda workspace: value_of(trained, workspace), discount=DISCOUNT)
