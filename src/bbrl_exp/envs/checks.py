"""What is tried with environments before a run begins: a step, and whether the run can be resumed exactly."""

from __future__ import annotations

import copy
import math
import pickle
import random
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bbrl_exp.agents.object_state import not_stored
from bbrl_exp.envs.environment_agent import EnvironmentAgent
from bbrl_exp.envs.spec import EnvSpec, LeafSpec
from bbrl_exp.errors import BbrlExpError, ConfigurationError, described, is_of_user_code
from bbrl_exp.seeding import seed_global_generators, untouched_global_generators
from bbrl_exp.workspace import Workspace

_STEPS, _MOST_STEPS = 16, 240


def try_out(agent: EnvironmentAgent) -> str | None:
    """Resets the environments of ``agent``, which has one, and gives them one action; then plays a few steps twice.

    Returns:
        Why a run may not repeat itself: the same seed and the same actions lead to other rows, or the environment draws
        from a global generator. None where nothing of the kind is seen.

    Raises:
        ConfigurationError: they fail, or show what is not of their declared spaces.
    """
    name = agent.env_spec.env_id
    actions = random_actions(agent.env_spec, _STEPS)
    with untouched_global_generators(), warnings.catch_warnings():
        seed_global_generators(0)
        before = _generators()
        try:
            agent.seed(0)
            played(agent, Workspace(), actions[:2])
        except BaseException as error:
            if not is_of_user_code(error):
                raise
            raise ConfigurationError(f"{name} fails at its first reset or step: {described(error)}") from error
        warnings.simplefilter("ignore")  # what they say of is said again in the run
        rows = []
        for _ in range(2):
            agent.seed(0)
            try:
                rows.append(played(agent, Workspace(), actions))
            except Exception:
                return None  # the run reports it
        if drawn := [generator for generator, state in _generators().items() if state != before[generator]]:
            return (
                f"{name} draws from the global generator of {' and '.join(drawn)} and not from its own np_random: "
                "results depend on env.workers, and a run may not be resumable"
            )
    for variable in rows[0].keys():  # noqa: SIM118
        if agent.repeats_itself and not torch.equal(rows[0][variable], rows[1][variable]):
            return (
                f"{name} shows another '{variable}' after the same seed and actions: it keeps something from episode "
                "to episode, or draws numbers that no seed reaches; runs may differ, and may not be resumable"
            )
    return None


