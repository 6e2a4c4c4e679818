"""BBRL's agents that remember their seed."""

from __future__ import annotations

from typing import Any, Self

from bbrl_exp.compat.agent import Agent
from bbrl_exp.errors import ConfigurationError


class SeedableAgent(Agent):
    """An agent with a seed, ``_seed``, which is given once.

    Args:
        seed: the seed; None for one that :meth:`seed` gives.
    """

    def __init__(self, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._seed = seed

    def seed(self, seed: int) -> Self:  # type: ignore[override]
        """Keeps the seed and returns the agent.

        Raises:
            ConfigurationError: the agent has a seed already.
        """
        if self._seed is not None:
            raise ConfigurationError(
                f"{self.label}.seed({seed}): it has the seed {self._seed} already; derive it from SeedableAgentLast, "
                "SeedableAgentSum or SeedableAgentMean to seed it again"
            )
        return self._reseeded(seed)

    def _reseeded(self, seed: int) -> Self:
        super().seed(seed)
        self._seed = seed
        return self


class SeedableAgentLast(SeedableAgent):
    """Its seed is the last one given."""

    def seed(self, seed: int) -> Self:  # type: ignore[override]
        """Keeps the seed in place of the one before, and returns the agent."""
        return self._reseeded(seed)


class SeedableAgentSum(SeedableAgent):
    """Its seed is the sum of those given."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._seeds: list[int] = []

    def seed(self, seed: int) -> Self:  # type: ignore[override]
        """Adds the seed to those before, and returns the agent."""
        self._seeds.append(seed)
        return self._reseeded(sum(self._seeds))


class SeedableAgentMean(SeedableAgentSum):
    """Its seed is the mean of those given, rounded down."""

    def seed(self, seed: int) -> Self:  # type: ignore[override]
        """Adds the seed to those before, and returns the agent."""
        self._seeds.append(seed)
        return self._reseeded(sum(self._seeds) // len(self._seeds))
