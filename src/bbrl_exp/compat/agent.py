"""BBRL's base classes of agents, on those of this project."""

from __future__ import annotations

import os
import pickle
from typing import Any, Self

import torch

from bbrl_exp.agents.agent import Agent as CoreAgent
from bbrl_exp.agents.tools import KWAgentWrapper as CoreKWAgentWrapper
from bbrl_exp.errors import BbrlExpError, ConfigurationError, described
from bbrl_exp.workspace import Workspace

FileName = str | os.PathLike[str]


class Agent(CoreAgent):
    """An agent with the methods that BBRL's programs call; see :class:`bbrl_exp.agents.agent.Agent`.

    Args:
        name: the agent's name.
        verbose: kept as an attribute.
    """

    def __init__(self, name: str | None = None, verbose: bool = False) -> None:
        super().__init__(name)
        self.verbose = verbose

    def save_model(self, filename: FileName) -> None:
        """Writes the agent as a file: the module itself, as ``torch.save`` does."""
        workspace, self.workspace = self.workspace, None
        try:
            torch.save(self, filename)
        finally:
            self.workspace = workspace

    def load_model(self, filename: FileName) -> Any:
        """The agent of a file that :meth:`save_model` has written from an agent of the same parts as this one.

        Only the classes of this agent and its modules are built from the file, so that a file cannot run other code.

        Raises:
            ConfigurationError: the file holds anything else.
        """
        kinds: list[Any] = [type(module) for module in self.modules()]
        try:
            with torch.serialization.safe_globals([*kinds, set, torch.device]):
                return torch.load(filename, weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, AttributeError) as error:
            raise ConfigurationError(
                f"load_model('{filename}'): the file holds more than the classes of this {type(self).__name__}. "
                "torch.load(filename, weights_only=False) builds it too, and runs any code that is in the file: use it "
                "only for files that you trust"
            ) from error

    def set_trace_file(self, filename: FileName) -> None:
        """Refused: BBRL's traces cannot be written.

        Raises:
            ConfigurationError: always; it says what to use instead.
        """
        raise ConfigurationError(
            f"set_trace_file('{filename}'): agents are not traced; put a PrintAgent after it, or print the workspace"
        )

    def _asynchronous_call(self, workspace: Workspace, **kwargs: Any) -> None:
        self(workspace, **kwargs)

    def is_running(self) -> bool:
        """Whether the agent is running in another process; remote agents may be."""
        return False


class KWAgentWrapper(CoreKWAgentWrapper, Agent):
    """Calls an agent with some keywords fixed."""


class TimeAgent(Agent):
    """An agent whose ``forward`` takes the time ``t``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


class SerializableAgent(Agent):
    """An agent that can be written as a file; override :meth:`serialize` to leave out what cannot."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)

    def serialize(self) -> Self:
        """What :meth:`save` writes: the agent without what cannot be pickled."""
        return self

    def save(self, filename: FileName) -> None:
        """Pickles what :meth:`serialize` gives.

        Raises:
            BbrlExpError: it cannot be pickled; override :meth:`serialize`.
        """
        try:
            content = pickle.dumps(self.serialize())
        except Exception as error:
            raise BbrlExpError(
                f"{self.label} cannot be saved as '{filename}': {described(error)}; override serialize to leave it out"
            ) from error
        with open(filename, "wb") as file:
            file.write(content)
