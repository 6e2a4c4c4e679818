"""The headers of the experiments say what the committed records say."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAIRS = sorted(
    file.stem
    for file in (ROOT / "conf" / "experiment").glob("*.yaml")
    if not file.stem.startswith(("random_", "ppo_atari_"))
)


@pytest.mark.parametrize("pair", PAIRS)
def test_the_header_of_an_experiment_is_made_of_its_records(pair: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    headers = importlib.import_module("learning_headers")
    records = importlib.import_module("learning_records").read_records()
    own = [record for key, record in records.items() if key[:2] == (pair, "bbrl_exp")]
    yaml = (ROOT / "conf" / "experiment" / f"{pair}.yaml").read_text(encoding="utf-8")
    assert headers.with_expectation(yaml, pair, own) == yaml


def test_numbers_of_records_stand_in_the_header_and_the_description_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    headers = importlib.import_module("learning_headers")
    record = importlib.import_module("learning_records").Record
    runs = [
        record("a_b", "bbrl_exp", "abc", seed, 1000, [(500, 1.0), (1000, 3.0)], [float(seed)] * 20, 7.0)
        for seed in (1, 2, 3)
    ]
    yaml = "# @package _global_\n# A on B.\n# Expected return: old\n#\n#     old\n\ndefaults:\n  - x\n"
    lines = headers.with_expectation(yaml, "a_b", runs).splitlines()
    assert lines[:2] == ["# @package _global_", "# A on B."]
    said = " ".join(line.removeprefix("# ") for line in lines[2:])
    assert "Expected return: 2.0, 95 % interval 1.0 to 3.0" in said
    assert "seeds 1, 2, 3; last policy, 20 episodes) after 1,000 environment steps, which take 7 CPU seconds" in said
    assert "along the way: 2. Measured by" in said
    assert lines[-3:] == ["", "defaults:", "  - x"]
    assert lines[-4] == "#     OMP_NUM_THREADS=1 python benchmarks/learning.py a_b"


def test_returns_of_at_most_1_have_two_more_decimals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    headers = importlib.import_module("learning_headers")
    record = importlib.import_module("learning_records").Record
    run = record("a_b", "bbrl_exp", "abc", 0, 1000, [(1000, 0.5)], [0.75] * 20, 7.0)
    said = " ".join(headers.expectation("a_b", [run]))
    assert "Expected return: 0.750, 95 % interval 0.750 to 0.750" in said
    assert "along the way: 0.50." in said
