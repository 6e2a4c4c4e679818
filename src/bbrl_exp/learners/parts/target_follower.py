"""How a target network follows the network that learns: a little at every update, or as a copy from time to time."""

from __future__ import annotations

from torch import nn

from bbrl_exp.arguments import ABOVE_0_TO_1, AT_LEAST_1
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.functional.schedules import completes_period
from bbrl_exp.functional.targets import copy_buffers, copy_tensors, polyak_update
from bbrl_exp.policies.observation import own_networks


class TargetFollower:
    """Moves the parameters of a target network, by one of two rules.

    Args:
        target: the network that follows.
        source: the network that it follows, built alike.
        period: environment steps after which the target becomes the source; None for moving averages.
        rate: τ, by which the target moves towards the source at every update; None for copies.
        updates_per_step: updates per environment step.

    Attributes:
        rate: as above; it may be changed between updates.
        updates_per_copy: the same period in updates.

    Raises:
        ConfigurationError: both or none of the rules, or a value out of its range; the message names
            ``target_period`` and ``target_rate``.
    """

    def __init__(
        self, target: nn.Module, source: nn.Module, *, period: int | None, rate: float | None, updates_per_step: float
    ) -> None:
        AT_LEAST_1.check(target_period=period)
        ABOVE_0_TO_1.check(target_rate=rate)
        if (period is None) == (rate is None):
            raise ConfigurationError(
                f"target_period={period}, target_rate={rate}: one of them says how the target network follows, and "
                "the other is null"
            )
        self._targets = list(target.parameters())
        self._sources = list(source.parameters())
        self._networks = list(zip(own_networks(target), own_networks(source), strict=True))
        self.rate = rate
        self.updates_per_copy = (period or 1) * updates_per_step

    def lets_pass(self, n_updates: int, n_done: int) -> bool:
        """Whether the target becomes the source in none of the next updates but the last of ``n_updates``."""
        done = range(n_done + 1, n_done + n_updates)
        return self.rate is not None or not any(completes_period(n, self.updates_per_copy) for n in done)

    def follow(self, n_updates: int) -> None:
        """Moves the target after update number ``n_updates``, counted from 1."""
        if self.rate is not None:
            polyak_update(self._targets, self._sources, self.rate)
            copy_buffers(self._networks)
        elif completes_period(n_updates, self.updates_per_copy):
            copy_tensors(self._targets, self._sources)
            copy_buffers(self._networks)
