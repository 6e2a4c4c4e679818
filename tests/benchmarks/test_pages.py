"""The results on the pages of the learners are those of the committed records."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "learners"


@pytest.mark.parametrize("page", sorted(path.stem for path in PAGES.glob("*.md")))
def test_the_results_of_a_page_are_made_of_the_records(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    pages = importlib.import_module("learning_pages")
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    if pages.BEGIN in text:
        records = importlib.import_module("learning_records").read_records()
        pairs = importlib.import_module("learning").learning_pairs()
        assert pages.with_results(text, page, pairs, records) == text


def test_every_experiment_has_its_results_on_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    pages = importlib.import_module("learning_pages")
    for pair in importlib.import_module("learning").learning_pairs():
        assert pages.BEGIN in (PAGES / f"{pages.page_of(pair)}.md").read_text(encoding="utf-8"), pair


def test_a_page_keeps_what_stands_around_its_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    pages = importlib.import_module("learning_pages")
    record = importlib.import_module("learning_records").Record
    records = {
        (pair, "x", 0): record(pair, "x", "1", 0, 1000, [(500, 1.0)], [2.0], 3.0)
        for pair in ("discrete_sac_cartpole", "sac_pendulum", "ppo_pendulum")
    }
    pairs = ["discrete_sac_cartpole", "ppo_pendulum", "sac_hopper", "sac_pendulum"]
    page = pages.with_results(f"before\n{pages.BEGIN}\nstale\n{pages.END}\nafter\n", "sac", pairs, records)
    assert page.startswith(f"before\n{pages.BEGIN}\n\n")
    assert page.endswith(f"\n\n{pages.END}\nafter\n")
    assert "stale" not in page
    assert "learning.py discrete_sac_cartpole sac_hopper sac_pendulum\n" in page
    assert "Not measured yet: sac hopper." in page
    assert "| sac pendulum | x 1 | 1,000 | 1 |" in page
    assert "ppo" not in page
    with pytest.raises(ValueError, match=r"docs/learners/sac\.md: the marks"):
        pages.with_results("no marks", "sac", pairs, records)
