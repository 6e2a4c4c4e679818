"""The search: batches of trials, each of several runs, from rung to rung and to their end."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from bbrl_exp.functional.statistics import interquartile_mean
from bbrl_exp.runs.console import Terminal, project_in_words
from bbrl_exp.runs.stop import STOPPED_BY
from bbrl_exp.search.pruning import evaluation_at
from bbrl_exp.search.results import SearchResults, status_of
from bbrl_exp.sweeps.batches import JobResult
from bbrl_exp.sweeps.stopping import SweepStoppedError

if TYPE_CHECKING:
    from optuna.trial import Trial

    from bbrl_exp.search.plan import SearchPlan
    from bbrl_exp.search.study import SearchStudy


# How the runs of a trial, one per seed, make one value.
AGGREGATES: Mapping[str, Callable[[Sequence[float]], float]] = {
    "iqm": lambda values: float(interquartile_mean(values)),
    "mean": lambda values: float(np.mean(values)),
    "median": lambda values: float(np.median(values)),
    "min": lambda values: float(np.min(values)),
}


class JobRunner(Protocol):
    """Runs jobs through the launcher: :class:`~bbrl_exp.sweeps.batches.SweepJobs`."""

    folder: Path

    def run(self, jobs: Sequence[Sequence[str]], constant: Sequence[str], folders: Sequence[str]) -> list[JobResult]:
        """Runs what is not complete, and gives what came of each, in order."""


def run_search(plan: SearchPlan, runner: JobRunner, study: SearchStudy, again: str | None = None) -> int:
    """Runs what is left of a search in the claimed folder of ``runner``, shows its table and writes its files.

    Args:
        plan: of the search.
        runner: of its jobs.
        study: what is known of its trials.
        again: the command that resumes it, which is shown if it is stopped.

    Returns:
        The exit code: 0 where every trial is complete or was pruned, 1 where one failed, 128+n where signal n came.
    """
    results = SearchResults(plan, runner.folder)
    search = _Search(plan, runner, study, results)
    exit_code = 0
    try:
        search.run()
    except SweepStoppedError as stopped:
        exit_code = stopped.code
    except KeyboardInterrupt:  # between two batches
        exit_code = STOPPED_BY + signal.SIGINT
    results.write(study.trials)
    results.show(study.trials, again if exit_code else None)
    return exit_code or int(any(status_of(trial) in ("failed", "interrupted") for trial in study.trials))


@dataclass
class _Search:
    plan: SearchPlan
    runner: JobRunner
    study: SearchStudy
    results: SearchResults
    given_up: set[int] = field(default_factory=set)

    def run(self) -> None:
        """Batch after batch."""
        n_left = self.plan.n_trials - sum(trial.state.is_finished() for trial in self.study.trials)
        Terminal().line(
            f"search: {self.plan.n_trials} trials of {len(self.plan.settings.seeds)} runs, {max(n_left, 0)} to run, "
            f"in {self.runner.folder}"
        )
        for name, value in project_in_words():
            Terminal().line(f"{name}: {value}")
        while batch := self.study.next_batch(self.given_up):
            alive = batch
            for rung in self.plan.rungs:
                alive = self._to_rung(alive, rung)
            self._to_end(alive)
            self.results.write(self.study.trials)
            for trial in batch:
                self.results.print_trial(self.study.trials, trial.number)

    def _to_rung(self, trials: Sequence[Trial], rung: int) -> list[Trial]:
        """Runs trials to a rung, and gives those that continue."""
        there = [trial for trial in trials if self.study.has_reported(trial, rung)]
        for trial, results in self._run([trial for trial in trials if trial not in there], rung).items():
            due, acting, complete = self.plan.due(rung), self.plan.judged_by, "completed"
            found = [evaluation_at(each.folder, due, acting, is_complete=each.status == complete) for each in results]
            values = [value for value in found if value is not None]
            if self._goes_on(trial, results, [value is not None for value in found]):
                self.study.report(trial, AGGREGATES[self.plan.settings.aggregate](values), rung)
                there.append(trial)
        there.sort(key=lambda trial: trial.number)
        return [trial for trial in there if not self.study.gives_up(trial, rung)]

    def _to_end(self, trials: Sequence[Trial]) -> None:
        objective = self.plan.settings.objective
        for trial, results in self._run(trials, None).items():
            if not self._goes_on(trial, results, [result.status == "completed" for result in results]):
                continue
            values = [result.summary.get(objective) for result in results]
            measured = [float(value) for value in values if value is not None]
            if len(measured) < len(values):
                seed = self.plan.settings.seeds[values.index(None)]
                self.study.fail(trial, f"seed {seed}: summary.json has no {objective}")
            else:
                self.study.complete(trial, AGGREGATES[self.plan.settings.aggregate](measured), measured)

    def _run(self, trials: Sequence[Trial], pause_after: int | None) -> Mapping[Trial, list[JobResult]]:
        """Hands all runs of the trials to the launcher at once."""
        if not trials:
            return {}
        runs = [self.plan.runs_of(trial.params, pause_after) for trial in trials]
        folders = [f"trial={trial.number},seed={seed}" for trial in trials for seed in self.plan.settings.seeds]
        results = iter(self.runner.run([run for of_trial in runs for run in of_trial], self.plan.constant, folders))
        found = {trial: [next(results) for _ in of_trial] for trial, of_trial in zip(trials, runs, strict=True)}
        for trial, of_trial in found.items():
            self.study.keep_folders(trial, [result.folder.name for result in of_trial])
        return found

    def _goes_on(self, trial: Trial, results: Sequence[JobResult], are_there: Sequence[bool]) -> bool:
        """Whether all runs of a trial came where they were to; else it has failed, or waits for the next command."""
        for seed, result in zip(self.plan.settings.seeds, results, strict=True):
            if result.status in ("failed", "diverged"):
                self.study.fail(trial, f"seed {seed}: {result.error or result.status}")
                return False
        if not all(are_there):
            self.given_up.add(trial.number)
            return False
        return True
