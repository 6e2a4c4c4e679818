"""BBRL's pictures of policies and critics over the first two components of the observation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from numpy.typing import NDArray
from torch import Tensor

from bbrl_exp.agents.agent import Agent as CoreAgent
from bbrl_exp.compat.gym import GymAgent
from bbrl_exp.compat.workspace import Workspace
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.workspace import Workspace as CoreWorkspace

_LARGEST = 1e20
_POLICY = "policy"


def final_show(
    save_figure: bool, plot: bool, directory: str, figure_name: str, x_label: str, y_label: str, title: str
) -> None:
    """Labels the current figure of matplotlib, writes it as ``directory/figure_name`` or shows it, and closes it."""
    from matplotlib import pyplot

    pyplot.xlabel(x_label)
    pyplot.ylabel(y_label)
    pyplot.title(title)
    if save_figure:
        Path(directory).mkdir(parents=True, exist_ok=True)
        pyplot.savefig(Path(directory) / figure_name)
    if plot:
        pyplot.show()
    pyplot.close()


def plot_policy(
    actor: CoreAgent,
    env: GymAgent,
    best_reward: Any,
    directory: str,
    env_name: str | None = None,
    plot: bool = False,
    save_fig: bool = True,
    definition: int = 100,
    var_name_obs: str = "env/env_obs",
    var_name_action: str = "action",
    **kwargs: Any,
) -> None:
    """A picture of each component of the actions.

    Components of the observation beyond the first two are drawn from -0.5 to 0.5. The files are
    ``<directory>/<env_name>_policies/policy_<env_name>_dim_<i>_<best_reward>.png``.

    Args:
        actor: writes ``var_name_action``, called with ``t=0`` and ``kwargs``.
        env: environments with a Box of at least two components.
        best_reward: a part of the file's name.
        directory: where the files are written.
        env_name: a part of the names; the id by default.
        plot: whether the pictures are shown.
        save_fig: whether the files are written.
        definition: points per axis.
        var_name_obs: the variable of the observations.
        var_name_action: the variable of the actions.
        kwargs: keywords of the actor.

    Raises:
        ConfigurationError: another observation space.
    """
    name, workspace = _name_of(env, env_name), Workspace()
    workspace.set_full(var_name_obs, _grid(env, definition))
    actor(workspace, t=0, **kwargs)
    actions = _values(workspace, var_name_action, definition)
    for component in range(actions.shape[-1]):
        _draw(env, actions[..., component], "action")
        file = f"policy_{name}_dim_{component}_{_number(best_reward)}.png"
        title = f"{name} Actor (action dim: {component})"
        final_show(save_fig, plot, f"{directory}/{name}_policies", file, *_axes(env), title)


def plot_critic(
    agent: CoreAgent,
    env: GymAgent,
    best_reward: Any,
    directory: str,
    env_name: str | None = None,
    plot: bool = False,
    save_fig: bool = True,
    definition: int = 100,
    input_action: Any = None,
    var_name_obs: str = "env/env_obs",
    var_name_action: str = "action",
    var_name_value: str | None = None,
    **kwargs: Any,
) -> None:
    """A picture of the values of a critic, ``<directory>/<env_name>_critics/critic_<env_name>_<best_reward>.png``.

    Args:
        agent: a critic; with the attribute ``is_q_function`` it reads an action.
        env: environments with a Box of at least two components.
        best_reward: a part of the file's name.
        directory: where the file is written.
        env_name: a part of the names; the id by default.
        plot: whether the picture is shown.
        save_fig: whether the file is written.
        definition: points per axis.
        input_action: the action of a critic that reads one; a random one by default.
        var_name_obs: the variable of the observations.
        var_name_action: the variable of the actions.
        var_name_value: the variable of the values; ``<name>/q_values`` or ``<name>/v_values`` by default.
        kwargs: keywords of the critic.

    Raises:
        ConfigurationError: another observation space.
    """
    is_q = getattr(agent, "is_q_function", False)
    workspace = Workspace()
    workspace.set_full(var_name_obs, _grid(env, definition))
    if is_q:
        action = torch.as_tensor(env.get_action_space().sample() if input_action is None else input_action)
        workspace.set_full(var_name_action, action.expand(1, definition**2, *action.shape).clone())
    variable = _value_name(agent, var_name_value, is_q)
    agent(workspace, t=0, **kwargs)
    _draw_critic(
        env, _values(workspace, variable, definition)[..., 0], best_reward, directory, env_name, plot, save_fig
    )


def plot_discrete_q(
    agent: CoreAgent,
    env: GymAgent,
    best_reward: Any,
    directory: str,
    env_name: str | None = None,
    plot: bool = False,
    save_fig: bool = True,
    definition: int = 100,
    input_action: int | str | None = None,
    var_name_obs: str = "env/env_obs",
    var_name_action: str = "action",
    var_name_value: str | None = None,
    **kwargs: Any,
) -> None:
    """As :func:`plot_critic`, of a critic that writes a value for each action.

    ``input_action`` is an action, None for the value of the best one, or ``"policy"`` for which one that is.
    """
    workspace = Workspace()
    workspace.set_full(var_name_obs, _grid(env, definition))
    agent(workspace, t=0, **kwargs)
    values = _values(workspace, _value_name(agent, var_name_value, True), definition)
    if input_action is None:
        shown = values.max(axis=-1)
    elif input_action == _POLICY:
        shown = values.argmax(axis=-1)
    else:
        shown = values[..., int(input_action)]
    _draw_critic(env, shown, best_reward, directory, env_name, plot, save_fig)


def plot_trajectory(
    data: CoreWorkspace | NDArray[Any],
    fig_index: int = 1,
    x_plot: int = 0,
    y_plot: int = 1,
    x_label: str = "x",
    y_label: str = "y",
    obs_key: str = "env/env_obs",
    title: str = "Trajectory",
    save_figure: bool = True,
    plot: bool = True,
) -> None:
    """The points of two components of the observations ``[T, B, D]``: ``plots/trajectory_<fig_index>.pdf``."""
    from matplotlib import pyplot

    observations = data.get_full(obs_key).numpy() if isinstance(data, CoreWorkspace) else np.asarray(data)
    colours = np.repeat(np.arange(observations.shape[1])[None], len(observations), 0)
    x, y = observations[..., x_plot], observations[..., y_plot]
    pyplot.figure()
    pyplot.scatter(x, y, c=colours, cmap="viridis", alpha=0.7, s=1)
    final_show(save_figure, plot, "plots", f"trajectory_{fig_index}.pdf", x_label, y_label, title)


def plot_histograms(
    rewards_list: Sequence[Any],
    labels: Sequence[str],
    colors: Sequence[str],
    title: str,
    directory: str,
    plot: bool = True,
    save_figure: bool = True,
) -> None:
    """Bars of sorted returns beside each other: ``<directory>/<title>-indep_vs_svpg.png``."""
    from matplotlib import pyplot

    width = 0.5 / len(rewards_list)
    pyplot.figure()
    for index, (rewards, colour) in enumerate(zip(rewards_list, colors, strict=False)):
        ordered = np.sort(rewards)[::-1]
        pyplot.bar(np.arange(len(ordered)) + width * index, ordered, width=width, color=colour)
    pyplot.legend(labels=labels)
    pyplot.xticks([], [])
    final_show(save_figure, plot, directory, f"{title}-indep_vs_svpg.png", "", "rewards", title)


def _bounds(env: GymAgent) -> tuple[NDArray[Any], NDArray[Any]]:
    space = env.get_observation_space()
    if not isinstance(space, Box) or len(space.shape) != 1 or space.shape[0] < 2:
        raise ConfigurationError(f"a picture needs a Box observation of at least two components, found {space}")
    return np.clip(space.low, -_LARGEST, _LARGEST), np.clip(space.high, -_LARGEST, _LARGEST)


def _grid(env: GymAgent, definition: int) -> Tensor:
    low, high = _bounds(env)
    points = np.random.uniform(-0.5, 0.5, (definition, definition, len(low)))
    points[..., 0] = np.linspace(low[0], high[0], definition)[:, None]
    points[..., 1] = np.linspace(low[1], high[1], definition)[None, :]
    return torch.as_tensor(points.reshape(1, definition**2, len(low)), dtype=torch.float32)


def _values(workspace: Workspace, name: str, definition: int) -> NDArray[Any]:
    values: NDArray[Any] = workspace.get_full(name).detach().reshape(definition, definition, -1).numpy()
    return values


def _draw(env: GymAgent, portrait: NDArray[Any], label: str) -> None:
    from matplotlib import pyplot

    low, high = _bounds(env)
    pyplot.figure(figsize=(10, 10))
    extent = (low[0], high[0], low[1], high[1])
    pyplot.imshow(portrait.T, cmap="inferno", extent=extent, origin="lower", aspect="auto")
    pyplot.colorbar(label=label)
    pyplot.scatter([0], [0])


def _draw_critic(
    env: GymAgent,
    portrait: NDArray[Any],
    best_reward: Any,
    directory: str,
    env_name: str | None,
    plot: bool,
    save_fig: bool,
) -> None:
    name = _name_of(env, env_name)
    _draw(env, portrait, "critic value")
    file = f"critic_{name}_{_number(best_reward)}.png"
    final_show(save_fig, plot, f"{directory}/{name}_critics", file, *_axes(env), f"{name} critic")


def _axes(env: GymAgent) -> tuple[str, str]:
    names = getattr(env.get_observation_space(), "names", ("x", "y"))
    return str(names[0]), str(names[1])


def _value_name(agent: CoreAgent, given: str | None, is_q: bool) -> str:
    return given if given and given != "None" else f"{agent.name}/{'q' if is_q else 'v'}_values"


def _name_of(env: GymAgent, given: str | None) -> str:
    return given or env.env_spec.env_id


def _number(best_reward: Any) -> Any:
    return best_reward.item() if isinstance(best_reward, Tensor) else best_reward
