"""Whether the run in a folder begins, resumes or is complete."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bbrl_exp.config.compose import written
from bbrl_exp.config.identity import LENGTH_KEYS, differing_keys, saved_config, saved_identity
from bbrl_exp.config.typed_keys import typed_keys
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.records.layout import LOG
from bbrl_exp.records.summary import read_summary
from bbrl_exp.runs.stop_rule import StopRule
from bbrl_exp.settings import shown

if TYPE_CHECKING:
    from bbrl_exp.config.check import CheckedRun
    from bbrl_exp.training.checkpoints import Checkpoint

AUTO, NEVER = "auto", "never"
_SHOWN_KEYS = 5
_META = ("env_steps", "loop_seconds", "positions", "evaluations", "segments")
_STATE = ("chunks", "graph", "learner", "run", "workspace", "records", "generators")


@dataclass(frozen=True)
class ResumePoint:
    """Where an unfinished run begins or resumes.

    Attributes:
        checkpoint: that it resumes from; None where it begins.
        complaints: what is wrong with newer checkpoints.
        has_begun: whether files of the run exist.
    """

    checkpoint: Checkpoint | None = None
    complaints: tuple[str, ...] = ()
    has_begun: bool = False


def is_complete(folder: Path, run: CheckedRun) -> bool:
    """Whether the run in ``folder`` has nothing left to do; nothing in it is changed.

    Raises:
        ConfigurationError: the folder holds something else, or ``resume=never``.
    """
    summary = _summary_of_a_run(folder)
    if summary is None:
        return False
    if run.root.resume == NEVER:
        raise ConfigurationError(
            f"key 'resume' = 'never': folder {folder} holds a run ({summary.get('status')}); choose another name"
        )
    is_longer = _check_same(folder, summary, run)
    if summary.get("status") != "completed":
        return False
    # The folder's configuration may be that of a longer run which was killed before its summary recorded that.
    is_whole = summary.get("env_steps", 0) >= run.size.env_steps
    evaluations, wall_seconds = summary.get("evaluations") or (), summary.get("wall_seconds") or 0.0
    return (is_whole and not is_longer) or StopRule.of(run).reason(evaluations, wall_seconds) is not None


def complete_in_words(folder: Path) -> str:
    """What is printed of a run that has nothing left to do."""
    stopped_because = (read_summary(folder) or {}).get("stopped_because")
    return f"already complete{f': {stopped_because}' if stopped_because else ''}\nfolder: {folder}"


def resume_point(folder: Path, run: CheckedRun) -> ResumePoint:
    """Where the unfinished run in ``folder`` begins or resumes; nothing in the folder is changed.

    Raises:
        ConfigurationError: there are checkpoints and none is whole, the newest is of another version, or there is none
            where one is needed.
    """
    from bbrl_exp.training.checkpoints import newest_checkpoint

    summary = _summary_of_a_run(folder)
    if summary is None:
        return ResumePoint()
    checkpoint, complaints = newest_checkpoint(folder)
    if checkpoint is not None:
        _check_version(checkpoint)
    if checkpoint is None and summary.get("status") == "completed":
        raise ConfigurationError(
            f"key 'total_steps' = {run.root.total_steps}: the run in {folder} is complete, and cannot be made longer "
            f"without a checkpoint; another run can begin with what it has learned: init_from={folder}"
        )
    return ResumePoint(checkpoint, tuple(complaints), has_begun=True)


def _check_version(checkpoint: Checkpoint) -> None:
    for found, names in ((checkpoint.meta, _META), (checkpoint.state, _STATE)):
        missing = [name for name in names if name not in found]
        if missing:
            raise ConfigurationError(
                f"checkpoint {checkpoint.path} has no '{missing[0]}': it is of another version of bbrl_exp, and the "
                "run cannot be resumed with this one; choose another name"
            )


def _summary_of_a_run(folder: Path) -> dict[str, Any] | None:
    """The summary of the run that has begun in ``folder``, None where none has.

    Raises:
        ConfigurationError: there is something else.
    """
    if not folder.exists():
        return None
    if not folder.is_dir():
        raise ConfigurationError(f"folder {folder} is a file")
    summary = read_summary(folder)
    # A run that is about to begin has put there a log and hidden files at most.
    if summary is None and any(not entry.name.startswith(".") and entry.name != LOG for entry in folder.iterdir()):
        raise ConfigurationError(f"folder {folder} holds other files than those of a run; choose another name")
    return summary if has_begun(summary) else None


def has_begun(summary: Mapping[str, Any] | None) -> bool:
    """Whether a folder with this summary holds a run, and not only the reason why none could begin."""
    return summary is not None and not (summary.get("status") == "failed" and not summary.get("versions"))


def wanted_folder(run: CheckedRun) -> Path:
    """The folder of the run: that of ``resume=<folder>``, else the one that the configuration names.

    Raises:
        ConfigurationError: ``resume`` names a folder that holds no run.
    """
    if run.root.resume in (AUTO, NEVER):
        return run.run_dir
    folder = Path(run.root.resume).absolute()
    if read_summary(folder) is None:
        raise ConfigurationError(f"key 'resume' = {shown(run.root.resume)}: must be auto, never or the folder of a run")
    return folder


def _check_same(folder: Path, summary: Mapping[str, Any], run: CheckedRun) -> bool:
    """Whether the run in the folder is this one but for more steps; refuses other differences."""
    if summary.get("config_hash") == run.config_hash:
        return False  # also where Hydra was killed, or the power cut, while it wrote its copy of the configuration
    saved = saved_identity(folder)
    keys = differing_keys(saved, run.identity)
    if LENGTH_KEYS.issuperset(keys) and run.root.total_steps >= saved["total_steps"]:
        before, now = (each.get("schedule_steps") or each["total_steps"] for each in (saved, run.identity))
        if not run.size.schedules or before == now:
            return bool(run.root.total_steps > saved["total_steps"])
        if run.root.total_steps > saved["total_steps"]:
            raise ConfigurationError(
                f"key 'total_steps' = {run.root.total_steps}: the run in {folder} has {saved['total_steps']}, and "
                f"agent.learner.{run.size.schedules[0]} depends on it; schedule_steps={before} keeps the schedule as "
                f"it was, and its last value after that; init_from={folder} begins another run with what this one has "
                "learned"
            )
    if keys:
        options = {group: summary.get(group) for group in ("agent", "env")}
        groups = [group for group, option in options.items() if option not in (None, run.choices[group])]
        keys = typed_keys(keys, written(saved_config(folder)), run.written, groups)
        first = keys[:_SHOWN_KEYS]
        more = f" and {len(keys) - len(first)} more" if len(keys) > len(first) else ""
        raise ConfigurationError(
            f"folder {folder} holds a run of another configuration, it differs in {', '.join(first)}{more}; "
            "choose another name"
        )
    return False
