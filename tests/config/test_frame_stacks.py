"""A stack of frames is a matter of the configuration: one wrapper, and the workspace holds stacks of uint8."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from bbrl_exp.runs.run import build_graph
from bbrl_exp.workspace import Workspace


class Brightening(gymnasium.Env[NDArray[np.uint8], np.int64]):
    """A frame of 8 x 8 pixels, all of brightness 10 k after k steps."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0, 255, (8, 8), np.uint8)
        self.action_space = spaces.Discrete(2)
        self._n_steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        super().reset(seed=seed)
        self._n_steps = 0
        return self._frame(), {}

    def step(self, action: np.int64) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        self._n_steps += 1
        return self._frame(), 0.0, False, False, {}

    def _frame(self) -> NDArray[np.uint8]:
        return np.full((8, 8), 10 * self._n_steps, np.uint8)


@pytest.mark.parametrize("agent", ["ppo", "dqn"])
def test_a_frame_stack_is_given_on_the_command_line(agent: str) -> None:
    gymnasium.register("Brightening-v0", entry_point=Brightening)
    try:
        graph = build_graph(
            [
                f"agent={agent}",
                "env=gym",
                "env.id=Brightening-v0",
                "batch_size=2",
                "+env.wrappers.stack={_target_: gymnasium.wrappers.FrameStackObservation, stack_size: 4}",
            ]
        )
    finally:
        gymnasium.registry.pop("Brightening-v0")
    workspace = Workspace()
    with torch.no_grad():
        graph(workspace, t=0, n_steps=6)
    graph.close()
    stacks = workspace["env/env_obs"]
    assert (stacks.dtype, stacks.shape) == (torch.uint8, (6, 2, 4, 8, 8))
    # The first frame stands for those that there were none of.
    brightness = [[10 * max(t - back, 0) for back in (3, 2, 1, 0)] for t in range(6)]
    assert torch.equal(stacks, torch.tensor(brightness, dtype=torch.uint8)[:, None, :, None, None].expand_as(stacks))
