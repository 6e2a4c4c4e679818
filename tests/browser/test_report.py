"""The report page in a real browser: what stands on it is what the runs' folders say, and its links lead somewhere."""

import json
from pathlib import Path
from statistics import fmean
from urllib.parse import unquote, urlsplit

import pytest

from bbrl_exp.commands.report import main

from .browser import Browser
from .conftest import Runs

ROWS = "[...element.rows].map(row => [...row.cells].map(cell => cell.innerText.trim()))"


@pytest.fixture(scope="module")
def index(runs: Runs) -> Path:
    assert main([str(runs.sweep)]) == 0
    return runs.sweep / "report" / "index.html"


@pytest.fixture
def page(browser: Browser, index: Path) -> Browser:
    browser.open(index.as_uri(), height=1600)
    return browser


def test_the_report_has_its_sections_and_pictures_and_no_errors(page: Browser) -> None:
    assert page.evaluate("h1", "element.innerText") == ["Report: sweep"]
    sections = page.evaluate("h2", "element.innerText")
    assert {"Settings", "Probability of improvement", "Learning curves", "Speed", "Runs"} <= set(sections)
    assert all(page.evaluate("img", "element.complete && element.naturalWidth > 0"))
    assert page.errors() == []
    page.screenshot("report")


def test_the_means_of_the_report_are_those_of_the_summaries(page: Browser, runs: Runs) -> None:
    (table,) = (rows for rows in page.evaluate("table", ROWS) if {"setting", "IQM", "mean"} <= set(rows[0]))
    column = table[0].index("mean")
    means = {row[0]: float(row[column]) for row in table[1:]}
    assert len(means) == 2
    for agent in ("ppo", "random"):
        (mean,) = (value for setting, value in means.items() if agent in setting)
        summaries = [json.loads((runs.job(agent, seed) / "summary.json").read_text()) for seed in (0, 1)]
        assert mean == pytest.approx(fmean(summary["eval_return_mean"] for summary in summaries), rel=0.01)


def test_jobs_that_failed_are_on_the_report_with_their_reason(page: Browser) -> None:
    assert "needs one bounded box of floats as action" in page.text


def test_every_link_of_the_report_leads_to_something_that_is_there(page: Browser) -> None:
    targets = [urlsplit(address) for address in page.evaluate("a[href]", "element.href")]
    names = set(page.evaluate("[id]", "element.id"))
    assert len(targets) > 5
    for target in targets:
        assert target.scheme == "file"
        assert Path(unquote(target.path)).exists()
        assert not target.fragment or target.fragment in names
