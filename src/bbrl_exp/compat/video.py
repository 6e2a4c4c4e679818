"""BBRL's ``record_video``: one episode of a policy as a film."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch

from bbrl_exp.agents.agent import Agent as CoreAgent
from bbrl_exp.agents.combinators import TemporalAgent
from bbrl_exp.compat.shown import Env
from bbrl_exp.compat.workspace import Workspace
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.records.files import replace_file
from bbrl_exp.training.animation import film

_MOST_FRAMES = 10_000
_FRAMES_PER_SECOND = 30.0


def record_video(env: Env, policy: CoreAgent, path: str | os.PathLike[str]) -> Path:
    """Plays one episode and films it: MP4 with the extra ``video``, else GIF.

    Args:
        env: an environment made with ``render_mode="rgb_array"``; it is closed afterwards.
        policy: an agent that writes ``action``, also inside a TemporalAgent.
        path: the folder; its suffix, if it has one, is left out.

    Returns:
        The file, ``rl-video-episode-0`` in that folder.

    Raises:
        ConfigurationError: an environment that shows no pictures.
    """
    if env.render_mode != "rgb_array":
        raise ConfigurationError(
            f"record_video: the environment has render_mode={env.render_mode!r}; make it with render_mode='rgb_array'"
        )
    played = _Episode(env, policy.agent if isinstance(policy, TemporalAgent) else policy)
    suffix = ".mp4" if importlib.util.find_spec("imageio_ffmpeg") else ".gif"
    animation = film(cast(Any, played), _MOST_FRAMES, suffix)
    file = Path(path).resolve().with_suffix("") / f"rl-video-episode-0{suffix}"
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_file(file, animation.data)
    env.close()
    return file


class _Episode:
    """One episode of a policy in one environment, in the way in which :func:`film` plays it."""

    def __init__(self, env: Env, policy: CoreAgent) -> None:
        self._env, self._policy = env, policy
        rate = env.metadata.get("render_fps") or _FRAMES_PER_SECOND
        spec = SimpleNamespace(env_id=env.spec.id if env.spec else type(env.unwrapped).__name__)
        self.environments = SimpleNamespace(env_spec=spec, frames_per_second=rate, frame=lambda _: env.render())

    @torch.no_grad()
    def run(self, stopped: Callable[[], bool], after_step: Callable[[], None]) -> None:
        observation, _ = self._env.reset()
        workspace, t, is_done = Workspace(), 0, False
        after_step()
        while not is_done and not stopped():
            workspace.set("env/env_obs", t, torch.as_tensor(np.asarray(observation, np.float32)).unsqueeze(0))
            self._policy(workspace, t=t)
            action = workspace.get("action", t)[0].numpy()
            observation, _, terminated, truncated, _ = self._env.step(action if action.shape else action.item())
            is_done, t = terminated or truncated, t + 1
            after_step()
