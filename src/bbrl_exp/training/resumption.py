"""A run at a boundary between two chunks: everything that it needs to resume as if it had never stopped."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.resumable import load_run_state, run_state
from bbrl_exp.errors import ConfigurationError, DivergedError
from bbrl_exp.learners.learner import Learner
from bbrl_exp.seeding import global_generator_states, load_global_generator_states
from bbrl_exp.training.loop import Chunk
from bbrl_exp.workspace import Workspace


class Records(Protocol):
    """What counts and records along the loop."""

    def state(self) -> dict[str, Any]:
        """Tensors and plain Python, equal between equal runs."""

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes over what :meth:`state` gave."""


class GlobalGenerators:
    """The global random generators of this process, which a run has for itself."""

    def state(self) -> dict[str, Any]:
        """Where they are."""
        return global_generator_states()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Puts them there."""
        load_global_generator_states(state)


@dataclass(frozen=True)
class RunningParts:
    """What changes during a run.

    Attributes:
        graph: the agents.
        learner: what changes them, None for nothing.
        workspace: the recording.
        records: what else counts along the loop, by name.
        generators: the global ones, or their substitute where several runs share a process.
    """

    graph: nn.Module
    learner: Learner | None
    workspace: Workspace
    records: Mapping[str, Records]
    generators: Records = field(default_factory=GlobalGenerators)

    def state(self, chunk: Chunk) -> dict[str, Any]:
        """The state after ``chunk``; of the workspace what the next chunk needs, and of replay buffers no rows.

        Raises:
            DivergedError: a parameter, a buffer or an optimizer contains NaN or infinity.
        """
        state = {
            "chunks": chunk.number,
            "graph": self.graph.state_dict(),
            "learner": None if self.learner is None else self.learner.state_dict(),
        }
        check_finite(state, chunk.env_steps, buffer_names(self.graph, self.learner))
        return {
            **state,
            "run": run_state(self.graph),
            "workspace": _rows(self.workspace, last_only=chunk.is_cut_next),
            "records": {name: part.state() for name, part in self.records.items()},
            "generators": self.generators.state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes over what :meth:`state` gave, in parts that are built alike; rows of replay buffers come afterwards.

        Raises:
            ConfigurationError: the parts are not built alike.
        """
        try:
            self.graph.load_state_dict(state["graph"])
            if self.learner is not None:
                self.learner.load_state_dict(state["learner"])
        except RuntimeError as error:
            raise ConfigurationError(f"the checkpoint does not fit: {' '.join(str(error).split())}") from error
        for name, rows in state["workspace"].items():
            self.workspace.reserve(len(rows))
            for t, row in enumerate(rows):
                self.workspace.set(name, t, row.to(_device_of(self.graph)))
        load_run_state(self.graph, state["run"])
        for name, part in self.records.items():
            part.load_state(state["records"][name])
        self.generators.load_state(state["generators"])


def check_finite(state: Mapping[str, Any], env_steps: int, buffers: Collection[str] = ()) -> None:
    """Refuses a NaN or an infinity in any tensor of ``state``; the ``buffers`` named may hold infinities (bounds, say).

    Raises:
        DivergedError: there is one; the message names it.
    """
    for name, tensor in _float_tensors(state, ""):
        is_ruined = tensor.isnan() if name in buffers else ~tensor.isfinite()
        if bool(is_ruined.any()):
            raise DivergedError(f"'{name}' contains NaN or infinity after {env_steps:,} environment steps")


def buffer_names(graph: nn.Module, learner: nn.Module | None) -> frozenset[str]:
    """The names that buffers have in a state ``{"graph": …, "learner": …}``."""
    own = {"graph": graph, "learner": learner}
    modules = {name: module for name, module in own.items() if module is not None}
    return frozenset(f"{part}.{name}" for part, module in modules.items() for name, _ in module.named_buffers())


def check_parameters(module: nn.Module, env_steps: int) -> None:
    """Refuses a NaN or an infinity in a parameter; a gradient that had one has left it there.

    Raises:
        DivergedError: there is one; the message names the parameter.
    """
    parameters = dict(module.named_parameters())
    sums = [parameter.detach().sum(dtype=torch.float64) for parameter in parameters.values()]
    if sums and not bool(torch.stack(sums).isfinite().all()):  # a sum of finite numbers is finite in twice the width
        check_finite(parameters, env_steps)


def _float_tensors(value: Any, name: str) -> list[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        return [(name, value)] if value.is_floating_point() else []
    if isinstance(value, Mapping):
        children = [(str(key), child) for key, child in value.items()]
    elif isinstance(value, list | tuple):
        children = [(str(index), child) for index, child in enumerate(value)]
    else:
        return []
    return [found for key, child in children for found in _float_tensors(child, f"{name}.{key}" if name else key)]


def _rows(workspace: Workspace, *, last_only: bool) -> dict[str, Tensor]:
    rows = {}
    for name in list(workspace.keys()):
        size = workspace.n_steps(name)
        # The rows before may never have been written.
        kept = workspace.get_time_truncated(name, size - 1, size) if last_only and size else workspace.get_full(name)
        rows[name] = kept.detach().clone()
    return rows


def _device_of(graph: nn.Module) -> torch.device:
    if isinstance(graph, Agent):
        return graph.agent_device
    tensor = next(graph.parameters(), next(graph.buffers(), None))
    return torch.device("cpu") if tensor is None else tensor.device
