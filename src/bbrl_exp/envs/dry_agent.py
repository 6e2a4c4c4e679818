"""What replaces an environment agent in the graph check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bbrl_exp.agents.agent import Agent
from bbrl_exp.envs.actions import ActionReader
from bbrl_exp.envs.rows import row_layout
from bbrl_exp.envs.spec import EnvSpec
from bbrl_exp.envs.staging import torch_dtype
from bbrl_exp.errors import GraphError


class DryEnvironmentAgent(Agent):
    """Writes rows of the right shape and dtype, and checks shape and dtype of the actions, without environments.

    Args:
        name: name of the agent that it stands in for.
        label: how messages call that agent.
        spec: what its environments show and accept.
        info: info key → dtype name of each recorded info.
        device: where its workspace lives.
    """

    def __init__(self, name: str, label: str, spec: EnvSpec, info: Mapping[str, str], device: torch.device) -> None:
        super().__init__(name)
        self._label = label
        self.env_spec = spec
        layout = row_layout(spec.observations, info, spec.batch_size)
        self.reads = tuple(leaf.name for leaf in spec.actions)
        self.writes = tuple(layout)
        self._readers = [ActionReader(leaf, spec.batch_size, clip=False) for leaf in spec.actions]
        self._rows: dict[str, Tensor] = {
            variable: torch.zeros(shape, dtype=torch_dtype(dtype), device=device)
            for variable, (shape, dtype) in layout.items()
        }
        for leaf in spec.observations:
            if leaf.start is not None:
                self._rows[leaf.name] += torch.as_tensor(leaf.start, device=device).to(self._rows[leaf.name].dtype)

    @property
    def label(self) -> str:
        return self._label

    def forward(self, t: int, **kwargs: Any) -> None:
        """Row ``t``: zeros, and the smallest value of a discrete observation.

        Raises:
            GraphError: actions that the environments would refuse.
        """
        if t > 0:
            for leaf, reader in zip(self.env_spec.actions, self._readers, strict=True):
                actions = self.get((leaf.name, t - 1))
                dtype = str(actions.dtype).removeprefix("torch.")
                shape = tuple(actions.shape)
                if shape != reader.shape or dtype == "bfloat16" or not reader.accepts(np.dtype(dtype)):
                    raise GraphError(reader.mismatch(dtype, shape, t - 1))
        for variable, row in self._rows.items():
            self.set((variable, t), row.clone())
