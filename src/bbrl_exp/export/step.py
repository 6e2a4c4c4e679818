"""One step of a policy as a function of tensors: from observations and memory to actions and the next memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.combinators import Agents
from bbrl_exp.config.graph import env_spec_of
from bbrl_exp.envs.spec import LeafSpec
from bbrl_exp.errors import BbrlExpError, ConfigurationError, is_of_user_code
from bbrl_exp.export.two_rows import BEFORE, NOW, TwoRows
from bbrl_exp.runs.player import Player
from bbrl_exp.runs.policy import SavedRun
from bbrl_exp.runs.without_environments import Outside, members_of
from bbrl_exp.workspace import Workspace

START = "start"
_STARTS, _TIMESTEP, _DONE = "env/initial_state", "env/timestep", "env/done"
_KNOWN = (_STARTS, _TIMESTEP, _DONE)  # what `start` says


@dataclass(frozen=True)
class Port:
    """An input or an output of a policy.

    Attributes:
        name: what it is called outside.
        variable: of the workspace.
        example: ``[B, …]``, of the shape and dtype that it has; as an input, that of the beginning of an episode.
    """

    name: str
    variable: str
    example: Tensor


class PolicyStep(nn.Module):
    """What a policy does at a step, by its own agents, normalisers included: the most likely action.

    Agents run as they do on an accelerator, on tensors, in evaluation mode.

    Args:
        saved: the policy.
        batch_size: number B of rows of the examples.

    Attributes:
        observations: inputs, one ``[B, *shape]`` per leaf, and what else agents read of the environments.
        memory: inputs, what agents read of the step before; as outputs they are called ``next_…``.
        has_start: whether there is an input ``start``, bool ``[B]``: where an episode begins.
        actions: outputs, one ``[B, *shape]`` per leaf in its dtype, clipped as the environments clip them.

    Raises:
        ConfigurationError: an agent does something else than a step of tensors; the message says what.
    """

    def __init__(self, saved: SavedRun, batch_size: int) -> None:
        super().__init__()
        members = list(members_of(saved.graph(batch_size).agent))
        player = Player(members)
        self._agents = Agents(*(agent for agent in player.agents if not isinstance(agent, Outside)))
        for module in self._agents.modules():
            if isinstance(module, Agent):
                module.is_on_cpu = False  # nothing is computed on arrays
        outside = next(agent for agent in members if isinstance(agent, Outside))
        spec = env_spec_of(outside)
        assert spec is not None
        shown = Workspace()
        outside.stand_in(shown, t=0)
        leaves = [leaf.name for leaf in spec.observations]
        known = {name: shown.get(name, 0) for name in (*leaves, *player.supplied)}
        examples = {name: torch.zeros(fact.shape, dtype=fact.dtype) for name, fact in player.kept.items()} | known
        workspace = TwoRows({(name, NOW): known[name] for name in leaves}, examples)
        self._run(workspace)
        before = [name for name, t in workspace.asked if t == BEFORE and name != _DONE]
        now = [name for name, t in workspace.asked if t == NOW]
        if _TIMESTEP in now and _TIMESTEP not in before:
            before.append(_TIMESTEP)
        others = [name for name in (*now, *before) if name in known and name not in (*leaves, *_KNOWN)]
        self.has_start = bool(before) or any(name in _KNOWN for name, _ in workspace.asked)
        self.observations = [Port(_called(name), name, known[name]) for name in (*leaves, *dict.fromkeys(others))]
        names = ["state"] if len(before) == 1 else [f"state/{name}" for name in before]
        self.memory = [Port(name, each, examples[each]) for name, each in zip(names, before, strict=True)]
        self._writers = {leaf.name: _Bounds(leaf, spec.clips_actions) for leaf in spec.actions}
        named = zip(self._writers, self._actions(workspace), strict=True)
        self.actions = [Port(name, name, action) for name, action in named]

    @property
    def inputs(self) -> dict[str, Tensor]:
        """The inputs in the order of :meth:`forward`, each with its example."""
        start = {START: torch.ones(len(self.observations[0].example), dtype=torch.bool)} if self.has_start else {}
        shown, memory = ({port.name: port.example for port in ports} for ports in (self.observations, self.memory))
        return {**shown, **start, **memory}

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs: the actions, and the next memory."""
        return (*self._writers, *(f"next_{port.name}" for port in self.memory))

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The outputs for inputs in their order, without gradients."""
        given = dict(zip(self.inputs, inputs, strict=True))
        rows = {(port.variable, NOW): given[port.name] for port in self.observations}
        for port in self.memory:  # empty where an episode begins, whatever is handed in
            row = given[port.name]
            starts = given[START].reshape(-1, *[1] * (row.dim() - 1))
            rows[port.variable, BEFORE] = row.masked_fill(starts, 0)
        if self.has_start:
            start = given[START]
            rows[_STARTS, NOW], rows[_DONE, BEFORE], rows[_DONE, NOW] = start, start, torch.zeros_like(start)
            if (_TIMESTEP, BEFORE) in rows:
                rows[_TIMESTEP, NOW] = (rows[_TIMESTEP, BEFORE] + 1).masked_fill(start, 0)
        workspace = TwoRows(rows)
        self._run(workspace)
        return (*self._actions(workspace), *(workspace.get(port.variable, NOW) for port in self.memory))

    def clipped(self, name: str, action: Tensor) -> Tensor:
        """A leaf of the action, ``[B, *shape]``, as the environments get it."""
        return self._writers[name](action)

    def _run(self, workspace: TwoRows) -> None:
        try:
            with torch.no_grad():
                self._agents(workspace, t=NOW)
        except BaseException as error:
            if not is_of_user_code(error) or isinstance(error, ConfigurationError):
                raise
            said = str(error) if isinstance(error, BbrlExpError) else f"{type(error).__name__}: {error}"
            raise ConfigurationError(f"the policy cannot be exported to ONNX: {said}") from error

    def _actions(self, workspace: TwoRows) -> list[Tensor]:
        return [self.clipped(name, workspace.get(name, NOW)) for name in self._writers]


def _called(variable: str) -> str:
    """``observation/cart`` for ``env/env_obs/cart``."""
    return variable.replace("env/env_obs", "observation", 1) if variable.startswith("env/env_obs") else variable


class _Bounds:
    """Brings a leaf of the action to its dtype and, where that is wanted, a box between its bounds."""

    def __init__(self, leaf: LeafSpec, clips: bool) -> None:
        self._dtype = torch.from_numpy(np.empty(0, leaf.dtype)).dtype
        self._bounds: tuple[Tensor, Tensor] | None = None
        if clips and leaf.kind == "box" and leaf.low is not None and leaf.high is not None:
            self._bounds = torch.from_numpy(np.array(leaf.low)), torch.from_numpy(np.array(leaf.high))

    def __call__(self, action: Tensor) -> Tensor:
        return (action if self._bounds is None else action.clamp(*self._bounds)).to(self._dtype)
