"""Settings: which runs differ by their seed alone, and in what the others differ."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bbrl_exp.errors import ConfigurationError, did_you_mean
from bbrl_exp.reports.run_folder import Run

# What changes no result but where, how often and by how many processes it is made or recorded.
_FREE = {"seed", "name", "resume", "launcher", "pause_after", "dry_run"}
_FREE |= {"eval.workers", "eval.every", "env.workers", "env.worker_timeout"}
_FREE_GROUPS = ("tracking.", "checkpoint.", "launcher.", "search.", "hydra.")
_OF_ENVIRONMENT = ("env", "env.id")
_FIRST = ("agent", "experiment")
_LAST = "schedule_steps"  # an extended run differs in total_steps too, which says more
ABSENT = "–"


@dataclass(frozen=True)
class Groups:
    """Runs by setting and environment.

    Attributes:
        keys: the dotted keys that distinguish settings.
        settings: names such as ``agent=ppo batch_size=8``, in the order of their values.
        setting_of: for each run, in the order given; ``environment_of`` too.
        differences: each key that differs between runs → for each setting, its values.
    """

    keys: tuple[str, ...]
    settings: tuple[str, ...]
    environments: tuple[str, ...]
    setting_of: tuple[str, ...]
    environment_of: tuple[str, ...]
    differences: Mapping[str, Mapping[str, tuple[str, ...]]]


def group(runs: Sequence[Run], by: Sequence[str] | None = None) -> Groups:
    """Groups runs into settings.

    Without ``by``, a key distinguishes settings if runs of one environment differ in it that the keys before it do not
    distinguish. The agent comes first, then the experiment, then short keys; so the dozens of keys in which two agents
    differ add nothing to ``agent``, and what is tuned for each environment splits no setting.

    Args:
        runs: none of them damaged.
        by: dotted keys that distinguish settings instead.

    Raises:
        ConfigurationError: no run has a key of ``by``.
    """
    known = {key for run in runs for key in run.config}
    for key in by or ():
        if key not in known:
            raise ConfigurationError(f"--by '{key}': no run has this key{did_you_mean(key, known)}")
    environments = _environment_names(runs)
    keys = tuple(dict.fromkeys(by)) if by else _telling_keys(runs, environments)
    labels = _labels(keys)
    values_of = [{key: run.config.get(key, ABSENT) for key in keys} for run in runs]
    ordered = sorted({tuple(values.values()): values for values in values_of}.items(), key=lambda item: _order(item[0]))
    names = _unique([_name(values, labels) for _, values in ordered])
    name_of = {found: name for name, (found, _) in zip(names, ordered, strict=True)}
    setting_of = tuple(name_of[tuple(values.values())] for values in values_of)
    return Groups(
        keys=keys,
        settings=tuple(names),
        environments=tuple(sorted(set(environments), key=lambda name: _order([name]))),
        setting_of=setting_of,
        environment_of=tuple(environments),
        differences=_differences(runs, setting_of),
    )


def repeats(runs: Sequence[Run]) -> dict[int, int]:
    """The runs that repeat another, seed included, in all that changes a result: index of the repeat → of the first.

    It is decided by the configurations or by their hashes: a hash knows of ``env.stepping``, and not of ``eval.every``.
    A run that stopped earlier than another, or was extended, does not repeat it.
    """
    first: dict[object, int] = {}
    found = {}
    for index, run in enumerate(runs):
        same: list[object] = [] if run.config_hash is None else [run.config_hash]
        if run.has_config:
            same.append(tuple(sorted(item for item in run.config.items() if not is_free(item[0]))))
        places = [(what, run.seed, run.env, run.env_id, run.numbers.get("env_steps")) for what in same]
        original = min((first[place] for place in places if place in first), default=index)
        for place in places:
            first.setdefault(place, original)
        if original != index:
            found[index] = original
    return found


def is_free(key: str) -> bool:
    """Whether runs that differ in ``key`` are runs of one setting."""
    return key in _FREE or key.startswith(_FREE_GROUPS)


def _environment_names(runs: Sequence[Run]) -> list[str]:
    """The option of ``env``, with the id where one option has several."""
    ids: dict[str | None, set[str | None]] = {}
    for run in runs:
        ids.setdefault(run.env, set()).add(run.env_id)
    names = []
    for run in runs:
        if run.env is None or run.env == "gym":
            names.append(run.env_id or "unknown")
        else:
            names.append(run.env if len(ids[run.env]) == 1 else f"{run.env} {run.env_id}")
    return names


def _telling_keys(runs: Sequence[Run], environments: Sequence[str]) -> tuple[str, ...]:
    known = [index for index, run in enumerate(runs) if run.has_config] or list(range(len(runs)))
    chosen = []
    cells: dict[int, tuple[str, ...]] = {index: (environments[index],) for index in known}
    for key in _candidates([runs[index] for index in known]):
        values = {index: runs[index].config.get(key, ABSENT) for index in known}
        # Two agents are two settings even where each ran in its own environment.
        if key == "agent" or _splits(cells, values):
            chosen.append(key)
            cells = {index: (*cells[index], values[index]) for index in known}
    return tuple(chosen) or tuple(key for key in _FIRST[:1] if any(key in run.config for run in runs))


def _candidates(runs: Sequence[Run]) -> list[str]:
    """Keys in which runs differ, those first that should name a setting."""
    found: dict[str, set[str]] = {}
    count: Counter[str] = Counter()
    for run in runs:
        for key, value in run.config.items():
            found.setdefault(key, set()).add(value)
            count[key] += 1
    varying = [
        key
        for key, values in found.items()
        if (len(values) > 1 or count[key] < len(runs)) and not is_free(key) and key not in _OF_ENVIRONMENT
    ]
    first = {key: index for index, key in enumerate(_FIRST)}
    return sorted(varying, key=lambda key: (first.get(key, len(_FIRST)), key == _LAST, key.count("."), key))


def _splits(cells: Mapping[int, tuple[str, ...]], values: Mapping[int, str]) -> bool:
    first: dict[tuple[str, ...], str] = {}
    return any(first.setdefault(cell, values[index]) != values[index] for index, cell in cells.items())


def _labels(keys: Iterable[str]) -> dict[str, str]:
    """The shortest end of each dotted key that no other has; of a class, whose key ends in ``_target_``, the node's."""
    labels = {}
    written = {key: key.removesuffix("._target_") for key in keys}
    for key in keys:
        parts = written[key].split(".")
        ends = [".".join(parts[start:]) for start in range(len(parts) - 1, -1, -1)]
        others = [written[other] for other in keys if other != key]
        labels[key] = next(
            (end for end in ends if not any(other == end or other.endswith(f".{end}") for other in others)), key
        )
    return labels


