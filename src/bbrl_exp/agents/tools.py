"""Small agents that every graph can use: print, copy, latch, fix keywords."""

from __future__ import annotations

import sys
from typing import Any

import torch

from bbrl_exp.agents.agent import Agent


class PrintAgent(Agent):
    """Prints variables at every step, one line each, to standard output.

    Args:
        names: the variables; none means all that the workspace holds at that step.
        name: the agent's name.
    """

    def __init__(self, *names: str, name: str | None = None) -> None:
        super().__init__(name)
        self.names = names

    def forward(self, t: int, **kwargs: Any) -> None:
        """Prints the rows ``t``; of all variables, those that have one."""
        assert self.workspace is not None
        written = [variable for variable in self.workspace.keys() if self.workspace.n_steps(variable) > t]  # noqa: SIM118
        for variable in self.names or written:
            sys.stdout.write(f"t={t} {variable} = {self.get((variable, t))}\n")


class CopyTAgent(Agent):
    """Copies a variable under another name.

    Args:
        input_name: the variable to read.
        output_name: the variable to write.
        detach: whether the copy is cut from the autograd graph.
        name: the agent's name.
    """

    def __init__(self, input_name: str, output_name: str, detach: bool = False, name: str | None = None) -> None:
        super().__init__(name)
        self.input_name = input_name
        self.output_name = output_name
        self.detach = detach
        self.reads = (input_name,)
        self.writes = (output_name,)

    def forward(self, t: int | None = None, **kwargs: Any) -> None:
        """Copies row ``t``, or all rows where ``t`` is None."""
        source: str | tuple[str, int] = self.input_name if t is None else (self.input_name, t)
        target: str | tuple[str, int] = self.output_name if t is None else (self.output_name, t)
        value = self.get(source)
        if self.detach:
            value = value.detach()
        self.set(target, value.clone() if t is None else value)


class EpisodesDone(Agent):
    """Latches the end of an episode: once true, true until the next recording begins at t = 0.

    Makes auto-reset environments look like environments of one episode, for ``stop_variable`` say. Where both variables
    are the same, everybody who reads it later sees the latched one, and so do statistics of episodes.

    Args:
        in_var: bool variable ``[T, B]`` to read.
        out_var: bool variable ``[T, B]`` to write; may be the same.
        name: the agent's name.
    """

    def __init__(self, in_var: str = "env/done", out_var: str = "env/done", name: str | None = None) -> None:
        super().__init__(name)
        self.in_var = in_var
        self.out_var = out_var
        self.reads = (in_var,)
        self.writes = (out_var,)

    def forward(self, t: int, **kwargs: Any) -> None:
        """Writes at ``t`` whether ``in_var`` was true at ``t`` or before."""
        with torch.no_grad():
            latched = self.get((self.in_var, t))
            if t > 0:
                latched = latched | self.get((self.out_var, t - 1))
            self.set((self.out_var, t), latched.clone())


class KWAgentWrapper(Agent):
    """Calls an agent with some keywords fixed; they win over those of the call.

    Args:
        agent: the agent to call.
        kwargs: the keywords.
    """

    def __init__(self, agent: Agent, **kwargs: Any) -> None:
        super().__init__()
        self.wrapped = agent
        self.kwargs = kwargs

    def forward(self, **kwargs: Any) -> None:
        """Runs the agent with ``kwargs`` and the fixed keywords."""
        assert self.workspace is not None
        self.wrapped(self.workspace, **{**kwargs, **self.kwargs})
