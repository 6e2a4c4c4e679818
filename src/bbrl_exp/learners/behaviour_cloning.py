"""Behaviour cloning (Pomerleau, 1991, Neural Computation 3): supervised learning of what another policy did.

With the pairs (s, a) of a recording D, the policy maximises its likelihood of the actions,

    minimise  −E_{(s, a) ~ D} [log π(a|s)],

in minibatches drawn without replacement. A part of the recording is held out, and shows when the policy begins to learn
by heart.

Deviations from the paper: the likelihood takes the place of the squared error of output units that code the action; no
observations are made up by shifting what was seen; the recording is there from the beginning, all of it. The
environment's own steps teach nothing: they are there to be evaluated on, and they set the pace.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from bbrl_exp.arguments import AboveZeroToAMillion, Count, FromZeroBelowOne
from bbrl_exp.data.recording import load_recording
from bbrl_exp.data.transitions import align, minibatches
from bbrl_exp.envs.spec import EnvSpec
from bbrl_exp.errors import ConfigurationError, WorkspaceError
from bbrl_exp.learners.learner import Learner, Metrics, Progress
from bbrl_exp.learners.parts.descent import descend
from bbrl_exp.learners.parts.options import RateOptions, adam, set_learning_rate
from bbrl_exp.policies.stochastic import StochasticPolicy
from bbrl_exp.seeding import numpy_generator
from bbrl_exp.workspace import Workspace


class BehaviourCloning(RateOptions, Learner):
    """Makes a policy do what a recording shows.

    Raises:
        ConfigurationError: a value out of its range, no recording, or one that does not fit the policy.
    """

    not_saved = ("_pairs", "_held_out", "_waiting")
    policy: StochasticPolicy = field(kw_only=False)
    """the policy that learns."""
    recording: str | None = field(default=None, kw_only=False)
    """file that ``bbrl-exp record`` wrote, with the variables that the policy reads and writes."""
    minibatch_size: Count = 256
    """pairs of a gradient step."""
    updates_per_step: AboveZeroToAMillion = 0.1
    """gradient steps for each environment step; fractions accumulate."""
    held_out: FromZeroBelowOne = 0.1
    """the part of the recording that is only looked at, 0 to below 1."""
    seed: int = 0
    """root seed of what is held out and of the order of the pairs."""
    env_spec: EnvSpec | None = None
    """facts of the environment, from whose like the recording must be; None for any."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.recording is None:
            raise ConfigurationError("recording=null: a file is needed; bbrl-exp record makes one from a run's folder")
        self.reads = self.policy.reads
        self._generator = numpy_generator(self.seed, "learner", "behaviour_cloning")
        pairs = _load_pairs(self.recording, self.policy, None if self.env_spec is None else self.env_spec.env_id)
        n_pairs = len(pairs[0])
        order = torch.from_numpy(self._generator.permutation(n_pairs))
        n_held_out = round(self.held_out * n_pairs)
        if n_held_out == n_pairs:
            raise ConfigurationError(f"held_out={self.held_out}: nothing is left to learn from {n_pairs} pairs")
        self._held_out = [leaf[order[:n_held_out]] for leaf in pairs]
        self._pairs = [leaf[order[n_held_out:]] for leaf in pairs]
        self._waiting: list[Tensor] = []
        self._n_updates = 0
        self._optimizer = self.optimizer_of(self.policy.parameters(), adam())

    def awaits(self) -> str | None:
        return None if self._n_updates else f"more environment steps (updates_per_step={self.updates_per_step})"

    def update(self, workspace: Workspace, progress: Progress) -> Metrics:
        n_due = int(progress.env_steps * self.updates_per_step)
        if n_due <= self._n_updates:
            return {}
        losses = []
        set_learning_rate(self._optimizer, self.learning_rate)
        while self._n_updates < n_due:
            indexes = self._next_indexes()
            loss = self.loss([leaf.index_select(0, indexes) for leaf in self._pairs])
            descend(self._optimizer, loss)
            self._n_updates += 1
            losses.append(loss.detach())
        metrics: dict[str, float | Tensor] = {"losses/policy": torch.stack(losses).mean()}
        metrics["learner/updates"] = float(self._n_updates)
        if len(self._held_out[0]):
            with torch.no_grad():
                metrics["losses/validation"] = self.loss(self._held_out)
        return metrics

    def loss(self, pairs: list[Tensor]) -> Tensor:
        """−log π(a|s), the mean over N pairs.

        Args:
            pairs: one tensor ``[N, *shape]`` per leaf of the observation, then one per leaf of the action.
        """
        n_observed = len(self.policy.features.names)
        return -self.policy.distribution(pairs[:n_observed]).log_prob(pairs[n_observed:]).mean()

    def get_extra_state(self) -> dict[str, Any]:
        """The state of the attributes, and the parts that are left of this epoch."""
        return {**super().get_extra_state(), "waiting": self._waiting}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Takes over what :meth:`get_extra_state` gave."""
        own = dict(state)
        self._waiting = list(own.pop("waiting"))
        super().set_extra_state(own)

    def _next_indexes(self) -> Tensor:
        if not self._waiting:
            self._waiting = list(minibatches(len(self._pairs[0]), self.minibatch_size, self._generator))
        return self._waiting.pop().to(self._pairs[0].device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # The recording is no part of the state, so it is no buffer; but it goes where the policy goes.
        self._pairs, self._held_out = ([fn(leaf) for leaf in pairs] for pairs in (self._pairs, self._held_out))
        return super()._apply(fn, recurse)  # type: ignore[no-any-return, no-untyped-call]


def _load_pairs(recording: str, policy: StochasticPolicy, env_id: str | None) -> list[Tensor]:
    """Observations and actions of all transitions, one tensor ``[N, *shape]`` a leaf."""
    workspace = load_recording(Path(recording), env_id)
    try:
        pairs = align(workspace, policy.features.names, policy.writes).flat()
    except WorkspaceError as error:
        raise ConfigurationError(f"recording='{recording}': {error}") from error
    leaves = [*pairs.observations, *pairs.actions]
    if not len(leaves[0]):
        raise ConfigurationError(f"recording='{recording}': there is no transition in it")
    try:
        with torch.no_grad():
            policy.distribution([leaf[:1] for leaf in leaves[: len(pairs.observations)]]).log_prob(
                [leaf[:1] for leaf in leaves[len(pairs.observations) :]]
            )
    except (RuntimeError, IndexError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(f"recording='{recording}': does not fit the policy: {reason}") from error
    return leaves
