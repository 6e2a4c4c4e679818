"""How the runs of a setting went: stopped early, extended, judged by which actions; and what else was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bbrl_exp.records.metrics import ACTIONS_IN_WORDS
from bbrl_exp.reports.run_folder import Run
from bbrl_exp.reports.statistics import Estimate, draw, estimate, mean

_ANY = "eval_success_rate"
# Numbers of summary.json that are shown beside the one that runs are compared by, and what they are called. Those of
# the two ways of acting are shown where a run has both.
MEASURES: Mapping[str, str] = {
    _ANY: "success rate",
    "eval_mode_return_mean": "return, most likely actions",
    "eval_sample_return_mean": "return, sampled actions",
    "eval_mode_success_rate": "success rate, most likely actions",
    "eval_sample_success_rate": "success rate, sampled actions",
}

_BOTH = {"eval_mode_return_mean", "eval_sample_return_mean"}


@dataclass(frozen=True)
class Course:
    """How the runs of a setting went in an environment.

    Attributes:
        judged_by: by which actions they were evaluated, in words.
        least_steps: environment steps of the shortest.
        most_steps: environment steps of the longest.
        n_stopped: how many stopped early.
        n_extended: how many were complete before, and were extended.
        measures: the mean over runs of each key of ``MEASURES`` that they have.
    """

    setting: str
    environment: str
    n_runs: int
    judged_by: str
    least_steps: float | None
    most_steps: float | None
    n_stopped: int
    n_extended: int
    measures: Mapping[str, Estimate]

    @property
    def is_plain(self) -> bool:
        """Whether nothing is to be said: no run stopped early or was extended, and all took the most likely actions."""
        return not self.n_stopped and not self.n_extended and self.judged_by == ACTIONS_IN_WORDS["mode"]


def courses(runs: Sequence[Run], places: Sequence[tuple[str, str]], order: Sequence[str]) -> tuple[Course, ...]:
    """The courses of the runs that count, by environment and then in the ``order`` of settings.

    Args:
        runs: those that count.
        places: setting and environment of each.
        order: names of settings.
    """
    environments = dict.fromkeys(environment for _, environment in places)
    found = []
    for environment in environments:
        for setting in order:
            of = [run for run, place in zip(runs, places, strict=True) if place == (setting, environment)]
            if of:
                found.append(_course(setting, environment, of))
    return tuple(found)


def in_words(run: Run) -> str:
    """What is special about a run that counts; empty for nothing."""
    steps, planned = run.numbers.get("env_steps"), run.config.get("total_steps", "")
    parts = []
    if run.stopped_because is not None:
        of = f" of {int(planned):,}" if planned.isdigit() else ""
        parts.append(f"stopped early after {steps or 0:,.0f}{of} steps: {run.stopped_because}")
    if run.extended_from:
        before = ", ".join(f"{each:,}" for each in run.extended_from)
        parts.append(f"extended from {before} to {steps or 0:,.0f} steps")
    if run.judged_by != "mode":
        parts.append(f"judged by {ACTIONS_IN_WORDS[run.judged_by]}")
    return "; ".join(parts)


def _course(setting: str, environment: str, runs: Sequence[Run]) -> Course:
    steps = [run.numbers["env_steps"] for run in runs if "env_steps" in run.numbers]
    measures = {}
    for key in MEASURES:
        having = [run for run in runs if key in run.numbers and (key == _ANY or run.numbers.keys() >= _BOTH)]
        scores = np.array([run.numbers[key] for run in having])
        if len(scores):
            measures[key] = estimate(mean, [scores], draw([scores], f"{setting} {key}"))
    return Course(
        setting=setting,
        environment=environment,
        n_runs=len(runs),
        judged_by=", ".join(dict.fromkeys(ACTIONS_IN_WORDS[run.judged_by] for run in runs)),
        least_steps=min(steps, default=None),
        most_steps=max(steps, default=None),
        n_stopped=sum(run.stopped_because is not None for run in runs),
        n_extended=sum(bool(run.extended_from) for run in runs),
        measures=measures,
    )
