"""The comparison of an ONNX model with the policy that it was made from, step by step in the environment."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call

from bbrl_exp.agents.agent import Agent
from bbrl_exp.errors import BbrlExpError
from bbrl_exp.export.onnx_file import OnnxModel
from bbrl_exp.export.step import START
from bbrl_exp.seeding import torch_generator

TOLERANCE = 1e-4  # of a number x: TOLERANCE (1 + |x|)
_NEAR_INPUTS, _NEAR_PARAMETERS, _N_NEAR = 1e-5, 1e-6, 256
_N_AGAIN = 32  # answers to the same question that a policy without random numbers gives alike


class DisagreementError(BbrlExpError):
    """An ONNX model that does not act as its policy does."""


class Comparison(Agent):
    """Comes after the policy in a graph without automatic reset, and asks the model for the same actions.

    The model sees the observations and keeps its own memory. Numbers may differ by rounding, by ``1e-4 (1 + |x|)``.
    Discrete actions are the same, but where two are worth the same up to rounding: where the policy itself takes the
    model's action when its parameters differ by one part in a million, and the numbers that it observes and remembers
    by one part in 100,000.

    Args:
        model: the model.

    Attributes:
        n_steps: environment steps that were compared.
        n_ties: those in which rounding has decided.
        largest_difference: of numbers.

    Raises:
        DisagreementError: when it runs, at the first action that is another one.
    """

    def __init__(self, model: OnnxModel) -> None:
        super().__init__("comparison")
        self.n_steps = self.n_ties = 0
        self.largest_difference = 0.0
        self._model, self._step = model, model.step
        self._memory: dict[str, NDArray[Any]] = {}
        self._t = self._now = 0
        self._generator = torch_generator(0, "comparison")

    @property
    def facts(self) -> dict[str, Any]:
        """What was found, for the card."""
        return {
            "steps": self.n_steps,
            "ties": self.n_ties,
            "largest_difference": self.largest_difference,
            "tolerance": TOLERANCE,
        }

    def forward(self, t: int, **kwargs: Any) -> None:
        """Compares row ``t``, but for environments whose episode is over."""
        inputs = {port.name: self.get((port.variable, t)).numpy() for port in self._step.observations}
        starts = self.get(("env/initial_state", t)).numpy()
        if starts.any():
            self._memory = {
                port.name: np.ones((len(starts), *port.example.shape[1:]), port.example.numpy().dtype)
                for port in self._step.memory
            }
        inputs |= {START: starts} if self._step.has_start else {}
        inputs |= self._memory
        found = self._model.run(inputs)
        self._memory = {name: found[f"next_{name}"] for name in self._memory}
        self._now = t
        self._t = 0 if t == 0 else self._t + 1  # rows of the workspace are dropped on the way
        plays = ~self.get(("env/done", t)).numpy()
        self.n_steps += int(plays.sum())
        for port in self._step.actions:
            chosen = self.get((port.variable, t)).numpy()
            self._compare(port.name, chosen, found[port.name], plays, inputs)

    def _compare(
        self,
        name: str,
        chosen: NDArray[Any],
        found: NDArray[Any],
        plays: NDArray[np.bool_],
        inputs: dict[str, NDArray[Any]],
    ) -> None:
        expected = self._step.clipped(name, torch.from_numpy(chosen)).numpy()
        is_number = expected.dtype.kind == "f"
        if is_number:  # NaN and infinity are refused by the environments, whatever the model says
            plays = plays & np.isfinite(expected).reshape(len(plays), -1).all(axis=1)
        difference = np.abs(found.astype(np.float64) - expected)
        allowed = TOLERANCE * (1.0 + np.abs(expected)) if is_number else np.zeros(())
        is_other = ~(difference <= allowed).reshape(len(plays), -1).all(axis=1) & plays
        if is_number and plays.any():
            self.largest_difference = max(self.largest_difference, float(difference[plays].max()))
        for row in np.flatnonzero(is_other).tolist():
            shown = [torch.from_numpy(value[row : row + 1]) for value in inputs.values()]
            is_random = self._is_random(shown)
            if not is_number and not is_random and self._is_tie(name, found[row], shown):
                self.n_ties += 1
                self._remember(row)
                continue
            raise DisagreementError(
                f"the ONNX model does not act as the policy does: at t={self._t} of episode {row} '{name}' is "
                f"{found[row].tolist()} instead of {expected[row].tolist()}"
                + ("; the policy draws random numbers" if is_random else "")
            )

    def _remember(self, row: int) -> None:
        """What the policy remembers itself, which the action that it has not taken may be a part of."""
        for port in self._step.memory:
            self._memory[port.name][row] = self.get((port.variable, self._now)).numpy()[row]

    def _is_random(self, shown: list[Tensor]) -> bool:
        """Whether the policy itself does not answer the same inputs ``[1, …]`` in one way."""
        first, *others = (self._step(*shown) for _ in range(_N_AGAIN))
        return any(not torch.equal(one, two) for other in others for one, two in zip(first, other, strict=True))

    def _is_tie(self, name: str, found: NDArray[Any], shown: list[Tensor]) -> bool:
        """Whether the policy itself would take that action, were its parameters and inputs a very little different."""
        expected = torch.from_numpy(np.asarray(found))
        for _ in range(_N_NEAR):
            near = {each: self._moved(value, _NEAR_PARAMETERS) for each, value in self._step.named_parameters()}
            outputs = functional_call(self._step, near, tuple(self._moved(value, _NEAR_INPUTS) for value in shown))
            if torch.equal(dict(zip(self._step.outputs, outputs, strict=True))[name][0], expected):
                return True
        return False

    def _moved(self, value: Tensor, by: float) -> Tensor:
        if not value.is_floating_point():
            return value
        noise = torch.randn(value.shape, generator=self._generator, dtype=value.dtype)
        return value.detach() + noise * by * (1.0 + value.detach().abs())
