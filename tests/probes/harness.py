"""Trains a policy and its learner in a probe environment, and holds what they learned against the truth.

trained = train_probe(
    "bbrl_exp/ProbeAction-v0",
    lambda env_spec: StochasticPolicy(env_spec),
    lambda env_spec, policy: PPO(policy, ValueCritic(env_spec), discount=0.9),
    batch_size=2, steps_per_chunk=16, total_steps=4000,
)
assert_best_actions(trained, discount=0.9)
assert_true_values(trained, lambda workspace: critic_values(workspace), discount=0.9)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bbrl_exp.agents import Agent, Agents, TemporalAgent
from bbrl_exp.envs import AutoResetGymAgent, EnvSpec
from bbrl_exp.envs.probes import ProbeState, probe_states
from bbrl_exp.learners.learner import Learner, Progress
from bbrl_exp.training.loop import collect
from bbrl_exp.workspace import Workspace


@dataclass(frozen=True, eq=False)
class TrainedProbe:
    """What came out of a training.

    Attributes:
        env_id: the probe.
        env_spec: its facts.
        policy: the policy that was trained.
        learner: what trained it.
        metrics: of the last update that had any.
    """

    env_id: str
    env_spec: EnvSpec
    policy: Agent
    learner: Learner
    metrics: dict[str, float]


def train_probe(
    env_id: str,
    make_policy: Callable[[EnvSpec], Agent],
    make_learner: Callable[[EnvSpec, Agent], Learner],
    *,
    batch_size: int,
    steps_per_chunk: int,
    total_steps: int,
    chunks_per_recording: int = 1,
    seed: int = 0,
) -> TrainedProbe:
    """Runs the loop of a real run: environments, policy, and the learner's update after every chunk.

    Args:
        env_id: id of a probe.
        make_policy: from the facts of the environment to whatever writes the action (``Agents`` of several, too).
        make_learner: from the facts and that agent to the learner.
        batch_size: number B of environments.
        steps_per_chunk: time steps between two updates.
        total_steps: environment steps.
        chunks_per_recording: chunks after which the recording is cut, more than 1 as for learners with a replay buffer.
        seed: root seed of the environments.
    """
    env = AutoResetGymAgent(env_id, batch_size, seed)
    policy = make_policy(env.env_spec)
    learner = make_learner(env.env_spec, policy)
    workspace, metrics = Workspace(), {}
    chunks = collect(
        TemporalAgent(Agents(env, policy)),
        workspace,
        total_steps=total_steps,
        batch_size=batch_size,
        steps_per_chunk=steps_per_chunk,
        chunks_per_recording=chunks_per_recording,
    )
    for chunk in chunks:
        found = learner.update(workspace, Progress(chunk.first_row, chunk.env_steps, total_steps, chunk.new_steps))
        metrics = {name: float(value) for name, value in found.items()} or metrics
        wrong = [name for name, value in metrics.items() if not math.isfinite(value)]
        assert not wrong, f"{wrong} not finite after {chunk.env_steps} steps"
    env.close()
    return TrainedProbe(env_id, env.env_spec, policy, learner, metrics)


def shown(trained: TrainedProbe, state: ProbeState) -> Workspace:
    """An episode up to ``state``, in all B environments alike, with what the policy writes when it is evaluated.

    The state is that of the last row.
    """
    workspace, batch_size = Workspace(), trained.env_spec.batch_size
    nothing, no = torch.zeros(batch_size), torch.zeros(batch_size, dtype=torch.bool)
    was_training = trained.policy.training
    trained.policy.train(False)
    try:
        with torch.no_grad():
            for t, observation in enumerate(state.observations):
                workspace.set("env/env_obs", t, torch.tensor([observation] * batch_size))
                for name in ("env/reward", "env/cumulated_reward"):
                    workspace.set(name, t, nothing)
                for name in ("env/terminated", "env/truncated", "env/done"):
                    workspace.set(name, t, no)
                workspace.set("env/initial_state", t, no | (t == 0))
                workspace.set("env/timestep", t, torch.full((batch_size,), t))
                trained.policy(workspace, t=t)
    finally:
        trained.policy.train(was_training)
    return workspace


def assert_best_actions(trained: TrainedProbe, *, discount: float, tolerance: float = 0.1) -> None:
    """Checks the evaluated policy in every state where the action matters; ``tolerance`` is for continuous ones."""
    exact = trained.env_spec.actions[0].kind == "discrete"
    for state in probe_states(trained.env_id, discount):
        if state.best_action is None:
            continue
        for action in shown(trained, state).get("action", len(state.observations) - 1).flatten().tolist():
            assert abs(action - state.best_action) <= (0 if exact else tolerance), (
                f"{trained.env_id} {state.observations}: action {action}, the best one is {state.best_action}"
            )


def assert_true_values(
    trained: TrainedProbe, values: Callable[[Workspace], Tensor], *, discount: float, tolerance: float = 0.01
) -> None:
    """Checks the value of every state, with ``tolerance`` as a part of the true one.

    Args:
        trained: whose values.
        values: from a workspace of :func:`shown` to the values of its last row, ``[B]``.
        discount: γ that it was trained with.
        tolerance: largest error allowed.
    """
    for state in probe_states(trained.env_id, discount):
        with torch.no_grad():
            found = values(shown(trained, state)).tolist()
        assert len(found) == trained.env_spec.batch_size
        for value in found:
            assert abs(value - state.value) <= tolerance * abs(state.value), (
                f"{trained.env_id} {state.observations}: value {value:.4f}, the true one is {state.value:.4f}"
            )
