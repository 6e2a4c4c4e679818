"""What learners of a policy and critics of its actions share: optimizers, targets, and what a critic may be."""

from __future__ import annotations

import copy
import functools
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, fields
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar, cast

import torch
from torch import Tensor, nn

from bbrl_exp.agents.agent import Agent
from bbrl_exp.arguments import AboveZero, AboveZeroToOne, BuiltLater, Scheduled
from bbrl_exp.compilation.compiler import Compiler, NotCompilableError
from bbrl_exp.data.batch import Batch
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.functional.targets import copy_buffers, polyak_update
from bbrl_exp.learners.compiled.batches import part_of, tensors_of
from bbrl_exp.learners.compiled.updates import CompiledUpdates
from bbrl_exp.learners.learner import Learner, Progress
from bbrl_exp.learners.parts.descent import descend
from bbrl_exp.learners.parts.options import MakeOptimizer, adam, optimizer_of, set_learning_rate
from bbrl_exp.learners.parts.replayed import Drawn, Replayed, ReplayedBatches, ReplayOptions
from bbrl_exp.learners.parts.with_options import WithOptions
from bbrl_exp.policies.deterministic import DeterministicPolicy
from bbrl_exp.policies.observation import check_same_observations, own_networks
from bbrl_exp.policies.q_ensemble import DiscreteQEnsemble, QEnsemble
from bbrl_exp.policies.squashed import SquashedNormalPolicy
from bbrl_exp.policies.stochastic import StochasticPolicy
from bbrl_exp.workspace import Workspace

TwoOptimizers = Annotated[
    MakeOptimizer, BuiltLater("optimizer", ("params", "lr"), ("policy_learning_rate", "critic_learning_rate"))
]


class ReplayedActorCritic(ReplayOptions, Learner, Generic[Drawn]):
    """A policy and its critics that learn from a replay buffer, with an optimizer each."""

    policy_learning_rate: Scheduled[AboveZero] = 3e-4
    """of the policy's optimizer."""
    critic_learning_rate: Scheduled[AboveZero] = 3e-4
    """of the critics' optimizer."""
    optimizer: TwoOptimizers | None = None
    """node of a ``torch.optim.Optimizer``, one for the policy and one for the critics; None for Adam."""

    # Updates of the critics per update of the policy: an option of algorithms that have more than one.
    policy_delay = 1

    def prepare_updates(
        self, policy: Agent, critic: Agent, replayed: Replayed[Drawn], first_moment_decay: float = 0.9
    ) -> None:
        """Takes the replay buffer, and makes the optimizers of :meth:`improve_critic` and :meth:`improve_policy`."""
        self.reads = self.reads_with(policy)
        self._replayed = replayed
        self._policy_parameters = [each for each in policy.parameters() if each.requires_grad]
        make = self.optimizer or functools.partial(adam(), betas=(first_moment_decay, 0.999))
        self._policy_optimizer = optimizer_of(self.groups_of(policy), self.policy_learning_rate, make)
        self._critic_optimizer = optimizer_of(self.groups_of(critic), self.critic_learning_rate, make)
        self.policy_objective: Tensor
        self.keep_metric("policy_objective")

    def groups_of(self, agent: Agent) -> list[Any]:
        """The parameters of the policy or of the critics, as an optimizer takes them."""
        return [each for each in agent.parameters() if each.requires_grad]

    def keep_metric(self, name: str) -> None:
        """Makes a buffer for a metric of the policy: where there can be a delay it outlives a chunk, and a session."""
        can_delay = any(option.name == "policy_delay" for option in fields(self))
        self.register_buffer(name, torch.zeros(()), persistent=can_delay)

    def awaits(self) -> str | None:
        return self.first_update(self._replayed.n_updates)

    @abstractmethod
    def improve(self, batch: Drawn, moves_policy: bool) -> list[Tensor]:
        """One update, of the policy too or of the critics alone; gives what its metrics are made of, detached."""

    # Dotted names of what may change from one compiled update to the next one.
    compiled_numbers: ClassVar[tuple[str, ...]] = ()

    def compile_updates(self, compiler: Compiler, steps_per_chunk: int, batch_size: int) -> None:
        if not isinstance(self._replayed, ReplayedBatches):
            raise NotCompilableError(f"{type(self).__name__} has a memory, and no compiled update")
        due = self.updates_per_step
        self.compiled = CompiledUpdates(self, compiler, self.compiled_numbers, per_env_step=due)

    def improvements(self, workspace: Workspace, progress: Progress) -> Iterator[tuple[bool, list[Tensor]]]:
        """The updates that are due: whether each moves the policy, and what :meth:`improve` gives."""
        for batch in self._replayed.take(workspace, progress):
            moves_policy = self._replayed.n_updates % self.policy_delay == 0
            if self.compiled is not None and isinstance(batch, Batch):
                try:
                    yield moves_policy, self._improve_compiled(self.compiled, batch, moves_policy)
                    continue
                except NotCompilableError as reason:
                    self.give_up_compiling(reason)
            yield moves_policy, self.improve(batch, moves_policy)

    def _improve_compiled(self, compiled: CompiledUpdates, batch: Batch, moves_policy: bool) -> list[Tensor]:
        size, given = len(batch.rewards), tensors_of(batch)

        def body(index: int, stand_ins: Sequence[Tensor]) -> list[Tensor]:
            return self.improve(cast(Drawn, part_of(batch, stand_ins, index, size)), moves_policy)

        with compiled.drawing(moves_policy, 1, *self.generators()):
            drawn = self.draws(batch, moves_policy)
            outputs = compiled(
                moves_policy, 1, body, [*given, *drawn], lambda stand_ins: self.with_draws(stand_ins[len(given) :])
            )
        return list(outputs)

    def generators(self) -> list[torch.Generator]:
        """Where the random numbers of an update come from."""
        return []

    def draws(self, batch: Batch, moves_policy: bool) -> list[Tensor]:
        """All random numbers of an update."""
        return []

    def with_draws(self, drawn: Sequence[Tensor]) -> Mapping[str, Any]:
        """Attributes by dotted names that make an update take its random numbers from those of :meth:`draws`."""
        return {}

    def follow_schedules(self, env_steps: int, total_steps: int) -> None:
        super().follow_schedules(env_steps, total_steps)
        set_learning_rate(self._policy_optimizer, self.policy_learning_rate)
        set_learning_rate(self._critic_optimizer, self.critic_learning_rate)

    def improve_critic(self, loss: Tensor) -> None:
        """One step of the critics down their loss."""
        descend(self._critic_optimizer, loss)

    def improve_policy(self, loss: Tensor) -> None:
        """One step of the policy down its loss, which may depend on the critics; they have no gradient of it."""
        descend(self._policy_optimizer, loss, self._policy_parameters)


