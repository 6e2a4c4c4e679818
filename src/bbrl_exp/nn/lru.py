"""The linear recurrent unit: a bank of damped oscillators, unrolled in parallel."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bbrl_exp.arguments import AT_LEAST_1, FROM_0_BELOW_1, Range
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.nn.cell import Cell
from bbrl_exp.nn.parameter_arrays import ParameterArrays
from bbrl_exp.nn.readout import ArrayReadout, Readout
from bbrl_exp.nn.recurrent_arrays import product
from bbrl_exp.nn.scan import linear_scan

_ABOVE_0_TO_2_PI = Range("above 0, at most 2 π (6.283…)", lambda value: 0 < value <= 2 * math.pi)


class LRU(Cell):
    """A layer with memory (Orvieto et al., 2023, arXiv:2303.06349), h being complex and the rest real:

        h' = λ ⊙ h + γ ⊙ (B x)    u = SiLU(Re(C h') + D x + c)    y = (V u + v) ⊙ σ(G u + g)

    λ = exp(−exp(ν) + i exp(θ)), so that |λ| < 1 whatever is learned (section 3.3). At first |λ|² is uniform between
    ``r_min``² and ``r_max``² and the phase between 0 and ``max_phase`` (lemma 3.2), and γ = √(1 − |λ|²) keeps the
    variance of h at that of B x for inputs without correlation (equation 7); log γ is learned. The entries of B and C
    are normal, scaled by the number of their inputs (appendix).

    As in the paper, a nonlinearity and a gated linear unit follow (see :class:`~bbrl_exp.nn.readout.Readout`): without
    them a policy would be linear in all that it has seen. There is one layer instead of several, D x takes the place of
    the skip connection, and normalising the inputs is left to the agent.

    The state holds real and imaginary parts in turn, ``[B, 2 N]``, and the gradient of :meth:`unroll` reaches the state
    it begins with.

    Args:
        n_inputs: number D of numbers of an input.
        n_hidden: number H of numbers of an output.
        n_modes: number N of complex numbers of the state; None for H.
        r_min: lower bound of the initial |λ|: a mode forgets within about 1 / (1 − |λ|) steps.
        r_max: upper bound.
        max_phase: upper bound of the initial phases, in radians per step.
        generator: source of the initial weights; torch's global one by default.

    Attributes:
        state_size: S = 2 N.

    Raises:
        ConfigurationError: a size below 1, bounds that are not 0 ≤ r_min < r_max < 1, or a phase out of (0, 2 π].
    """

    def __init__(
        self,
        n_inputs: int,
        n_hidden: int = 64,
        n_modes: int | None = None,
        r_min: float = 0.5,
        r_max: float = 0.99,
        max_phase: float = 2 * math.pi,
        generator: torch.Generator | None = None,
    ) -> None:
        AT_LEAST_1.check(n_modes=n_modes)
        super().__init__(n_inputs, n_hidden, 2 * (n_hidden if n_modes is None else n_modes))
        FROM_0_BELOW_1.check(r_min=r_min, r_max=r_max)
        if r_min >= r_max:
            raise ConfigurationError(f"r_min={r_min}: must be below r_max={r_max}")
        _ABOVE_0_TO_2_PI.check(max_phase=max_phase)
        self.n_modes = self.state_size // 2
        # Rows ν, θ, log γ; the draws are from above 0 to 1.
        radius, phase = 1.0 - torch.rand(2, self.n_modes, generator=generator)
        squared = r_min**2 + radius * (r_max**2 - r_min**2)
        rates = [torch.log(-0.5 * torch.log(squared)), torch.log(max_phase * phase), 0.5 * torch.log1p(-squared)]
        self.rates = nn.Parameter(torch.stack(rates))
        self.weight = nn.Parameter(torch.empty(self.state_size, self.n_inputs))  # B, as the state
        self.readout = Readout(self.state_size, self.n_inputs, self.n_hidden, generator)  # Re(C h) is one real product
        with torch.no_grad():
            self.weight.normal_(std=1 / math.sqrt(2 * self.n_inputs), generator=generator)
            self.readout.memory_weight.normal_(std=1 / math.sqrt(self.n_modes), generator=generator)
            self.readout.input_weight.normal_(std=1 / math.sqrt(self.n_inputs), generator=generator)

    def eigenvalues(self) -> Tensor:
        """λ, complex ``[N]``."""
        return torch.polar(torch.exp(-torch.exp(self.rates[0])), torch.exp(self.rates[1]))

    def scales(self) -> Tensor:
        """γ, of the state's numbers, ``[S]``."""
        return self.rates[2].exp().repeat_interleave(2)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        state = _as_real(self.eigenvalues() * _as_complex(state) + self._drive(x))
        return self.readout(state, x), state

    def unroll(self, x: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        states = _as_real(linear_scan(self.eigenvalues(), self._drive(x), _as_complex(state), starts))
        return self.readout(states, x), states

    def on_arrays(self) -> ArrayLRU:
        return ArrayLRU(self)

    def _drive(self, x: Tensor) -> Tensor:
        return _as_complex(nn.functional.linear(x, self.weight) * self.scales())


class ArrayLRU:
    """The steps of an :class:`LRU` on the CPU, computed by numpy, without gradients.

    Args:
        cell: the module, float32 on the CPU; changes of its parameters are seen.
    """

    def __init__(self, cell: LRU) -> None:
        self._cell = cell
        self._parameters = ParameterArrays((cell.rates, cell.weight))
        self._readout = ArrayReadout(cell.readout)
        self._rates = b""
        self._eigenvalues = self._scales = np.empty(0)

    def __call__(self, x: NDArray[Any], state: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """The output ``[B, H]`` and the next state ``[B, S]`` for float32 ``[B, D]`` and ``[B, S]``."""
        rates, weight = self._parameters()
        known = rates.tobytes()
        if known != self._rates:
            with torch.no_grad():  # by the module, since a difference in a phase adds up over many steps
                self._eigenvalues, self._scales = self._cell.eigenvalues().numpy(), self._cell.scales().numpy()
            self._rates = known
        following = product(x, weight)
        following *= self._scales
        modes = np.ascontiguousarray(state).view(np.complex64) * self._eigenvalues
        following += modes.view(np.float32)
        return self._readout(following, x), following


def _as_complex(values: Tensor) -> Tensor:
    """``[…, N]`` of ``[…, 2 N]``."""
    return torch.view_as_complex(values.reshape(*values.shape[:-1], -1, 2))


def _as_real(values: Tensor) -> Tensor:
    """``[…, 2 N]`` of ``[…, N]``."""
    return torch.view_as_real(values).flatten(-2)
