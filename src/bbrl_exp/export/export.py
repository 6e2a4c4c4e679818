"""Exports the policy of a run: as safetensors, as ONNX, or as a folder for the Hugging Face hub."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from bbrl_exp.arguments import is_integer
from bbrl_exp.config.schema import acting_of
from bbrl_exp.envs.spec import EnvSpec
from bbrl_exp.errors import BbrlExpError, ConfigurationError
from bbrl_exp.export.card import card_of, evaluation_facts
from bbrl_exp.export.comparison import Comparison, DisagreementError
from bbrl_exp.export.onnx_file import SUFFIX as ONNX
from bbrl_exp.export.onnx_file import OnnxModel
from bbrl_exp.export.readme import readme_of
from bbrl_exp.export.step import PolicyStep
from bbrl_exp.export.target import check_target, new_folder, write_file
from bbrl_exp.extras import module_of_extra
from bbrl_exp.records.metrics import Acting
from bbrl_exp.runs.evaluator import FINAL, build_evaluator
from bbrl_exp.runs.policy import DEFAULT_EPISODES, SavedRun, animate
from bbrl_exp.training.evaluation import Evaluation
from bbrl_exp.training.policy_file import SUFFIX as TENSORS
from bbrl_exp.training.policy_file import PolicyFile
from bbrl_exp.training.saved_state import Which, summary_of_run

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
    path = Path(to)
    check_target(path)
    if episodes is not None and (not is_integer(episodes) or episodes < 1):
        raise ConfigurationError(f"episodes={episodes!r}: must be an integer of at least 1")
    if path.suffix != ONNX:
        module_of_extra("safetensors", "export", f"'{path}'")
    summary = summary_of_run(Path(run_folder))  # before the evaluation: a running run replaces it, and its policy
    saved = SavedRun.read(run_folder, which)
    seed = saved.config["eval"]["seed"] if seed is None else seed
    n_episodes = episodes or saved.config["eval"]["final_episodes"] or DEFAULT_EPISODES
    left_out: list[str] = []
    model: OnnxModel | None = None
    found_by_onnx: dict[str, Any] = {}
    acting = acting_of(saved.config["eval"])
    evaluation: Evaluation | None = None
    if path.suffix != TENSORS:
        try:
            model = OnnxModel(saved)
            comparison = Comparison(model)
            compared, spec = _evaluated(saved, n_episodes, seed, "mode", comparison)
            evaluation = compared if acting == "mode" else None
            facts = {**comparison.facts, "evaluation": evaluation_facts(compared, seed)}
            found_by_onnx = {"onnx": {**model.facts, "compared": facts}}
        except (ConfigurationError, DisagreementError) as error:
            if path.suffix == ONNX:
                raise
            left_out.append(f"no policy{ONNX}: {error}")
            model = None
    if evaluation is None:
        evaluation, spec = _evaluated(saved, n_episodes, seed, acting)
    memory = _memory(saved) if model is None else _described(model.step)
    card = card_of(saved, summary, which, spec, memory, evaluation_facts(evaluation, seed)) | found_by_onnx
    if path.suffix == ONNX:
        assert model is not None
        write_file(path, model.as_bytes(card))
    elif path.suffix == TENSORS:
        write_file(path, PolicyFile(card, saved.graph_state).as_bytes())
    else:
        with new_folder(path) as folder:
            left_out += _fill(folder, saved, card, model, seed)
    return Exported(path, card, tuple(left_out))


def _evaluated(
    saved: SavedRun, episodes: int, seed: int, acting: Acting, comparison: Comparison | None = None
) -> tuple[Evaluation, EnvSpec]:
    """An evaluation, during which a model may be compared, and the facts of the environments."""
    with contextlib.closing(build_evaluator(saved.config, FINAL, episodes, seed=seed, acting=acting)) as evaluator:
        if saved.graph_state:
            evaluator.load(saved.graph_state)
        if comparison is not None:
            evaluator.add_observer(comparison)
        evaluation = evaluator.run()
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
    write_file(folder / f"policy{TENSORS}", PolicyFile(card, saved.graph_state).as_bytes())
    if model is not None:
        write_file(folder / f"policy{ONNX}", model.as_bytes(card))
    write_file(folder / "config.yaml", yaml.safe_dump(card["config"], sort_keys=False, allow_unicode=True).encode())
    film = folder / ("replay.mp4" if importlib.util.find_spec("imageio_ffmpeg") else "replay.gif")
    try:
        animate(saved, seed, film)
    except BbrlExpError as error:
        left_out.append(f"no animation: {error}")
    files = {name: what for name, what in _FILES.items() if (folder / name).exists()}
    readme = readme_of(card, files, film.name if film.exists() else None)
    write_file(folder / "README.md", readme.encode())
    return left_out
