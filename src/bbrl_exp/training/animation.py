"""An episode as an animated picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from bbrl_exp.errors import BbrlExpError, ConfigurationError
from bbrl_exp.training.evaluation import Evaluator

_MOST_FRAMES = 1000
_DEFAULT_FRAMES_PER_SECOND = 30
_MOST_FRAMES_PER_SECOND = 50


def record(evaluator: Evaluator, path: Path) -> None:
    """Plays the episode of the first environment and writes it as an animated GIF, its first 1,000 steps at most.

    Args:
        evaluator: of environments made with ``render_mode="rgb_array"``.
        path: the file.

    Raises:
        ConfigurationError: the environment shows no pictures.
        BbrlExpError: the file cannot be written.
    """
    environment = evaluator.environments.envs[0]
    frames: list[Image.Image] = []

    def look() -> None:
        if len(frames) < _MOST_FRAMES:
            frame = environment.render()
            if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3:
                name = evaluator.environments.env_spec.env_id
                raise ConfigurationError(f"{name} cannot be animated: it shows no pictures (rgb_array)")
            frames.append(Image.fromarray(frame).convert("P", palette=Image.Palette.ADAPTIVE))

    evaluator.run(after_step=look)
    per_second = environment.metadata.get("render_fps") or _DEFAULT_FRAMES_PER_SECOND
    milliseconds = round(1000 / min(per_second, _MOST_FRAMES_PER_SECOND))
    try:
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=milliseconds, loop=0)
    except OSError as error:
        raise BbrlExpError(f"cannot write '{path}': {error.strerror or error}") from error
