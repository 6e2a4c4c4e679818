"""What a run records of memories: how large their states are, and how many of their units are saturated."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from bbrl_exp.functional.saturation import saturated_fraction
from bbrl_exp.workspace import Workspace

_STARTS = "env/initial_state"
_MOST_NUMBERS = 2**18  # of a memory's states in a record: of larger ones some time steps are looked at

# From states ``[N, S]`` to those units ``[N, U]`` that an activation keeps between −1 and 1; None for none.
UnitsOf = Callable[[Tensor], Tensor | None]


def states_in(workspace: Workspace) -> list[str]:
    """The variables that hold the states of memories: ``<name>/state``, floats ``[T, B, S]``, whoever writes them.

    What the environment shows is none, a leaf ``env/env_obs/state`` of an observation for example.
    """
    return [
        variable
        for variable in workspace.keys()  # noqa: SIM118  (a workspace is not a dict)
        if variable.endswith("/state")
        and "env" not in variable.split("/")
        and workspace[variable].is_floating_point()
        and workspace[variable].dim() == 3
    ]


class MemoryRecords:
    """The mean norm ‖s‖₂ of the states of every memory and the fraction of their units that are saturated.

    Rows in which an episode begins do not count: their state is zero.

    Args:
        every: environment steps between two records, at least.
        units: variable → the units of its states that can be saturated; without any there is no such fraction.

    Attributes:
        next_record: environment steps from which on the next record is due.
    """

    def __init__(self, every: int, units: Mapping[str, UnitsOf]) -> None:
        self._every = every
        self._units = units
        self.next_record = 0

    def take(self, workspace: Workspace, first_row: int, env_steps: int) -> dict[str, float]:
        """``memory/<name>/state_norm`` and ``memory/<name>/saturation`` over new rows; nothing where none is due.

        Args:
            workspace: holds the rows, from ``first_row`` to its end.
            first_row: the first of them.
            env_steps: environment steps at the last of them.
        """
        if env_steps < self.next_record:
            return {}
        self.next_record = (env_steps // self._every + 1) * self._every
        starts = workspace[_STARTS][first_row:] if _STARTS in workspace else None
        found: dict[str, Tensor] = {}
        for variable in states_in(workspace):
            states = workspace[variable].detach()[first_row:]
            looked_at = slice(None, None, max(1, math.ceil(states.numel() / _MOST_NUMBERS)))
            goes_on = None if starts is None or starts.shape != states.shape[:2] else ~starts[looked_at]
            states = states[looked_at] if goes_on is None else states[looked_at][goes_on]
            prefix = f"memory/{variable.removesuffix('/state')}"
            found[f"{prefix}/state_norm"] = torch.linalg.vector_norm(states.float(), dim=-1).mean()
            units = self._units[variable](states) if variable in self._units else None
            if units is not None:
                found[f"{prefix}/saturation"] = saturated_fraction(units).float()
        values = torch.stack(list(found.values())).tolist() if found else []
        return {name: value for name, value in zip(found, values, strict=True) if math.isfinite(value)}
