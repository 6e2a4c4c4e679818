"""All that a report says, computed once; the page, the tables and the pictures only show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bbrl_exp.errors import ConfigurationError, did_you_mean
from bbrl_exp.reports import curves as learning
from bbrl_exp.reports.curves import Curve, Efficiency
from bbrl_exp.reports.grouping import Groups, group, repeats
from bbrl_exp.reports.links import relative
from bbrl_exp.reports.run_folder import Run
from bbrl_exp.reports.scores import (
    Improvement,
    Scored,
    Table,
    bounds_of,
    choose_metric,
    compare,
    improvements,
    normalize,
    score_of,
)
from bbrl_exp.reports.search import Problem

Bounds = Mapping[str, tuple[float, float]]
ALL = "all environments"


@dataclass(frozen=True)
class Options:
    """What a report is asked for.

    Attributes:
        by: keys that tell settings apart; None: found from what differs.
        metric: None: the last policy's evaluation, or training returns.
        lower_is_better: for a metric of which less is more.
        thresholds: environment → return, ``""`` for all others; those left out are chosen from the curves.
        bounds: environment → the scores that are 0 and 1; None: the worst and the best setting's mean.
        is_raw: scores of several environments are not aggregated.
        baseline: the setting to compare with; None: the best.
    """

    by: tuple[str, ...] | None = None
    metric: str | None = None
    lower_is_better: bool = False
    thresholds: Mapping[str, float] | None = None
    bounds: Bounds | None = None
    is_raw: bool = False
    baseline: str | None = None


@dataclass(frozen=True)
class Line:
    """A run as it is listed.

    Attributes:
        folder: where it is.
        setting: None for a damaged one.
        environment: None for a damaged one.
        seed: None where it is not known.
        status: that of the run, ``damaged``, or ``repeat``.
        score: None where it has none.
        steps_per_second: of training.
        wall_seconds: from start to end.
        env_steps: done.
        words: why it does not count, or what is wrong with its files.
        counts: whether its score is among those compared.
    """

    folder: Path
    setting: str | None
    environment: str | None
    seed: int | None
    status: str
    score: float | None
    steps_per_second: float | None
    wall_seconds: float | None
    env_steps: float | None
    words: str
    counts: bool


@dataclass(frozen=True)
class Speed:
    """How fast the runs of a setting were: medians, with the slowest and the fastest."""

    setting: str
    environment: str
    n_runs: int
    steps_per_second: tuple[float, float, float] | None
    wall_seconds: tuple[float, float, float] | None


@dataclass(frozen=True)
class Report:
    """What a report says.

    Attributes:
        metric: by which runs are compared.
        lower_is_better: of the metric.
        groups: settings and environments.
        tables: one an environment, scores as they are.
        aggregate: over all environments, of normalised scores; None for one environment, or where there is none.
        aggregate_words: how scores were normalised, or why there is no aggregate.
        bounds: the scores that are 0 and 1; None where nothing is normalised.
        improvements: of each setting over each other.
        reference: the setting that pictures compare with; None where there are fewer than two.
        source: of the curves, a name in ``metrics.csv``.
        curves: one a setting and environment.
        efficiencies: the same.
        thresholds: environment → return.
        chosen_thresholds: environments whose threshold was chosen from the curves.
        speeds: one a setting and environment.
        lines: every run.
        problems: what is no run.
        is_mixed: commit or versions differ between runs that count.
    """

    metric: str
    lower_is_better: bool
    groups: Groups
    tables: tuple[Table, ...]
    aggregate: Table | None
    aggregate_words: str
    bounds: Bounds | None
    improvements: tuple[Improvement, ...]
    reference: str | None
    source: str
    curves: tuple[Curve, ...]
    efficiencies: tuple[Efficiency, ...]
    thresholds: Mapping[str, float]
    chosen_thresholds: tuple[str, ...]
    speeds: tuple[Speed, ...]
    lines: tuple[Line, ...]
    problems: tuple[Problem, ...]
    is_mixed: bool

    @property
    def best_first(self) -> tuple[str, ...]:
        """Names of the settings that have a score: those of the aggregate first, the best first."""
        tables = (self.aggregate, *self.tables) if self.aggregate else self.tables
        return tuple(dict.fromkeys(row.setting for table in tables for row in table.rows))


def make_report(runs: Sequence[Run], problems: Sequence[Problem], options: Options) -> Report:
    """Compares the runs that are complete; all others are named with the reason.

    Raises:
        ConfigurationError: an option names what no run has.
    """
    readable = [run for run in runs if not run.is_damaged]
    groups = group(readable, options.by)
    again = repeats(readable)
    complete = [index for index, run in enumerate(readable) if run.status == "completed" and index not in again]
    metric = choose_metric([readable[index] for index in complete] or readable, options.metric)
    places = [(setting.name, env) for setting, env in zip(groups.setting_of, groups.environment_of, strict=True)]
    scored, lines = [], []
    for index, (run, place) in enumerate(zip(readable, places, strict=True)):
        score = score_of(run, metric)
        counts = index in complete and score is not None
        if counts and score is not None:
            scored.append(Scored(*place, run.seed, score))
        original = readable[again[index]].folder if index in again else None
        lines.append(_line(run, place, score, metric, original, counts=counts))
    lines += [_damaged(run) for run in runs if run.is_damaged]
    tables = [
        compare(scored, groups, environment, [environment], lower_is_better=options.lower_is_better)
        for environment in groups.environments
        if any(run.environment == environment for run in scored)
    ]
    aggregate, words, bounds = _aggregate(scored, groups, tables, options)
    order = tuple(
        dict.fromkeys(row.setting for table in (*([aggregate] if aggregate else []), *tables) for row in table.rows)
    )
    source = learning.choose_source([readable[index] for index in complete])
    series = learning.by_place([readable[index] for index in complete], [places[index] for index in complete], source)
    drawn = tuple(
        learning.curve_of(setting, environment, series[setting, environment])
        for environment in groups.environments
        for setting in order
        if (setting, environment) in series
    )
    thresholds, chosen = _thresholds(drawn, groups, options)
    return Report(
        metric=metric,
        lower_is_better=options.lower_is_better,
        groups=groups,
        tables=tuple(tables),
        aggregate=aggregate,
        aggregate_words=words,
        bounds=bounds,
        improvements=tuple(improvements(tables, order, lower_is_better=options.lower_is_better)),
        reference=_reference(order, groups, options.baseline),
        source=source,
        curves=drawn,
        efficiencies=tuple(
            learning.efficiency_of(curve.setting, curve.environment, series[curve.setting, curve.environment], goal)
            for curve in drawn
            if (goal := thresholds.get(curve.environment)) is not None
        ),
        thresholds=thresholds,
        chosen_thresholds=chosen,
        speeds=tuple(_speeds(lines, order, groups.environments)),
        lines=tuple(lines),
        problems=tuple(problems),
        is_mixed=len({tuple(sorted(readable[index].texts.items())) for index in complete}) > 1,
    )


def _line(
    run: Run, place: tuple[str, str], score: float | None, metric: str, original: Path | None, *, counts: bool
) -> Line:
    words = list(run.faults)
    if run.status == "running":
        words.insert(0, "still running, or its process ended without a word")
    elif run.status != "completed":
        words.insert(0, run.error or "no reason stands there")
    elif original is not None:
        words.insert(0, f"the same configuration and seed as {relative(original, run.folder.parent)}")
    elif score is None:
        words.insert(0, f"no {metric}")
    return Line(
        folder=run.folder,
        setting=place[0],
        environment=place[1],
        seed=run.seed,
        status="repeat" if original is not None and run.status == "completed" else run.status,
        score=score,
        steps_per_second=run.numbers.get("steps_per_second"),
        wall_seconds=run.numbers.get("wall_seconds"),
        env_steps=run.numbers.get("env_steps"),
        words="; ".join(words),
        counts=counts,
    )


def _damaged(run: Run) -> Line:
    return Line(run.folder, None, None, None, run.status, None, None, None, None, run.error or "", False)


def _aggregate(
    scored: Sequence[Scored], groups: Groups, tables: Sequence[Table], options: Options
) -> tuple[Table | None, str, Bounds | None]:
    environments = [table.name for table in tables]
    bounds = options.bounds
    for name in bounds or ():
        if name not in environments:
            raise ConfigurationError(f"--normalize '{name}': no run counts in it{did_you_mean(name, environments)}")
    if len(tables) < 2 and bounds is None:
        return None, "", None
    if options.is_raw:
        return None, "Returns of different environments are not put together (--normalize none).", None
    if bounds is None:
        bounds = bounds_of(tables)
        words = "0 is the mean of the worst setting in an environment, 1 that of the best"
        if bounds is None:
            why = "an environment has fewer than two settings, or they are equal there; --normalize states a scale"
            return None, f"Returns of different environments are not put together: {why}.", None
    else:
        words = "0 and 1 as --normalize states"
        lacking = [name for name in environments if name not in bounds]
        if lacking:
            raise ConfigurationError(
                f"--normalize: nothing for '{lacking[0]}'; environments: {', '.join(environments)}"
            )
    table = compare(normalize(scored, bounds), groups, ALL, environments, lower_is_better=options.lower_is_better)
    if not table.rows:
        return None, "No setting has runs in every environment, so none is compared over all of them.", None
    return table, f"Scores are normalised: {words}.", bounds


def _thresholds(curves: Sequence[Curve], groups: Groups, options: Options) -> tuple[dict[str, float], tuple[str, ...]]:
    asked = dict(options.thresholds or {})
    for name in asked:
        if name and name not in groups.environments:
            near = did_you_mean(name, groups.environments)
            raise ConfigurationError(f"--threshold '{name}': no run is of this environment{near}")
    chosen = {} if "" in asked else {k: v for k, v in learning.default_thresholds(curves).items() if k not in asked}
    everywhere = dict.fromkeys(groups.environments, asked[""]) if "" in asked else {}
    named = {name: value for name, value in asked.items() if name}
    return {**chosen, **everywhere, **named}, tuple(chosen)


def _reference(order: Sequence[str], groups: Groups, baseline: str | None) -> str | None:
    """The setting that ``baseline`` names, by its name or by some of its ``key=value``; else the best one."""
    if baseline is None:
        return order[0] if len(order) > 1 else None
    wanted = set(baseline.split())
    found = [name for name in order if name == baseline] or [name for name in order if wanted <= set(name.split())]
    if len(found) != 1:
        what = f"names {len(found)} settings: {', '.join(found)}" if found else "no setting with runs that count"
        near = "" if found else did_you_mean(baseline, order) or f"; there are: {', '.join(order) or 'none'}"
        raise ConfigurationError(f"--baseline '{baseline}': {what}{near}")
    return found[0]


def _speeds(lines: Sequence[Line], order: Sequence[str], environments: Sequence[str]) -> list[Speed]:
    found = []
    for environment in environments:
        for setting in order:
            of = [line for line in lines if line.counts and (line.setting, line.environment) == (setting, environment)]
            if of:
                found.append(
                    Speed(
                        setting,
                        environment,
                        len(of),
                        _spread([line.steps_per_second for line in of]),
                        _spread([line.wall_seconds for line in of]),
                    )
                )
    return found


def _spread(values: Sequence[float | None]) -> tuple[float, float, float] | None:
    known = [value for value in values if value is not None]
    return (float(np.median(known)), min(known), max(known)) if known else None