def _name(values: Mapping[str, str], labels: Mapping[str, str]) -> str:
    words = " ".join(f"{labels[key]}={value}" for key, value in values.items() if value != ABSENT)
    return words or (f"without {' '.join(labels.values())}" if values else "all runs")


def _unique(names: Sequence[str]) -> list[str]:
    """The names, numbered where a value looks like another key: ``a="1 b=2"`` and ``a=1 b=2``."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


def _differences(runs: Sequence[Run], setting_of: Sequence[str]) -> dict[str, dict[str, tuple[str, ...]]]:
    keys = sorted({key for run in runs for key in (*run.config, *run.texts) if not is_free(key)})
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for key in keys:
        values: dict[str, set[str]] = {}
        for run, setting in zip(runs, setting_of, strict=True):
            value = run.config.get(key, run.texts.get(key, ABSENT if run.has_config else "?"))
            values.setdefault(setting, set()).add(value)
        if len(set().union(*values.values()) - {"?"}) > 1:
            found[key] = {name: tuple(sorted(of, key=lambda value: _order([value]))) for name, of in values.items()}
    return found


def _order(texts: Iterable[str]) -> list[tuple[bool, float, list[tuple[bool, int, str]]]]:
    """Sorts numbers by value, and texts with the numbers in them by value."""
    return [_place(text) for text in texts]


def _place(text: str) -> tuple[bool, float, list[tuple[bool, int, str]]]:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if number == number:
        return False, number, []
    parts = ((part[0] in "0123456789", part.lstrip("0")) for part in re.findall(r"[0-9]+|[^0-9]+", text))
    return True, 0.0, [(is_number, len(part) if is_number else 0, part) for is_number, part in parts]
