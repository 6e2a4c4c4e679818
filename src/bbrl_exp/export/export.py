"""Exports the policy of a run: as safetensors, as ONNX, or as a folder for the Hugging Face hub."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from bbrl_exp.arguments import is_integer
from bbrl_exp.config.schema import acting_of
from bbrl_exp.envs.spec import EnvSpec
from bbrl_exp.errors import BbrlExpError, ConfigurationError, did_you_mean
from bbrl_exp.export.card import card_of
from bbrl_exp.export.comparison import Comparison, DisagreementError
from bbrl_exp.export.onnx_file import SUFFIX as ONNX
from bbrl_exp.export.onnx_file import OnnxModel
from bbrl_exp.export.readme import readme_of
from bbrl_exp.export.step import PolicyStep
from bbrl_exp.extras import module_of_extra
from bbrl_exp.records.files import replace_file
from bbrl_exp.runs.evaluator import FINAL, build_evaluator
from bbrl_exp.runs.policy import DEFAULT_EPISODES, SavedRun, animate
from bbrl_exp.training.evaluation import Evaluation
from bbrl_exp.training.policy_file import SUFFIX as TENSORS
from bbrl_exp.training.policy_file import PolicyFile
from bbrl_exp.training.saved_state import Which, summary_of_run

_OTHER_FORMATS = (".pt", ".pth", ".pkl", ".zip", ".bin", ".pb", ".tflite")
_FILES = {
    f"policy{TENSORS}": "weights, normalisers, spaces, configuration and evidence; read by `bbrl_exp.load_policy`",
    f"policy{ONNX}": "the same policy as a network for onnxruntime",
    "replay.mp4": "the first episode of the evaluation",
    "replay.gif": "the first episode of the evaluation",
    "config.yaml": "the configuration that the policy was trained with, all values resolved",
}


@dataclass(frozen=True)
class Exported:
    """What was exported.

    Attributes:
        path: the file or the folder.
        card: of the policy; ``onnx`` is what the comparison has found, where there is a model.
        left_out: why something is not in the folder, one line each.
    """

    path: Path
    card: Mapping[str, Any]
    left_out: tuple[str, ...] = ()


def export(
    run_folder: str | os.PathLike[str],
    to: str | os.PathLike[str],
    which: Which = "last",
    episodes: int | None = None,
    seed: int | None = None,
) -> Exported:
    """Exports the policy of a run, after it was evaluated once more.

    Args:
        run_folder: the folder of the run.
        to: a file ``.safetensors`` or ``.onnx``, or a folder; it must not exist yet.
        which: ``last``, or ``best`` by the evaluations along the run.
        episodes: of the evaluation; None for as many as the run's own final evaluation, or 20.
        seed: root of the list of episodes; None for the run's own ``eval.seed``.

    Raises:
        ConfigurationError: a folder, a policy, a path or a number that cannot be used, a missing extra, or a policy
            that cannot be exported in this way.
        DisagreementError: the ONNX model does not act as the policy does.
        BbrlExpError: the disk refuses. In all cases nothing is left.
    """
    path = _checked_target(Path(to))
    if episodes is not None and (not is_integer(episodes) or episodes < 1):
        raise ConfigurationError(f"episodes={episodes!r}: must be an integer of at least 1")
    if path.suffix != ONNX:
        module_of_extra("safetensors", "export", f"'{path}'")
    summary_of_run(Path(run_folder))
    saved = SavedRun.read(run_folder, which)
    seed = saved.config["eval"]["seed"] if seed is None else seed
    n_episodes = episodes or saved.config["eval"]["final_episodes"] or DEFAULT_EPISODES
    left_out: list[str] = []
    model: OnnxModel | None = None
    comparison: Comparison | None = None
    try:
        if path.suffix != TENSORS:
            model = OnnxModel(saved)
            comparison = Comparison(model)
        evaluation, spec = _evaluated(saved, n_episodes, seed, comparison)
    except (ConfigurationError, DisagreementError) as error:
        if path.suffix in (ONNX, TENSORS):
            raise
        left_out.append(f"no policy{ONNX}: {error}")
        model = comparison = None
        evaluation, spec = _evaluated(saved, n_episodes, seed, None)
    memory = _memory(saved) if model is None else _described(model.step)
    card = card_of(saved, which, spec, memory, evaluation, seed)
    if model is not None and comparison is not None:
        card["onnx"] = {**model.facts, "compared": comparison.facts}
    if path.suffix == ONNX:
        assert model is not None
        _write(path, model.as_bytes(card))
    elif path.suffix == TENSORS:
        _write(path, PolicyFile(card, saved.graph_state).as_bytes())
    else:
        with _new_folder(path) as folder:
            left_out += _fill(folder, saved, card, model, seed)
    return Exported(path, card, tuple(left_out))


def _checked_target(path: Path) -> Path:
    """Refuses a path at which nothing can be exported."""
    near = did_you_mean(path.suffix, (TENSORS, ONNX)) if path.suffix not in (TENSORS, ONNX) else ""
    if near or path.suffix in _OTHER_FORMATS:
        raise ConfigurationError(f"to='{path}': must be a file {TENSORS} or {ONNX}, or a folder{near}")
    if not path.absolute().parent.is_dir():
        raise ConfigurationError(f"to='{path}': the folder {path.parent} must exist")
    if os.path.lexists(path):
        raise ConfigurationError(f"to='{path}': exists already; choose another name, or remove it first")
    return path


def _evaluated(saved: SavedRun, episodes: int, seed: int, comparison: Comparison | None) -> tuple[Evaluation, EnvSpec]:
    """The evaluation as the run is judged, and the facts of the environments; the most likely actions are compared."""
    acting = acting_of(saved.config["eval"])
    with contextlib.closing(build_evaluator(saved.config, FINAL, episodes, seed=seed, acting=acting)) as evaluator:
        if saved.graph_state:
            evaluator.load(saved.graph_state)
        evaluation = evaluator.run() if comparison is None or acting != "mode" else None
        if comparison is not None:
            evaluator.add_observer(comparison)
            compared = evaluator.run(acting="mode")
            evaluation = evaluation or compared
        assert evaluation is not None
        return evaluation, evaluator.environments.env_spec


def _memory(saved: SavedRun) -> dict[str, Any] | None:
    """What the policy remembers; None where nobody can say."""
    try:
        return _described(PolicyStep(saved, 1))
    except ConfigurationError:
        return None


def _described(step: PolicyStep) -> dict[str, Any]:
    """What a policy reads of the step before: variable → dtype and shape; all are zeros where an episode begins."""
    return {
        port.variable: {
            "dtype": str(port.example.dtype).removeprefix("torch."),
            "shape": list(port.example.shape[1:]),
        }
        for port in step.memory
    }


def _fill(folder: Path, saved: SavedRun, card: dict[str, Any], model: OnnxModel | None, seed: int) -> list[str]:
    """Writes the files of a folder; gives why one was left out."""
    left_out = []
    _write(folder / f"policy{TENSORS}", PolicyFile(card, saved.graph_state).as_bytes())
    if model is not None:
        _write(folder / f"policy{ONNX}", model.as_bytes(card))
    _write(folder / "config.yaml", yaml.safe_dump(card["config"], sort_keys=False, allow_unicode=True).encode())
    film = folder / ("replay.mp4" if importlib.util.find_spec("imageio_ffmpeg") else "replay.gif")
    try:
        animate(saved, seed, film)
    except BbrlExpError as error:
        left_out.append(f"no animation: {error}")
    files = {name: what for name, what in _FILES.items() if (folder / name).exists()}
    readme = readme_of(card, files, film.name if film.exists() else None)
    _write(folder / "README.md", readme.encode())
    return left_out


@contextlib.contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    """A folder beside ``path``, which becomes it when all is done, and is removed otherwise."""
    temporary = path.absolute().with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.mkdir()
        yield temporary
        temporary.rename(path)
    except OSError as error:
        raise _refusal(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(path: Path, contents: bytes) -> None:
    try:
        replace_file(path, contents)
    except OSError as error:
        raise _refusal(path, error) from error


def _refusal(path: Path, error: OSError) -> BbrlExpError:
    return BbrlExpError(f"cannot write '{path}': {error.strerror or error}")
