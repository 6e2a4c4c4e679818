"""The memories of a graph, each with the agent that it belongs to, for those who look at them from outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from bbrl_exp.agents.agent import Agent
from bbrl_exp.policies.memory import Memory
from bbrl_exp.workspace import Workspace


@runtime_checkable
class HasMemoryHead(Protocol):
    """An agent that says what it makes of the outputs of its memory.

    Attributes:
        head_in_words: what the head gives, such as ``action values``.
    """

    head_in_words: str

    def memory_head(self, outputs: Tensor, inputs: Tensor, actions: Sequence[Tensor]) -> Tensor:
        """Numbers ``[T, B, P]``, such as the parameters of the action's distribution or action values.

        Args:
            outputs: of the memory's cell, ``[T, B, H]``.
            inputs: that the cell has seen, ``[T, B, D]``.
            actions: that were taken, one tensor ``[T, B, *shape]`` per leaf.
        """


@dataclass(frozen=True)
class OwnedMemory:
    """A memory and its agent.

    Attributes:
        agent: whose memory it is.
        memory: the memory.
    """

    agent: Agent
    memory: Memory

    @property
    def state_name(self) -> str:
        """The variable of the states."""
        return self.agent.prefix + self.memory.state_name

    @property
    def head_in_words(self) -> str:
        """What the gradients of :meth:`head_of` are of."""
        return self.agent.head_in_words if isinstance(self.agent, HasMemoryHead) else "memory's outputs"

    def inputs(self, workspace: Workspace) -> Tensor:
        """What the cell is shown in every row of a workspace, ``[T, B, D]``, without gradients."""
        rows = [workspace.get_full(name) for name in self.memory.names]
        with torch.no_grad():
            inputs: Tensor = self.memory.inputs([leaf.flatten(0, 1) for leaf in rows])
        return inputs.view(*rows[0].shape[:2], -1)

    def head_of(self, inputs: Tensor, actions: Sequence[Tensor]) -> Tensor:
        """What the agent makes of N copies of an episode from its beginning, ``[T, N, P]``; see :class:`HasMemoryHead`.

        Args:
            inputs: of the memory's cell, ``[T, N, D]``.
            actions: of the episode, one tensor ``[T', *shape]`` per leaf, in its first T rows.
        """
        n_steps, n_episodes, _ = inputs.shape
        starts = torch.zeros(n_steps, n_episodes, dtype=torch.bool, device=inputs.device)
        starts[0] = True
        outputs = self.memory.cell.outputs(inputs, self.memory.cell.initial_state(n_episodes), starts)
        if not isinstance(self.agent, HasMemoryHead):
            return outputs
        copies = [leaf[:n_steps].unsqueeze(1).expand(-1, n_episodes, *leaf.shape[1:]) for leaf in actions]
        return self.agent.memory_head(outputs, inputs, copies)


def memories_of(graph: nn.Module) -> list[OwnedMemory]:
    """The memories in a graph of agents, in its order; of agents inside each other the innermost has the memory."""
    found: dict[Memory, Agent] = {}
    for agent in graph.modules():
        if isinstance(agent, Agent):
            found |= {module: agent for module in agent.modules() if isinstance(module, Memory)}
    return [OwnedMemory(agent, memory) for memory, agent in found.items()]
