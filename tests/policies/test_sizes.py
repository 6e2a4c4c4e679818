"""Sizes and numbers of steps that are not whole numbers are refused by the constructor, by their own names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from continuous import spec_of

from bbrl_exp.envs import EnvSpec
from bbrl_exp.envs.spec import LeafSpec
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.nn.recurrent import GRU, LSTM
from bbrl_exp.policies.deterministic import DeterministicPolicy
from bbrl_exp.policies.population import PopulationPolicy
from bbrl_exp.policies.q_ensemble import DiscreteQEnsemble, QEnsemble
from bbrl_exp.policies.q_recurrent import RecurrentQPolicy
from bbrl_exp.policies.q_values import QPolicy
from bbrl_exp.policies.recurrent import MemoryCritic, RecurrentPolicy, SharedMemoryCritic
from bbrl_exp.policies.squashed import SquashedNormalPolicy
from bbrl_exp.policies.stochastic import StochasticPolicy
from bbrl_exp.policies.values import ValueCritic

BOXES = spec_of()
CHOICES = EnvSpec(
    "Choices-v0", 2, BOXES.observations, (LeafSpec("action", "discrete", (), "int64", counts=np.array(4)),)
)

LISTS: dict[str, tuple[str, Callable[..., object]]] = {
    "stochastic": ("hidden_sizes", lambda **sizes: StochasticPolicy(BOXES, **sizes)),
    "deterministic": ("hidden_sizes", lambda **sizes: DeterministicPolicy(BOXES, **sizes)),
    "squashed": ("hidden_sizes", lambda **sizes: SquashedNormalPolicy(BOXES, **sizes)),
    "q values": ("hidden_sizes", lambda **sizes: QPolicy(CHOICES, **sizes)),
    "population": ("hidden_sizes", lambda **sizes: PopulationPolicy(BOXES, **sizes)),
    "critic": ("hidden_sizes", lambda **sizes: ValueCritic(BOXES, **sizes)),
    "critics": ("hidden_sizes", lambda **sizes: QEnsemble(BOXES, **sizes)),
    "discrete critics": ("hidden_sizes", lambda **sizes: DiscreteQEnsemble(CHOICES, **sizes)),
    "recurrent": ("head_sizes", lambda **sizes: RecurrentPolicy(BOXES, **sizes)),
    "recurrent q values": ("head_sizes", lambda **sizes: RecurrentQPolicy(CHOICES, **sizes)),
    "shared memory": ("head_sizes", lambda **sizes: SharedMemoryCritic(RecurrentPolicy(BOXES), **sizes)),
    "memory": ("head_sizes", lambda **sizes: MemoryCritic(BOXES, **sizes)),
}
NUMBERS: dict[str, tuple[str, int, Callable[..., object]]] = {
    "first steps": ("random_steps", 0, lambda **number: DeterministicPolicy(BOXES, **number)),
    "first steps of sac": ("random_steps", 0, lambda **number: SquashedNormalPolicy(BOXES, **number)),
    "atoms": ("n_atoms", 2, lambda **number: QPolicy(CHOICES, distribution="quantile", **number)),
    "critics": ("n_critics", 1, lambda **number: QEnsemble(BOXES, **number)),
    "quantiles": ("n_quantiles", 1, lambda **number: QEnsemble(BOXES, **number)),
    "discrete critics": ("n_critics", 1, lambda **number: DiscreteQEnsemble(CHOICES, **number)),
    "candidates": ("population_size", 1, lambda **number: PopulationPolicy(BOXES, **number)),
    "episodes": ("episodes_per_candidate", 1, lambda **number: PopulationPolicy(BOXES, **number)),
    "units": ("n_hidden", 1, lambda **number: GRU(n_inputs=2, **number)),
    "units of an lstm": ("n_hidden", 1, lambda **number: LSTM(n_inputs=2, **number)),
}


@pytest.mark.parametrize("case", LISTS)
def test_sizes_of_layers_are_whole_numbers_of_at_least_1(case: str) -> None:
    name, make = LISTS[case]
    make(**{name: [np.int64(8), 4]})
    for sizes in ([0], [8, 2.5], [True], 8, "8", [-1]):
        with pytest.raises(ConfigurationError, match=f"^{name}=.*: must be a list of whole numbers, none below 1$"):
            make(**{name: sizes})


@pytest.mark.parametrize("case", NUMBERS)
def test_numbers_of_things_are_whole(case: str) -> None:
    name, least, make = NUMBERS[case]
    make(**{name: np.int64(least + 1)})
    values: list[tuple[Any, str]] = [(least - 1, ""), (2.5, "a whole number, "), (True, "a whole number, ")]
    for value, kind in values:
        with pytest.raises(ConfigurationError, match=f"^{name}={value}: must be {kind}at least {least}$"):
            make(**{name: value})
