"""The temperature of soft actor-critic: what a nat of the policy's entropy is worth, learned or fixed."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bbrl_exp.arguments import ABOVE_0
from bbrl_exp.learners.parts.descent import descend
from bbrl_exp.learners.parts.options import adam, optimizer_of, set_learning_rate
from bbrl_exp.learners.parts.state import SavesAttributes

# A schedule may lead to 0, whose logarithm is infinite.
_SMALLEST = 1e-30


class Temperature(SavesAttributes):
    """α, which falls while the policy's entropy is above its target H, and rises while it is below.

        loss = -log α (E[log π(a|s)] + H)

    This is equation 18 of Haarnoja et al. (2018, arXiv:1812.05905) for log α in place of α, which keeps α positive.

    Args:
        initial: α in the beginning.
        learning_rate: of Adam; None keeps α as it is.
        target_entropy: H in nats.

    Raises:
        ConfigurationError: an initial temperature or a learning rate that is not above 0.
    """

    logarithm: Tensor

    def __init__(self, initial: float, learning_rate: float | None, target_entropy: float) -> None:
        super().__init__()
        ABOVE_0.check(initial_temperature=initial, temperature_learning_rate=learning_rate)
        logarithm = torch.tensor(math.log(initial))
        self._target_entropy = target_entropy
        self._optimizer: torch.optim.Optimizer | None = None
        if learning_rate is None:
            self.register_buffer("logarithm", logarithm, persistent=False)
        else:
            self.logarithm = parameter = nn.Parameter(logarithm)
            self._optimizer = optimizer_of([parameter], learning_rate, adam())

    def follow(self, value: float | None, learning_rate: float | None, target_entropy: float) -> None:
        """Takes over α of at least 0, unless it is None, and the learning rate and H of the updates that come."""
        self._target_entropy = target_entropy
        if value is not None:
            self.logarithm.fill_(math.log(max(value, _SMALLEST)))
        if self._optimizer is not None and learning_rate is not None:
            set_learning_rate(self._optimizer, learning_rate)

    @property
    def value(self) -> Tensor:
        """α, without dimensions and without gradient."""
        return self.logarithm.detach().exp()

    def loss(self, log_probs: Tensor) -> Tensor:
        """The loss for log-probabilities ``[N]`` of the policy's actions, without dimensions; no gradient to them."""
        return -self.logarithm * (log_probs.detach().mean() + self._target_entropy)

    def adapt(self, log_probs: Tensor) -> None:
        """One step down the loss; none where α is fixed."""
        if self._optimizer is not None:
            descend(self._optimizer, self.loss(log_probs))
