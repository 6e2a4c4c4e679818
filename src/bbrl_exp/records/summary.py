"""``summary.json``: what a run is and what came of it, there from the start and replaced as a whole at the end."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from bbrl_exp.records.files import read_json, write_json
from bbrl_exp.records.layout import SUMMARY, UnreadableError

Status = Literal["running", "completed", "paused", "interrupted", "failed", "diverged"]
STATUSES: tuple[Status, ...] = get_args(Status)
PAUSED = "paused after"
# What a run is judged by on a page that compares runs.
RESULTS = ("return_mean", "eval_return_mean", "eval_curve_mean", "best_eval_return_mean")


@dataclass(frozen=True)
class Summary:
    """The contents of ``summary.json``.

    Attributes:
        status: of the run.
        agent: option of the group ``agent``.
        env: option of the group ``env``.
        env_id: what the environment agent calls its task, such as a Gymnasium id.
        seed: root seed.
        batch_size: environments side by side.
        env_steps: environment steps done.
        episodes: training episodes finished.
        return_mean: mean return of the last 100 training episodes.
        stopped_because: why a completed run ended before ``total_steps`` (``stop_when``); None where it did not.
        extended_from: the environment steps at which the run was complete before it was extended.
        eval_policy: how the policy acts in the evaluations below that name no other: ``mode`` or ``sample``; None in
            summaries of earlier versions, where it is the mode.
        eval_return_mean: mean return of the last policy; None where it was never measured.
        eval_return_std: its standard deviation over episodes.
        eval_returns: the return of each of these episodes.
        eval_success_rate: the part of them that were successes; None where successes are not recorded.
        eval_mode_return_mean: mean return of the last policy by its most likely actions; None where not measured.
        eval_mode_success_rate: likewise.
        eval_sample_return_mean: mean return of the last policy by sampled actions, likewise.
        eval_sample_success_rate: likewise.
        evaluations: of each evaluation along the run: ``env_steps``, ``return_mean``, ``return_std`` and ``returns``;
            ``success_rate`` where it is recorded; with ``eval.policy=both`` also ``mode_return_mean`` and so on.
        eval_curve_mean: mean of the mean returns of the evaluations along the run; None where there were none.
        best_eval_return_mean: the best of the evaluations along the run, that of ``checkpoints/best.pt``.
        wall_seconds: from the start of the task to its end.
        steps_per_second: environment steps per second, updates and tracking included, start-up, compiling and
            evaluation left out; of a run that was trained side by side, its share.
        side_by_side_with: the other jobs beside which it was trained in one process, as many as were left at its end;
            None where it was trained on its own from start to end, and in summaries of earlier versions.
        error: why the run did not complete.
        command: the command line.
        overrides: the overrides of this job.
        git_commit: the commit of the checkout.
        versions: of Python and of the packages.
        config_hash: equal for equal configurations.
    """

    status: Status
    agent: str | None
    env: str | None
    env_id: str | None
    seed: int | None
    batch_size: int | None
    env_steps: int = 0
    episodes: int = 0
    return_mean: float | None = None
    stopped_because: str | None = None
    extended_from: tuple[int, ...] = ()
    eval_policy: str | None = None
    eval_return_mean: float | None = None
    eval_return_std: float | None = None
    eval_returns: tuple[float, ...] | None = None
    eval_success_rate: float | None = None
    eval_mode_return_mean: float | None = None
    eval_mode_success_rate: float | None = None
    eval_sample_return_mean: float | None = None
    eval_sample_success_rate: float | None = None
    evaluations: tuple[dict[str, Any], ...] = ()
    eval_curve_mean: float | None = None
    best_eval_return_mean: float | None = None
    wall_seconds: float = 0.0
    steps_per_second: float | None = None
    side_by_side_with: int | None = None
    error: str | None = None
    command: str = ""
    overrides: tuple[str, ...] = ()
    git_commit: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    config_hash: str | None = None

    @classmethod
    def of(cls, contents: Mapping[str, Any]) -> Summary:
        """The summary of a run of this or another version: what is not known here is left out."""
        required = ("agent", "env", "env_id", "seed", "batch_size")
        known: dict[str, Any] = dict.fromkeys(required)
        known |= {field.name: contents[field.name] for field in dataclasses.fields(cls) if field.name in contents}
        return cls(**known)

    def write(self, folder: Path) -> None:
        """Writes ``summary.json`` in ``folder`` so that a reader sees the old one or the new one, never a part."""
        write_json(folder / SUMMARY, dataclasses.asdict(self))


def read_summary(folder: Path) -> dict[str, Any] | None:
    """The contents of ``summary.json`` in ``folder``; None if there is none that can be read."""
    try:
        return read_json(folder / SUMMARY)
    except UnreadableError:
        return None


def beside_in_words(counts: Collection[int]) -> str:
    """How runs were trained whose summaries have these ``side_by_side_with``."""
    least, most = min(counts), max(counts)
    if most == 0:
        return "trained side by side, with no other left at the end"
    number = f"{most}" if least == most else f"{least} to {most}"
    return f"trained side by side with {number} {'other' if number == '1' else 'others'}"


def status_of(summary: Mapping[str, Any]) -> str | None:
    """The status in a summary of this or an earlier version, which called a paused run interrupted."""
    status = summary.get("status")
    if status == "interrupted" and str(summary.get("error")).startswith(PAUSED):
        return "paused"
    return status if isinstance(status, str) else None