def check_evaluation(agent: EnvironmentAgent) -> None:
    """Makes an environment for evaluations and plays a step; global generators are where they were afterwards.

    Raises:
        ConfigurationError: it fails, or is not an environment agent without automatic reset.
    """
    name = agent.env_spec.env_id
    with untouched_global_generators(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            evaluating: object = agent.for_evaluation(1, 0, "eval")
            if not isinstance(evaluating, EnvironmentAgent) or evaluating.auto_reset or evaluating.batch_size != 1:
                raise ConfigurationError(
                    "for_evaluation(1, …) must give an environment agent with batch_size 1 and auto_reset false"
                )
            with closing(evaluating):
                played(evaluating, Workspace(), random_actions(evaluating.env_spec, 2))
        except BaseException as error:
            if not is_of_user_code(error):
                raise
            said = str(error) if isinstance(error, ConfigurationError) else described(error)
            raise ConfigurationError(f"{name} cannot be evaluated: {said}") from error


def _generators() -> dict[str, bytes]:
    """Where the global generators are, to be compared."""
    states = {"random": random.getstate(), "numpy": np.random.get_state(legacy=False)["state"]}
    return {name: pickle.dumps(state) for name, state in states.items()} | {
        "torch": torch.get_rng_state().numpy().tobytes()
    }


def forget_actions(graph: nn.Module) -> None:
    """Lets the environments of a graph keep nothing by which they could be resumed, for a run without checkpoints."""
    for module in graph.modules():
        if isinstance(module, EnvironmentAgent):
            module.forget_actions()


def why_not_resumable(agent: EnvironmentAgent, make: Callable[[], EnvironmentAgent]) -> str | None:
    """Why a run in environments like those of ``agent`` cannot be resumed; None where nothing is known against it.

    The global generators are where they were afterwards.

    Args:
        agent: what it says of itself counts first.
        make: gives others like it, with the same arguments.
    """
    if agent.not_resumable is not None or agent.replays_actions:
        return agent.not_resumable
    try:
        with untouched_global_generators():
            check_resumable(make)
    except ConfigurationError as error:
        return str(error)
    return None


def check_resumable(make: Callable[[], EnvironmentAgent]) -> None:
    """Plays a few steps, takes up the state in other environments, and compares what both show in the next steps.

    It cannot see what an environment does otherwise later in an episode; a run that is resumed checks that again where
    it plays episodes once more.

    Args:
        make: gives environment agents with the same arguments; two are made, and closed.

    Raises:
        ConfigurationError: they cannot be saved, or show other rows than they would have.
    """
    with closing(make()) as first, closing(make()) as second:
        try:
            actions = random_actions(first.env_spec, 2 * _STEPS + _MOST_STEPS)
            played(first, Workspace(), actions[_STEPS : 2 * _STEPS])  # an episode before, of which nothing may be left
            workspace = played(first, Workspace(), actions[:_STEPS])
            state = first.run_state()
            if (problem := not_stored(state, f"{first.env_spec.env_id}.run_state()")) is not None:
                raise ConfigurationError(f"{problem}: must be tensors and plain Python")
            second.load_run_state(copy.deepcopy(state))
            rows = [Workspace(workspace), Workspace(workspace)]
            for begin in range(_STEPS, len(actions), _STEPS):  # into the next episode, as far as that is near
                for one, recorded in zip((first, second), rows, strict=True):
                    played(one, recorded, actions[begin : begin + _STEPS])
                if bool(rows[0]["env/done"][_STEPS:-_STEPS].any()):
                    break
        except BaseException as error:
            if not is_of_user_code(error):
                raise
            said = str(error) if isinstance(error, BbrlExpError) else f"{first.env_spec.env_id}: {described(error)}"
            raise ConfigurationError(said) from error
        for name in rows[0].keys():  # noqa: SIM118
            if not torch.equal(rows[0][name], rows[1][name]):
                raise ConfigurationError(
                    f"{first.env_spec.env_id} is not deterministic, or its run_state leaves something out: taken up "
                    f"elsewhere, it shows another '{name}' after the same actions"
                )


def row_bytes(agent: EnvironmentAgent) -> int:
    """Memory of one row of what the agent writes and of the actions that it reads, in bytes."""
    rows = [
        *agent.layout.values(),
        *(((agent.batch_size, *leaf.shape), np.dtype(leaf.dtype)) for leaf in agent.env_spec.actions),
    ]
    return sum(math.prod(shape) * dtype.itemsize for shape, dtype in rows)


def played(agent: EnvironmentAgent, workspace: Workspace, actions: Sequence[Sequence[Tensor]]) -> Workspace:
    """The workspace after a row for each step of ``actions``, and that step's actions in it."""
    for leaves in actions:
        t = workspace.time_size() if workspace.keys() else 0
        agent(workspace, t=t)
        for leaf, values in zip(agent.env_spec.actions, leaves, strict=True):
            workspace.set(leaf.name, t, values.to(agent.agent_device))
    return workspace


def random_actions(spec: EnvSpec, n_steps: int, seed: int = 0) -> list[list[Tensor]]:
    """For each step a value ``[B, *shape]`` of each leaf of the action, on the CPU."""
    generator = np.random.default_rng(seed)
    return [
        [torch.from_numpy(_random(leaf, spec.batch_size, generator)) for leaf in spec.actions] for _ in range(n_steps)
    ]


def _random(leaf: LeafSpec, batch_size: int, generator: np.random.Generator) -> NDArray[Any]:
    shape = (batch_size, *leaf.shape)
    if leaf.counts is not None:
        counted = generator.integers(0, leaf.counts, shape) + (0 if leaf.start is None else leaf.start)
        return np.asarray(counted, leaf.dtype)
    low, high = (np.asarray(0.0 if bound is None else bound, np.float64) for bound in (leaf.low, leaf.high))
    # Where a bound is infinite, values are about 1 away from the other one, or from 0.
    low = np.where(np.isfinite(low), low, np.where(np.isfinite(high), high, 0.0) - 1.0)
    high = np.where(np.isfinite(high), high, low + 2.0)
    values = low + (high - low) * generator.random(shape)
    return np.asarray(values if leaf.dtype.startswith("float") else np.floor(values), leaf.dtype)
