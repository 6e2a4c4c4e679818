"""What the memories of a finished run keep: an episode of its policy, the states, and how long inputs matter."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbrl_exp.agents.agent import Agent
from bbrl_exp.config.schema import ACTING
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.functional.influence import influence
from bbrl_exp.functional.saturation import saturated_fraction
from bbrl_exp.policies.memories import OwnedMemory, memories_of
from bbrl_exp.reports.memory_picture import SeenEpisode, SeenMemory
from bbrl_exp.runs.evaluator import FINAL, build_evaluator
from bbrl_exp.runs.policy import SavedRun
from bbrl_exp.tracking.memories import states_in
from bbrl_exp.training.saved_state import Which
from bbrl_exp.workspace import Workspace

if TYPE_CHECKING:
    from bbrl_exp.records.metrics import Acting

_REWARD = "env/reward"
MOST_OUTPUTS = 100  # whose gradients are computed, evenly spaced over the episode


class _Recorder(Agent):
    """Keeps the rows of variables, whatever is cut from the workspace later.

    Args:
        names: the variables, beside the states of all memories.
        source: the folder or file of the policy, for the message.

    Raises:
        ConfigurationError: in the first row, where there is no memory.
    """

    def __init__(self, names: Iterable[str], source: Path) -> None:
        super().__init__("recorder")
        self._source = source
        self._rows: dict[str, list[Tensor]] = {name: [] for name in names}

    def forward(self, t: int, **kwargs: Any) -> None:
        """Copies row ``t``."""
        assert self.workspace is not None
        states = states_in(self.workspace)
        if not states:
            known = "docs/partial_observability.md names the agents that have one"
            raise ConfigurationError(f"{self._source}: no agent of this run has a memory; {known}")
        for name in dict.fromkeys([*self._rows, *states]):
            self._rows.setdefault(name, []).append(self.workspace.get(name, t).clone())

    def recorded(self) -> Workspace:
        """A workspace with all rows."""
        workspace = Workspace()
        for name, rows in self._rows.items():
            workspace.set_full(name, torch.stack(rows))
        return workspace


def see_memory(
    run_folder: str | os.PathLike[str], which: Which = "last", seed: int | None = None, policy: Acting | None = None
) -> SeenEpisode:
    """Plays an episode, the first that :func:`bbrl_exp.evaluate` plays, and looks at the memories of the agents.

    Args:
        run_folder: the folder of the run, or the ``.safetensors`` file of an exported policy.
        which: ``last``, or ``best`` by the evaluations along the run.
        seed: root of the episode; None for the run's own ``eval.seed``.
        policy: ``mode`` takes the most likely actions, ``sample`` samples them; None does what the run is judged by.

    Raises:
        ConfigurationError: a folder or an argument that cannot be used, or a run without a memory.
    """
    if policy not in (None, *ACTING):
        raise ConfigurationError(f"policy={policy!r}: must be {' or '.join(ACTING)}")
    saved = SavedRun.read(run_folder, which)
    with contextlib.closing(build_evaluator(saved.config, FINAL, 1, seed=seed, acting=policy)) as evaluator:
        if saved.graph_state:
            evaluator.load(saved.graph_state)
        memories = {each.state_name: each for each in memories_of(evaluator.graph)}
        spec = evaluator.environments.env_spec
        observations, actions = ([leaf.name for leaf in leaves] for leaves in (spec.observations, spec.actions))
        inputs = [name for each in memories.values() for name in each.memory.names]
        recorder = _Recorder([*observations, *actions, _REWARD, *inputs], saved.source)
        evaluator.add_observer(recorder)
        evaluation = evaluator.run()
        assert evaluation is not None
        recorded = recorder.recorded()
        return SeenEpisode(
            env_id=spec.env_id,
            acting=evaluation.acting,
            env_steps=saved.env_steps,
            total_reward=evaluation.returns[0],
            observations={name: _rows(recorded, name) for name in observations},
            actions={name: _rows(recorded, name)[:-1] for name in actions},
            rewards=_rows(recorded, _REWARD),
            memories=tuple(_seen(name, recorded, memories.get(name), actions) for name in states_in(recorded)),
        )


def _seen(variable: str, recorded: Workspace, owned: OwnedMemory | None, actions: Sequence[str]) -> SeenMemory:
    """What is to be seen of a memory; of one that is no :class:`Memory` the states alone."""
    name, states = variable.removesuffix("/state"), recorded[variable]
    if owned is None:
        return SeenMemory(name, None, states[:, 0].numpy())
    units = owned.memory.cell.bounded_units(states[1:])
    inputs = owned.inputs(recorded)[:-1, 0]  # no action is taken in the last row
    taken = [recorded[action][:-1, 0] for action in actions]
    times = np.unique(np.linspace(0, len(inputs) - 1, MOST_OUTPUTS).round().astype(int)).tolist()
    return SeenMemory(
        name,
        f"{type(owned.memory.cell).__name__}, state of {owned.memory.cell.state_size} numbers",
        states[:, 0].numpy(),
        None if units is None else float(saturated_fraction(units)),
        owned.head_in_words,
        influence(lambda copies: owned.head_of(copies, taken), inputs, times),
    )


def _rows(recorded: Workspace, name: str) -> NDArray[Any]:
    return np.asarray(recorded[name][:, 0].numpy())
