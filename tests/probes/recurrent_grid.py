"""Every memory cell with every learner that takes it, on the probe of memory: shared by tests and a benchmark."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from harness import TrainedProbe, train_probe
from torch import Tensor

from bbrl_exp.agents import Agent, Agents
from bbrl_exp.envs import EnvSpec
from bbrl_exp.learners.learner import Learner, Metrics, Progress
from bbrl_exp.learners.recurrent_a2c import RecurrentA2C
from bbrl_exp.learners.recurrent_dqn import RecurrentDQN
from bbrl_exp.learners.recurrent_ppo import RecurrentPPO
from bbrl_exp.learners.recurrent_pqn import RecurrentPQN
from bbrl_exp.learners.recurrent_sac import RecurrentSAC
from bbrl_exp.nn.gated_transformer import GTrXL
from bbrl_exp.nn.lru import LRU
from bbrl_exp.nn.min_gru import MinGRU
from bbrl_exp.nn.observation_stack import ObservationStack
from bbrl_exp.nn.recurrent import GRU, LSTM
from bbrl_exp.policies.q_recurrent import RecurrentQPolicy
from bbrl_exp.policies.q_recurrent_ensemble import RecurrentQEnsemble
from bbrl_exp.policies.recurrent import RecurrentPolicy, SharedMemoryCritic
from bbrl_exp.policies.recurrent_squashed import RecurrentSquashedPolicy
from bbrl_exp.workspace import Workspace

DISCOUNT = 0.9
CELLS: dict[str, Any] = {
    "gru": partial(GRU, n_hidden=16),
    "lstm": partial(LSTM, n_hidden=16),
    "min_gru": partial(MinGRU, n_hidden=16),
    "lru": partial(LRU, n_hidden=16),
    "stack": partial(ObservationStack, n_hidden=16),
    "gtrxl": partial(GTrXL, n_hidden=16, window=4),
}
LEARNED: dict[str, Any] = {"learning_rate": 1e-2, "anneal_learning_rate": True, "discount": DISCOUNT}

Trained = tuple[TrainedProbe, Callable[[Workspace], Tensor]]


class Annealed(Learner):
    """Recurrent SAC of which all learning rates fall linearly over the run, so that what it learns comes to rest."""

    def __init__(self, learner: RecurrentSAC) -> None:
        super().__init__()
        self.learner = learner
        self._groups = [*learner._policy_optimizer.param_groups, *learner._critic_optimizer.param_groups]
        self._learning_rates = [group["lr"] for group in self._groups]

    def update(self, workspace: Workspace, progress: Progress) -> Metrics:
        for group, learning_rate in zip(self._groups, self._learning_rates, strict=True):
            group["lr"] = learning_rate * (1.0 - progress.fraction)
        return self.learner.update(workspace, progress)


def actor_critic(cell: Any, make: Any, n_chunks: int, **options: Any) -> Trained:
    """PPO or A2C, whose critic shares the policy's memory."""
    trained = train_probe(
        "bbrl_exp/ProbeMemory-v0",
        lambda env_spec: RecurrentPolicy(env_spec, cell),
        lambda _, policy: make(policy, SharedMemoryCritic(policy), **{**LEARNED, "value_weight": 1.0, **options}),  # type: ignore[arg-type]
        batch_size=8,
        steps_per_chunk=8,
        total_steps=64 * n_chunks,
    )

    def values(workspace: Workspace) -> Tensor:
        policy: Any = trained.policy
        rows, starts = policy.memory.read(workspace), workspace["env/initial_state"]
        state = workspace["policy/state"][0]
        return trained.learner.critic.values(policy.latent(rows, state, starts), rows, state, starts)[-1]  # type: ignore[no-any-return, union-attr, operator]

    return trained, values


def q_learning(cell: Any, make: Any, total_steps: int, chunks_per_recording: int, **options: Any) -> Trained:
    """DQN or PQN. Without an n-step return or a trace, values are those of the best policy, whatever is explored."""
    trained = train_probe(
        "bbrl_exp/ProbeMemory-v0",
        lambda env_spec: RecurrentQPolicy(env_spec, cell),
        lambda _, policy: make(policy, **{**LEARNED, "final_epsilon": 0.3, **options}),
        batch_size=8,
        steps_per_chunk=8,
        chunks_per_recording=chunks_per_recording,
        total_steps=total_steps,
    )

    def values(workspace: Workspace) -> Tensor:
        network: Any = trained.policy.network
        rows, starts = network.memory.read(workspace), workspace["env/initial_state"]
        return network.values(rows, workspace["policy/state"][0], starts)[-1].amax(dim=1)  # type: ignore[no-any-return]

    return trained, values


def soft_actor_critic(cell: Any) -> Trained:
    """SAC, with actions at random all the time: what is learned is off-policy."""

    def make_agents(env_spec: EnvSpec) -> Agent:
        policy = RecurrentSquashedPolicy(env_spec, cell, head_sizes=(16,), random_steps=10_000)
        return Agents(policy, RecurrentQEnsemble(env_spec, 1, cell, head_sizes=(32,)))

    def make_learner(_: EnvSpec, agents: Any) -> Learner:
        learner = RecurrentSAC(
            *agents,
            discount=DISCOUNT,
            burn_in=0,
            sequence_length=4,
            batch_size=32,
            learning_starts=64,
            updates_per_step=0.25,
            replay_capacity=8000,
            policy_learning_rate=1e-2,
            critic_learning_rate=1e-2,
            target_rate=0.1,
            initial_temperature=1e-3,
            temperature_learning_rate=None,
        )
        return Annealed(learner)

    trained = train_probe(
        "bbrl_exp/ProbeMemoryContinuous-v0",
        make_agents,
        make_learner,
        batch_size=8,
        steps_per_chunk=4,
        chunks_per_recording=8,
        total_steps=3200,
    )

    def values(workspace: Workspace) -> Tensor:
        _, critic = trained.policy  # type: ignore[misc, has-type]
        rows, starts = critic.memory.read(workspace), workspace["env/initial_state"]
        latent = critic.latent(rows, workspace["critic/state"][0], starts)[-1]
        return critic.values(latent, critic.bounds.to_unit(workspace["action"][-1])).mean(dim=0)  # type: ignore[no-any-return]

    return trained, values


LEARNERS: dict[str, Callable[[Any], Trained]] = {
    "ppo": lambda cell: actor_critic(cell, RecurrentPPO, 100, n_epochs=4, n_minibatches=2, normalize_advantages=False),
    "a2c": lambda cell: actor_critic(cell, RecurrentA2C, 250, learning_rate=2e-2),
    "dqn": lambda cell: q_learning(
        cell,
        RecurrentDQN,
        3200,
        8,
        burn_in=0,
        sequence_length=4,
        batch_size=32,
        learning_starts=64,
        updates_per_step=0.2,
        target_rate=0.1,
    ),
    "pqn": lambda cell: q_learning(cell, RecurrentPQN, 6400, 1, n_minibatches=2, trace_decay=0.0),
    "sac": soft_actor_critic,
}
# GTrXL is for learners on policy; its states are too large to replay.
REFUSED = (("gtrxl", "dqn"), ("gtrxl", "sac"))
PAIRS = [(cell, learner) for cell in CELLS for learner in LEARNERS if (cell, learner) not in REFUSED]
