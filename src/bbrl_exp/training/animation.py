"""An episode as an animated picture: GIF, or MP4 with the extra ``video``."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bbrl_exp.errors import BbrlExpError, ConfigurationError
from bbrl_exp.extras import module_of_extra
from bbrl_exp.records.files import create_file
from bbrl_exp.training.evaluation import Evaluator

MOST_FRAMES = 1000
SUFFIXES = (".gif", ".mp4")
_MOST_FRAMES_PER_SECOND = 50
_VIDEO = "imageio_ffmpeg"


class Animation(NamedTuple):
    """An animated GIF or an MP4: the bytes of its file, and width and height in pixels."""

    data: bytes
    size: tuple[int, int]


def check_animation(path: Path) -> None:
    """Refuses a path at which no animation can be made.

    Raises:
        ConfigurationError: another suffix, no such folder, a file that exists, or a film without the extra.
    """
    if path.suffix not in SUFFIXES or not path.absolute().parent.is_dir():
        allowed = " and ".join(SUFFIXES)
        raise ConfigurationError(f"animation='{path}': only {allowed} are supported, and the folder must exist")
    if path.exists():
        raise _exists(path)
    if path.suffix == ".mp4":
        module_of_extra(_VIDEO, "video", f"animation='{path}'")


def film(evaluator: Evaluator, most_frames: int = MOST_FRAMES, suffix: str = ".gif") -> Animation:
    """Plays the episode of the first environment and shows its first steps.

    Args:
        evaluator: of environments that show frames.
        most_frames: how many steps at most; the episode is given up after them.
        suffix: ``.gif``, or ``.mp4``, for which sides of an odd length are repeated at the edge.

    Raises:
        ConfigurationError: the environment shows no pictures, or the extra ``video`` is missing.
    """
    if suffix == ".mp4":
        return _film_mp4(evaluator, most_frames)
    frames: list[Image.Image] = []
    _play(
        evaluator,
        most_frames,
        lambda frame: frames.append(Image.fromarray(frame).convert("P", palette=Image.Palette.ADAPTIVE)),
    )
    milliseconds = round(1000 / min(evaluator.environments.frames_per_second, _MOST_FRAMES_PER_SECOND))
    file = io.BytesIO()
    frames[0].save(file, "gif", save_all=True, append_images=frames[1:], duration=milliseconds, loop=0)
    return Animation(file.getvalue(), frames[0].size)


def record(evaluator: Evaluator, path: Path) -> None:
    """Writes the animation of :func:`film` as a file, of the kind that its suffix says.

    Raises:
        ConfigurationError: the environment shows no pictures, or something has appeared at ``path``.
        BbrlExpError: the file cannot be written.
    """
    animation = film(evaluator, suffix=path.suffix)
    try:
        create_file(path, animation.data)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise BbrlExpError(f"cannot write '{path}': {error.strerror or error}") from error


def _exists(path: Path) -> ConfigurationError:
    return ConfigurationError(f"animation='{path}': exists already; name another file or remove it")


def _play(evaluator: Evaluator, most_frames: int, show: Callable[[NDArray[np.uint8]], None]) -> None:
    """Plays an episode; ``show`` is given each frame, uint8 ``[H, W, 3]``."""
    environments = evaluator.environments
    n_shown = 0

    def look() -> None:
        nonlocal n_shown
        frame: object = environments.frame(0)
        if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.shape[2:] != (3,):
            raise ConfigurationError(
                f"{environments.env_spec.env_id} cannot be animated: its frames are not uint8 [H, W, 3]"
            )
        show(frame)
        n_shown += 1

    evaluator.run(stopped=lambda: n_shown >= most_frames, after_step=look)


def _film_mp4(evaluator: Evaluator, most_frames: int) -> Animation:
    """H.264 with 4:2:0 chroma subsampling: what every browser plays. It needs sides of even length."""
    ffmpeg = module_of_extra(_VIDEO, "video", "a film .mp4")
    rate = evaluator.environments.frames_per_second
    sizes: list[tuple[int, int]] = []
    writer: Any = None
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "film.mp4")

        def show(frame: NDArray[np.uint8]) -> None:
            nonlocal writer
            height, width = frame.shape[:2]
            even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            size = (even.shape[1], even.shape[0])
            if sizes and size != sizes[0]:
                raise ConfigurationError("a film .mp4 needs frames of one size; make a .gif")
            try:
                if writer is None:
                    sizes.append(size)
                    writer = ffmpeg.write_frames(path, size, fps=rate, macro_block_size=1)
                    writer.send(None)
                writer.send(np.ascontiguousarray(even))
            except Exception as error:
                raise BbrlExpError(f"ffmpeg cannot make the film: {str(error).partition(chr(10))[0]}") from error

        try:
            _play(evaluator, most_frames, show)
        finally:
            if writer is not None:
                writer.close()
        try:
            return Animation(Path(path).read_bytes(), sizes[0])
        except OSError as error:
            raise BbrlExpError("ffmpeg has made no film") from error
