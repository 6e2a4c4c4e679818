"""How many units of a layer are saturated: so near a bound of their activation that hardly a gradient passes."""

from __future__ import annotations

from torch import Tensor

SATURATED = 0.99  # within 1 % of a bound


def saturated_fraction(units: Tensor) -> Tensor:
    """The fraction of values with an absolute value of at least 0.99, a scalar.

    Args:
        units: values that an activation such as tanh keeps between −1 and 1, of any shape.
    """
    return (units.abs() >= SATURATED).to(units.dtype).mean()
