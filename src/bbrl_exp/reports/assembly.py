"""Computes all that a report says, from the runs that were found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bbrl_exp.errors import ConfigurationError, did_you_mean
from bbrl_exp.reports import curves as learning
from bbrl_exp.reports.contents import Bounds, Line, Options, Report, Speed
from bbrl_exp.reports.courses import courses, in_words
from bbrl_exp.reports.curves import Curve
from bbrl_exp.reports.grouping import Groups, group, repeats
from bbrl_exp.reports.readable import relative
from bbrl_exp.reports.run_folder import Problem, Run
from bbrl_exp.reports.scores import Scored, Table, bounds_of, choose_metric, compare, improvements, normalize, score_of

ALL = "all environments"


def make_report(runs: Sequence[Run], problems: Sequence[Problem], options: Options) -> Report:
    """Compares the runs that are complete; all others are named with the reason.

    Raises:
        ConfigurationError: an option names what no run has.
    """
    readable = [run for run in runs if not run.is_damaged]
    groups = group(readable, options.by)
    complete = [index for index, run in enumerate(readable) if run.status == "completed"]
    again = {complete[index]: complete[of] for index, of in repeats([readable[index] for index in complete]).items()}
    metric = choose_metric([readable[index] for index in complete] or readable, options.metric)
    places = list(zip(groups.setting_of, groups.environment_of, strict=True))
    scores = {index: score for index, run in enumerate(readable) if (score := score_of(run, metric)) is not None}
    counted = {index: scores[index] for index in complete if index not in again and index in scores}
    scored = [Scored(*places[index], readable[index].seed, score) for index, score in counted.items()]
    lines = [
        _line(
            run,
            places[index],
            scores.get(index),
            metric,
            readable[again[index]].folder if index in again else None,
            counts=index in counted,
        )
        for index, run in enumerate(readable)
    ]
    lines += [Line(run.folder, run.status, run.error or "") for run in runs if run.is_damaged]
    tables = [
        compare(scored, groups, environment, [environment], lower_is_better=options.lower_is_better)
        for environment in groups.environments
        if any(run.environment == environment for run in scored)
    ]
    aggregate, words, bounds = _aggregate(scored, groups, tables, options)
    compared = [aggregate, *tables] if aggregate else tables
    order = tuple(dict.fromkeys(row.setting for table in compared for row in table.rows))
    source = learning.choose_source([readable[index] for index in counted])
    series = learning.by_place([readable[index] for index in counted], [places[index] for index in counted], source)
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
        best_first=order,
        improvements=tuple(improvements(tables, order, lower_is_better=options.lower_is_better)),
        reference=_reference(order, options.baseline),
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
        courses=courses([readable[index] for index in counted], [places[index] for index in counted], order),
        lines=tuple(lines),
        problems=tuple(problems),
        is_mixed=len({tuple(sorted(readable[index].texts.items())) for index in counted}) > 1,
    )


def _line(
    run: Run, place: tuple[str, str], score: float | None, metric: str, original: Path | None, *, counts: bool
) -> Line:
    words, beside = list(run.faults), run.numbers.get("side_by_side_with")
    if run.status == "running":
        words.insert(0, "still running, or its process ended without a word")
    elif run.status != "completed":
        words.insert(0, run.error or "no reason given")
    elif original is not None:
        words.insert(0, f"the same configuration and seed as {relative(original, run.folder.parent)}")
    elif score is None:
        words.insert(0, f"not counted: it has no {metric}; --metric names a number that all have, such as return_mean")
    return Line(
        folder=run.folder,
        setting=place[0],
        environment=place[1],
        seed=run.seed,
        status="repeat" if original is not None else run.status,
        score=score,
        steps_per_second=run.numbers.get("steps_per_second"),
        wall_seconds=run.numbers.get("wall_seconds"),
        env_steps=run.numbers.get("env_steps"),
        words="; ".join(words),
        counts=counts,
        course=in_words(run) if counts else "",
        side_by_side_with=None if beside is None else int(beside),
    )


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
        ends = ("best", "worst") if options.lower_is_better else ("worst", "best")
        words = f"0 is the mean of the {ends[0]} setting in an environment, 1 that of the {ends[1]}"
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


def _reference(order: Sequence[str], baseline: str | None) -> str | None:
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
                steps_per_second = _spread([line.steps_per_second for line in of])
                wall_seconds = _spread([line.wall_seconds for line in of])
                beside = tuple(line.side_by_side_with for line in of if line.side_by_side_with is not None)
                found.append(Speed(setting, environment, len(of), steps_per_second, wall_seconds, beside))
    return found


def _spread(values: Sequence[float | None]) -> tuple[float, float, float] | None:
    known = [value for value in values if value is not None]
    return (float(np.median(known)), min(known), max(known)) if known else None