M = TypeVar("M", bound=nn.Module)
CriticOption = Literal["dropout", "batch normalisation", "quantiles"]


class TargetOptions(WithOptions):
    """Slow copies, by which the future is valued."""

    target_rate: Scheduled[AboveZeroToOne] = 0.005
    """τ, by which the targets move towards what they follow."""
    _targets: list[Tensor] = field(init=False, default_factory=list)
    _sources: list[Tensor] = field(init=False, default_factory=list)
    _networks: list[tuple[nn.Module, nn.Module]] = field(init=False, default_factory=list)

    def target_of(self, network: M) -> M:
        """A copy of ``network`` that learns nothing, and moves with :meth:`follow`."""
        target = copy.deepcopy(network).requires_grad_(False)
        self._targets += target.parameters()
        self._sources += network.parameters()
        self._networks += zip(own_networks(target), own_networks(network), strict=True)
        return target

    def follow(self) -> None:
        """Moves all targets by τ."""
        polyak_update(self._targets, self._sources, self.target_rate)
        copy_buffers(self._networks)


def check_q_critic(
    learner: nn.Module,
    policy: DeterministicPolicy | SquashedNormalPolicy | StochasticPolicy,
    critic: QEnsemble | DiscreteQEnsemble,
    uses: CriticOption | None = None,
) -> None:
    """Refuses a critic that sees other variables than the policy, or has an option that is another learner's.

    Args:
        learner: who learns from it, for messages.
        policy: whose observations and actions are learned from.
        critic: the critic.
        uses: the option that only this learner can use.

    Raises:
        ConfigurationError: the variables differ, or an option would have no effect or a wrong one.
    """
    check_same_observations(policy.features, critic.features)
    name, network = type(learner).__name__, critic.network
    if network.dropout and uses != "dropout":
        raise ConfigurationError(
            f"critic.dropout={network.dropout}: has no effect with {name}, only with DroQ; must be 0"
        )
    if network.renormalizations and uses != "batch normalisation":
        raise ConfigurationError(
            f"critic.normalization='batch': {name} learns no statistics, only CrossQ does; must be 'none' or 'layer'"
        )
    if isinstance(critic, QEnsemble) and critic.n_quantiles != 1 and uses != "quantiles":
        raise ConfigurationError(
            f"critic.n_quantiles={critic.n_quantiles}: {name} learns means, only TQC learns quantiles; must be 1"
        )
