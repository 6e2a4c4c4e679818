"""What a memory is shown at a step: the observation, the action before it, the reward that this action had."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bbrl_exp.envs.spec import EnvSpec, LeafSpec
from bbrl_exp.errors import ConfigurationError, did_you_mean
from bbrl_exp.nn.features import Flat, OneHot
from bbrl_exp.nn.mlp import ArrayMlp, Mlp
from bbrl_exp.policies.observation import NetworkNode, ObservationFeatures, one_hot_of

InputKind = Literal["observation", "action", "reward"]
REWARD = "env/reward"


class MemoryInputs(nn.Module):
    """From the variables that a memory reads to one vector: the observation's features, the action, the reward.

    They are side by side in this order, whatever the order in which they are asked for.

    Args:
        env_spec: facts of the environment.
        name: of the agent whose memory it is.
        kinds: which of the three.
        observation_prefix: of the variables of the observation to read instead of the environment's own.
        generator: source of the initial weights of what makes features of an observation.
        network: your own, which makes the features of the observation.

    Attributes:
        kinds: which of the three, in order.
        observation: the features of the observation; None without it.
        action: the action as numbers; None without it.
        names: the variables of a row of which the vector is made.
        n_features: number F of its components.
        is_numbers: whether no layer of torch is needed for it, so that there is :meth:`of_arrays`.

    Raises:
        ConfigurationError: no input, an unknown one, one that is named twice, or a network for no observation.
    """

    def __init__(
        self,
        env_spec: EnvSpec,
        name: str,
        kinds: Sequence[str],
        observation_prefix: str = "",
        generator: torch.Generator | None = None,
        network: NetworkNode = None,
    ) -> None:
        super().__init__()
        self.kinds = checked(kinds)
        if network is not None and "observation" not in self.kinds:
            raise ConfigurationError("network: has no effect without the observation in inputs")
        sees = "observation" in self.kinds
        self.observation = ObservationFeatures(env_spec, observation_prefix, generator, network) if sees else None
        self.action = ActionNumbers(env_spec.actions) if "action" in self.kinds else None
        self.previous_action = f"{name}/previous_action"
        self._sees_reward = "reward" in self.kinds
        of_observation = () if self.observation is None else self.observation.names
        of_action = () if self.action is None else (self.previous_action,)
        self.names = (*of_observation, *of_action, *((REWARD,) if self._sees_reward else ()))
        self._n_leaves = len(of_observation)
        sizes = [part.n_features for part in (self.observation, self.action) if part is not None]
        self.n_features = sum(sizes) + self._sees_reward
        self._is_observation = self.kinds == ("observation",)
        self.is_numbers = self.observation is None or self.observation.is_one_vector

    def forward(self, rows: Sequence[Tensor]) -> Tensor:
        """The vector, float32 ``[N, F]``, of one tensor ``[N, …]`` per variable."""
        if self._is_observation and self.observation is not None:
            return self.observation(rows)  # type: ignore[no-any-return]
        parts = list(rows[self._n_leaves :])
        if self._sees_reward:
            parts[-1] = parts[-1].unsqueeze(1)
        if self.observation is not None:
            parts.insert(0, self.observation(rows[: self._n_leaves]))
        return torch.cat(parts, dim=1)

    def of_arrays(self, rows: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """The same on arrays, where ``is_numbers``."""
        if self._is_observation:
            return rows[0]
        if self._sees_reward:
            rows = [*rows[:-1], rows[-1][:, None]]
        return np.concatenate(rows, axis=1)

    def on_arrays(self, mlp: Mlp) -> ArrayMlp | None:
        """``mlp`` on arrays, where the vector needs no layer of torch and numpy has the activation."""
        return ArrayMlp(mlp) if self.is_numbers and ArrayMlp.supports(mlp) else None


class ActionNumbers(nn.Module):
    """An action as one vector of numbers: discrete components one-hot, those of boxes as they are, as float32.

    Args:
        leaves: of the action.

    Attributes:
        names: variables of the leaves.
        n_features: number A of numbers.
    """

    def __init__(self, leaves: Sequence[LeafSpec]) -> None:
        super().__init__()
        self.names = tuple(leaf.name for leaf in leaves)
        parts = [one_hot_of(leaf) or Flat(leaf.size) for leaf in leaves]
        self.parts = nn.ModuleList(parts)
        self._has_zero = [leaf.start is None or bool((leaf.start <= 0).all()) for leaf in leaves]
        self.n_features = sum(part.n_features for part in parts)
        self._tables = [_tables(part) if isinstance(part, OneHot) else None for part in parts]

    def forward(self, actions: Sequence[Tensor]) -> Tensor:
        """Float32 ``[B, A]`` of one tensor ``[B, *shape]`` per leaf."""
        numbers = []
        for part, leaf, has_zero in zip(self.parts, actions, self._has_zero, strict=True):
            # Where an episode begins, a policy outside the framework is given 0 as the action before.
            if isinstance(part, OneHot) and not has_zero:
                leaf = leaf.maximum(part.start.view(leaf.shape[1:]))
            numbers.append(part(leaf))
        return numbers[0] if len(numbers) == 1 else torch.cat(numbers, dim=1)

    def of_arrays(self, actions: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """The same on arrays; a copy."""
        numbers = []
        for leaf, tables in zip(actions, self._tables, strict=True):
            flat = leaf.reshape(len(leaf), -1)
            if tables is None:
                numbers.append(flat)
            else:
                numbers += [table[flat[:, k] - start] for k, (table, start) in enumerate(tables)]
        if len(numbers) == 1:
            return numbers[0].astype(np.float32)
        return np.concatenate(numbers, axis=1, dtype=np.float32, casting="same_kind")


def checked(kinds: Sequence[str]) -> tuple[InputKind, ...]:
    """The inputs in their order.

    Raises:
        ConfigurationError: none, an unknown one, or one that is named twice.
    """
    known: tuple[InputKind, ...] = get_args(InputKind)
    if isinstance(kinds, str) or not isinstance(kinds, Sequence) or not kinds:
        raise ConfigurationError(f"inputs={kinds}: must be a list, at least one of {', '.join(known)}")
    for kind in kinds:
        if kind not in known:
            near = did_you_mean(str(kind), known) or ";"
            raise ConfigurationError(
                f"inputs={_shown(kinds)}: no such input '{kind}'{near} allowed: {', '.join(known)}"
            )
    if len(set(kinds)) < len(kinds):
        raise ConfigurationError(f"inputs={_shown(kinds)}: each can be named once")
    return tuple(kind for kind in known if kind in kinds)


def _shown(kinds: Sequence[str]) -> str:
    return f"[{', '.join(map(str, kinds))}]"


def _tables(one_hot: OneHot) -> list[tuple[NDArray[Any], int]]:
    """For each component its one-hot rows, and its smallest value."""
    starts = one_hot.start.tolist()
    return [(np.eye(count, dtype=np.float32), start) for count, start in zip(one_hot.counts, starts, strict=True)]
