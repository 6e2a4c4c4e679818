"""An episode as an animated picture."""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from bbrl_exp.errors import BbrlExpError, ConfigurationError
from bbrl_exp.training.evaluation import Evaluator

MOST_FRAMES = 1000
_MOST_FRAMES_PER_SECOND = 50


class Animation(NamedTuple):
    """An animated GIF: the bytes of its file, and width and height in pixels."""

    data: bytes
    size: tuple[int, int]


def film(evaluator: Evaluator, most_frames: int = MOST_FRAMES) -> Animation:
    """Plays the episode of the first environment and shows its first steps.

    Args:
        evaluator: of environments that show frames.
        most_frames: how many steps at most; the episode is given up after them.

    Raises:
        ConfigurationError: the environment shows no pictures.
    """
    environments = evaluator.environments
    frames: list[Image.Image] = []

    def look() -> None:
        frame: object = environments.frame(0)
        if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3:
            raise ConfigurationError(
                f"{environments.env_spec.env_id} cannot be animated: its frames are not uint8 [H, W, 3]"
            )
        frames.append(Image.fromarray(frame).convert("P", palette=Image.Palette.ADAPTIVE))

    evaluator.run(stopped=lambda: len(frames) >= most_frames, after_step=look)
    milliseconds = round(1000 / min(environments.frames_per_second, _MOST_FRAMES_PER_SECOND))
    file = io.BytesIO()
    frames[0].save(file, "gif", save_all=True, append_images=frames[1:], duration=milliseconds, loop=0)
    return Animation(file.getvalue(), frames[0].size)


def record(evaluator: Evaluator, path: Path) -> None:
    """Writes the animation of :func:`film` as a file.

    Raises:
        ConfigurationError: the environment shows no pictures.
        BbrlExpError: the file cannot be written.
    """
    animation = film(evaluator)
    try:
        path.write_bytes(animation.data)
    except OSError as error:
        raise BbrlExpError(f"cannot write '{path}': {error.strerror or error}") from error
