"""Writes ``rliable_oracle.json``, what rliable says about scores that are made here.

    python3 -m venv /tmp/rliable && /tmp/rliable/bin/pip install 'rliable==1.2.0' 'pandas<3'
    /tmp/rliable/bin/python tests/reports/rliable_oracle.py

rliable draws from numpy's global generator; its seed is beside each interval, so that the draws can be repeated.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from rliable import library, metrics

REPETITIONS = 2_000
SEED = 7
STATISTICS = {"iqm": metrics.aggregate_iqm, "mean": metrics.aggregate_mean, "median": metrics.aggregate_median}


def matrices() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    generator = np.random.default_rng(1)
    return {
        "3 runs, 1 environment": (generator.normal(0.5, 0.2, (3, 1)), generator.normal(0.4, 0.2, (3, 1))),
        "10 runs, 1 environment": (generator.normal(480, 30, (10, 1)), generator.normal(460, 60, (10, 1))),
        "5 runs, 4 environments": (generator.gamma(2.0, 0.3, (5, 4)), generator.gamma(2.0, 0.25, (5, 4))),
        "10 and 7 runs, 6 environments": (generator.normal(1, 0.5, (10, 6)), generator.normal(0.9, 0.5, (7, 6))),
        "ties, 6 runs, 2 environments": (
            generator.integers(0, 4, (6, 2)) / 1.0,
            generator.integers(0, 4, (6, 2)) / 1.0,
        ),
    }


def case(x: np.ndarray, y: np.ndarray) -> dict[str, object]:
    found: dict[str, object] = {"x": x.tolist(), "y": y.tolist(), "estimates": {}, "intervals": {}}
    for name, statistic in STATISTICS.items():
        np.random.seed(SEED)
        points, intervals = library.get_interval_estimates(
            {"x": x}, lambda scores, of=statistic: np.array([of(scores)]), reps=REPETITIONS
        )
        found["estimates"][name] = float(points["x"][0])
        found["intervals"][name] = intervals["x"][:, 0].tolist()
    np.random.seed(SEED)
    points, intervals = library.get_interval_estimates(
        {"x,y": (x, y)}, lambda one, other: np.array([metrics.probability_of_improvement(one, other)]), reps=REPETITIONS
    )
    found["improvement"] = float(points["x,y"][0])
    found["improvement_interval"] = intervals["x,y"][:, 0].tolist()
    thresholds = np.linspace(x.min(), x.max(), 9)
    np.random.seed(SEED)
    profiles, bands = library.create_performance_profile({"x": x}, thresholds, reps=REPETITIONS)
    found["thresholds"] = thresholds.tolist()
    found["profile"] = profiles["x"].tolist()
    found["profile_interval"] = bands["x"].tolist()
    return found


def main() -> None:
    contents = {
        "repetitions": REPETITIONS,
        "seed": SEED,
        "cases": {name: case(x, y) for name, (x, y) in matrices().items()},
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(contents, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
