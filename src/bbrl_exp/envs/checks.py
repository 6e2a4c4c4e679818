"""What is tried with environments before a run begins: a step, and whether the run can be resumed exactly."""

from __future__ import annotations

import copy
import pickle
import random
import warnings
from collections.abc import Sequence

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn

from bbrl_exp.envs.gym_agents import GymAgent
from bbrl_exp.envs.spaces import flattener
from bbrl_exp.errors import BbrlExpError, ConfigurationError, described
from bbrl_exp.seeding import seed_global_generators, untouched_global_generators
from bbrl_exp.workspace import Workspace

_STEPS = 16


def try_out(agent: GymAgent) -> str | None:
    """Resets the environments of ``agent``, which has one, and gives them one action; then plays a few steps twice.

    Returns:
        Why a run may not repeat itself: the same seed and the same actions lead to other rows, or the environment draws
        from a global generator. None where nothing of the kind is seen.

    Raises:
        ConfigurationError: they fail, or show what is not of their declared spaces.
    """
    name = agent.env_spec.env_id
    actions = _actions(copy.deepcopy(agent.action_space), agent, _STEPS)
    with untouched_global_generators(), warnings.catch_warnings():
        seed_global_generators(0)
        before = _generators()
        try:
            _played(agent, Workspace(), actions[:2])
        except Exception as error:
            raise ConfigurationError(f"{name} fails at its first reset or step: {described(error)}") from error
        warnings.simplefilter("ignore")  # what they say of is said again in the run
        rows = []
        for _ in range(2):
            agent.seed(0)
            try:
                rows.append(_played(agent, Workspace(), actions))
            except Exception:
                return None  # the run will say so
        if drawn := [generator for generator, state in _generators().items() if state != before[generator]]:
            return (
                f"{name} draws from the global generator of {' and '.join(drawn)} and not from its own np_random: "
                "results depend on env.workers, and a run may not be resumable"
            )
    for variable in rows[0].keys():  # noqa: SIM118
        # The whole state of vectorised environments is kept, and that is tried elsewhere.
        if not agent.is_vectorized and not torch.equal(rows[0][variable], rows[1][variable]):
            return (
                f"{name} shows another '{variable}' after the same seed and actions: it keeps something from episode "
                "to episode, or draws numbers that no seed reaches; runs may differ, and may not be resumable"
            )
    return None


def _generators() -> dict[str, bytes]:
    """Where the global generators are, to be compared."""
    states = {"random": random.getstate(), "numpy": np.random.get_state(legacy=False)["state"]}
    return {name: pickle.dumps(state) for name, state in states.items()} | {
        "torch": torch.get_rng_state().numpy().tobytes()
    }


def check_vectorized(graph: nn.Module) -> None:
    """Tries the vectorised environments of a graph as :func:`check_resumable` does; their state may be of any kind.

    The global generators are where they were afterwards.

    Raises:
        ConfigurationError: they cannot be saved, or are not deterministic.
    """
    for module in graph.modules():
        if isinstance(module, GymAgent) and module.is_vectorized:
            with untouched_global_generators():
                check_resumable(module)


def forget_actions(graph: nn.Module) -> None:
    """Lets the environments of a graph keep nothing by which they could be resumed, for a run without checkpoints."""
    for module in graph.modules():
        if isinstance(module, GymAgent):
            module.forget_actions()


def check_resumable(agent: GymAgent) -> None:
    """Plays a few steps, takes up the state in other environments, and compares what both show in the next steps.

    Two environment agents like ``agent`` are made for it, and closed. It cannot see what an environment does otherwise
    later in an episode; a run that is resumed checks that again.

    Raises:
        ConfigurationError: they cannot be saved, or are not deterministic.
    """
    first, second = copy.deepcopy(agent), copy.deepcopy(agent)
    try:
        actions = _actions(copy.deepcopy(agent.action_space), agent, 2 * _STEPS)
        _played(first, Workspace(), actions[_STEPS:])  # an episode before, of which nothing may be left
        workspace = _played(first, Workspace(), actions[:_STEPS])
        second.load_run_state(first.run_state())
        rows = [_played(one, Workspace(workspace), actions[_STEPS:]) for one in (first, second)]
        for name in rows[0].keys():  # noqa: SIM118
            if not torch.equal(rows[0][name], rows[1][name]):
                raise BbrlExpError(
                    f"{agent.env_spec.env_id} is not deterministic: played twice with the same seed and actions, it "
                    f"shows two different '{name}'"
                )
    except ConfigurationError:
        raise
    except BbrlExpError as error:
        raise ConfigurationError(str(error)) from error
    finally:
        first.close()
        second.close()


def _played(agent: GymAgent, workspace: Workspace, actions: Sequence[Sequence[Tensor]]) -> Workspace:
    for leaves in actions:
        t = workspace.time_size() if workspace.keys() else 0
        agent(workspace, t=t)
        for leaf, values in zip(agent.env_spec.actions, leaves, strict=True):
            workspace.set(leaf.name, t, values)
    return workspace


def _actions(space: gymnasium.Space[object], agent: GymAgent, n_steps: int) -> list[list[Tensor]]:
    space.seed(0)
    flatten = flattener(space)
    steps = []
    for _ in range(n_steps):
        values = [flatten(space.sample()) for _ in range(agent.batch_size)]
        leaves = zip(*values, strict=True)
        steps.append([torch.from_numpy(np.stack([np.asarray(value) for value in leaf])) for leaf in leaves])
    return steps
