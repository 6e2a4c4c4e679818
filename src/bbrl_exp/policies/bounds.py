"""The bounds of the one box of actions that a policy fills, and the box [-1, 1] that it thinks in."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bbrl_exp.envs.spec import EnvSpec
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.functional.squashing import bounds_to_unit, unit_to_bounds
from bbrl_exp.policies.rows import RowsByBatchSize


class ActionBounds(nn.Module):
    """Between the D components of an action in [-1, 1] and the action that an environment takes.

    Args:
        env_spec: facts of the environment.

    Raises:
        ConfigurationError: the environment's action is anything but one bounded box of floats, or the distance between
            the bounds of a component is 0 or beyond float32.

    Attributes:
        variable: name of the action's variable.
        shape: shape of one environment's action.
        n_components: number D of its components.
        dtype: numpy name of its dtype.
        rows: what an agent that writes the action writes.
    """

    low: Tensor
    high: Tensor

    def __init__(self, env_spec: EnvSpec) -> None:
        super().__init__()
        leaf = env_spec.actions[0]
        if (
            len(env_spec.actions) != 1
            or leaf.kind != "box"
            or not leaf.is_bounded
            or not leaf.dtype.startswith("float")
        ):
            found = ", ".join(f"'{leaf.name}', {leaf.kind} of {leaf.dtype}" for leaf in env_spec.actions)
            raise ConfigurationError(f"needs one bounded box of floats as action, {env_spec.env_id} has {found}")
        self.variable = leaf.name
        self.shape = leaf.shape
        self.n_components = leaf.size
        self.dtype = leaf.dtype
        self._torch_dtype: torch.dtype = getattr(torch, leaf.dtype)
        self._low = np.array(leaf.low, np.float32).ravel()
        with np.errstate(over="ignore"):
            self._range = np.array(leaf.high, np.float32).ravel() - self._low
        if not (np.isfinite(self._range) & (self._range > 0)).all():
            raise ConfigurationError(
                f"needs bounds with a distance between them, above 0 and finite, in every component of the action; the "
                f"distances are {self._range.tolist()} in {env_spec.env_id}"
            )
        self.register_buffer("low", torch.tensor(self._low), persistent=False)
        self.register_buffer("high", torch.tensor(self._low + self._range), persistent=False)
        self.rows = RowsByBatchSize({self.variable: (self.shape, self.dtype)})

    def to_unit(self, actions: Tensor) -> Tensor:
        """Actions ``[N, *shape]`` in [-1, 1]: float32 ``[N, D]``, clipped as environments clip."""
        flat = actions.reshape(len(actions), -1).float()
        return bounds_to_unit(flat, self.low, self.high).clamp(-1.0, 1.0)

    def from_unit(self, unit: Tensor) -> Tensor:
        """What an environment takes, ``[N, *shape]`` in its dtype, for ``[N, D]`` in [-1, 1]."""
        return unit_to_bounds(unit, self.low, self.high).reshape(-1, *self.shape).to(self._torch_dtype)

    def from_unit_on_arrays(self, unit: NDArray[Any]) -> NDArray[Any]:
        """The same as :meth:`from_unit` on arrays."""
        actions = self._low + self._range * (0.5 * (unit + 1.0))
        return np.asarray(actions.reshape(-1, *self.shape), self.dtype)
