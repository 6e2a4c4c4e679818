"""The result of a search: its table, ``search.json``, ``search.csv``, and the best trial as ``best.yaml``."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.trial import FrozenTrial, TrialState

from bbrl_exp.records.invocation import shell_command
from bbrl_exp.records.tables import write_search_table
from bbrl_exp.runs.console import Terminal
from bbrl_exp.search.best import FILE_NAME as BEST_NAME
from bbrl_exp.search.best import Difference, as_command, as_experiment, difference_of
from bbrl_exp.search.study import error_of, folders_of, values_of

if TYPE_CHECKING:
    from bbrl_exp.search.plan import SearchPlan

_STATUS = {
    TrialState.COMPLETE: "completed",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "interrupted",
}
_ORDER = ("completed", "pruned", "interrupted", "failed")
_SHOWN = 20


def status_of(trial: FrozenTrial) -> str:
    """``completed``, ``pruned``, ``failed`` or ``interrupted``."""
    return _STATUS[trial.state]


class SearchResults:
    """Shows and writes the trials of a search."""

    def __init__(self, plan: SearchPlan, folder: Path) -> None:
        self._plan, self._folder = plan, folder
        self._console = Terminal()
        self._best: tuple[int, Difference] | None = None

    def best_of(self, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
        """The best of the complete trials, the first of equal ones; None if there is none."""
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        return min(complete, key=self._rank, default=None)

    def print_trial(self, trials: Sequence[FrozenTrial], number: int) -> None:
        """Prints what came of a trial, in one line."""
        trial, best = trials[number], self.best_of(trials)
        value = {
            "completed": f"{_shown(trial.value)}",
            "pruned": f"pruned at {trial.last_step or 0:,} steps, {_shown(trial.value)}",
            "failed": f"failed: {error_of(trial)}",
            "interrupted": "interrupted",
        }[status_of(trial)]
        so_far = f"; best {_shown(best.value)} (trial {best.number})" if best is not None else ""
        names = _short([parameter.key for parameter in self._plan.space])
        settings = " ".join(f"{name}={text}" for name, text in zip(names, self._values(trial), strict=True))
        self._console.line(f"trial {number}: {settings}: {value}{so_far}")

    def write(self, trials: Sequence[FrozenTrial]) -> None:
        """Writes ``search.json``, ``search.csv`` and, where a trial is complete, ``best.yaml``.

        Raises:
            BbrlExpError: the disk refuses.
        """
        settings, best = self._plan.settings, self.best_of(trials)
        ranked = sorted(trials, key=self._rank)
        contents = {
            "objective": settings.objective,
            "aggregate": settings.aggregate,
            "direction": settings.direction,
            "seeds": settings.seeds,
            "sampler": settings.sampler,
            "pruner": settings.pruner,
            "rungs": self._plan.rungs,
            "space": {parameter.key: parameter.written for parameter in self._plan.space},
            "best": None if best is None else {**self._as_json(best), "command": shlex.join(self._command(best))},
            "trials": [self._as_json(trial) for trial in ranked],
        }
        write_search_table(self._folder, contents, *self._csv_rows(ranked))
        if best is not None:
            text = as_experiment(self._difference(best), self._title(best))
            (self._folder / BEST_NAME).write_text(text, encoding="utf-8")

    def show(self, trials: Sequence[FrozenTrial], again: str | None = None) -> None:
        """Prints the table, best first, the reasons of failures, how to run the best and, by ``again``, to resume."""
        ranked = sorted(trials, key=self._rank)
        keys = [parameter.key for parameter in self._plan.space]
        self._console.table(
            f"trials, by the {self._plan.settings.aggregate} of {self._plan.settings.objective}",
            ("trial", "status", "value", "at its seeds", *_short(keys)),
            [
                (
                    str(trial.number),
                    status_of(trial),
                    _shown(trial.value),
                    " ".join(map(_shown, values_of(trial) or [])) or "-",
                    *self._values(trial),
                )
                for trial in ranked[:_SHOWN]
            ],
        )
        if len(ranked) > _SHOWN:
            self._console.line(f"… and {len(ranked) - _SHOWN} more in search.csv")
        for trial in trials:
            if error_of(trial) is not None:
                self._console.line(f"failed: trial {trial.number}: {error_of(trial)}")
        best = self.best_of(trials)
        if best is not None:
            self._console.line(f"best: {shell_command(self._command(best))}")
        if again is not None:
            self._console.line(f"to resume: {again}")
        self._console.line(f"folder: {self._folder}")

    def _rank(self, trial: FrozenTrial) -> tuple[int, float, int]:
        value = trial.value if trial.value is not None else 0.0
        best_first = -value if self._plan.settings.direction == "maximize" else value
        return _ORDER.index(status_of(trial)), best_first, trial.number

    def _values(self, trial: FrozenTrial) -> list[str]:
        """The values of its parameters, as they are written."""
        return [
            parameter.override(trial.params[parameter.key]).partition("=")[2]
            for parameter in self._plan.space
            if parameter.key in trial.params
        ]

    def _difference(self, trial: FrozenTrial) -> Difference:
        """What the trial is, kept for the trial that was asked about last: the best."""
        if self._best is None or self._best[0] != trial.number:
            config = self._plan.compose(self._plan.runs_of(trial.params)[0])
            self._best = trial.number, difference_of(config, self._plan.compose_alone, self._plan.extra_dir)
        return self._best[1]

    def _command(self, trial: FrozenTrial) -> list[str]:
        return as_command(self._difference(trial))

    def _title(self, trial: FrozenTrial) -> str:
        settings = self._plan.settings
        seeds = ", ".join(map(str, settings.seeds))
        return (
            f"Trial {trial.number} of the search {self._folder.name}: {settings.objective} {_shown(trial.value)}, "
            f"the {settings.aggregate} over the seeds {seeds}."
        )

    def _as_json(self, trial: FrozenTrial) -> dict[str, Any]:
        values = values_of(trial)
        seeds = self._plan.settings.seeds
        return {
            "number": trial.number,
            "status": status_of(trial),
            "value": trial.value,
            "values": None if values is None else dict(zip(map(str, seeds), values, strict=True)),
            "params": {
                parameter.key: parameter.used(trial.params[parameter.key])
                for parameter in self._plan.space
                if parameter.key in trial.params
            },
            "rungs": {str(step): value for step, value in sorted(trial.intermediate_values.items())},
            "folders": folders_of(trial),
            "error": error_of(trial),
        }

    def _csv_rows(self, trials: Sequence[FrozenTrial]) -> tuple[list[str], list[list[object]]]:
        """The columns of ``search.csv`` and its rows."""
        keys = [parameter.key for parameter in self._plan.space]
        seeds = [f"seed={seed}" for seed in self._plan.settings.seeds]
        rungs = [f"at {rung}" for rung in self._plan.rungs]
        rows = []
        for trial in trials:
            params = self._as_json(trial)["params"]
            rows.append(
                [
                    trial.number,
                    status_of(trial),
                    trial.value,
                    *(params.get(key) for key in keys),
                    *(values_of(trial) or itertools.repeat(None, len(seeds))),
                    *(trial.intermediate_values.get(rung) for rung in self._plan.rungs),
                    error_of(trial),
                ]
            )
        return ["number", "status", "value", *keys, *seeds, *rungs, "error"], rows


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _short(keys: Sequence[str]) -> list[str]:
    """The last parts of the keys, where they distinguish them."""
    last = [key.rpartition(".")[2].lstrip("+") for key in keys]
    return [name if last.count(name) == 1 else key for name, key in zip(last, keys, strict=True)]
