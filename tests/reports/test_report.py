"""``scripts/report.py`` as a user calls it."""

from __future__ import annotations

import csv
import html.parser
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from bbrl_exp.commands.report import main

WriteRun = Callable[..., Path]
PICTURES = ("scores", "improvement", "profiles", "curves", "efficiency", "speed")


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the pictures out, which take most of the time."""
    monkeypatch.setattr("bbrl_exp.reports.page.draw_figures", lambda report: {})


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def words_of(page: Path) -> str:
    """The text of the page, without its marks."""
    found: list[str] = []

    class Reader(html.parser.HTMLParser):
        def handle_data(self, data: str) -> None:
            found.append(data)

    Reader().feed(page.read_text(encoding="utf-8"))
    return " ".join(" ".join(found).split())


def test_a_sweep_has_a_page_tables_and_pictures(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(sweep)]) == 0
    out = capsys.readouterr().out.splitlines()
    report = sweep / "report"
    assert out == ["6 of 6 runs compared by eval_return_mean, 2 settings", f"report: {report / 'index.html'}"]
    assert {path.name for path in report.iterdir()} == {
        "index.html",
        *(f"{name}.{form}" for name in PICTURES for form in ("svg", "png")),
        *(
            f"{name}.csv"
            for name in ("settings", "improvement", "curves", "efficiency", "speed", "courses", "runs", "differences")
        ),
    }
    best, worst = rows(report, "settings")
    assert (best["setting"], best["runs"], best["seeds"]) == ("agent=ppo", "3", "3")
    assert [float(best[key]) for key in ("iqm", "iqm_lower", "iqm_upper", "median")] == [410, 400, 420, 410]
    assert (worst["setting"], float(worst["mean"])) == ("agent=random", 21)
    assert [row["probability"] for row in rows(report, "improvement")] == ["1.0", "0.0"]
    assert {row["setting"]: (row["reached"], row["runs"]) for row in rows(report, "efficiency")} == {
        "agent=ppo": ("3", "3"),
        "agent=random": ("0", "3"),
    }
    assert [row["steps_per_second"] for row in rows(report, "speed")] == ["501.0", "501.0"]
    words = words_of(report / "index.html")
    assert "6 of 6 runs compared by eval_return_mean : 2 settings in 1 environment. Settings differ in agent" in words
    assert "A setting has only 3 runs." in words
    assert "agent=ppo 3 3 410.0 400.0 to 420.0" in words


def test_pictures_stand_alone(sweep: Path) -> None:
    main([str(sweep)])
    for name in PICTURES:
        with Image.open(sweep / "report" / f"{name}.png") as picture:
            assert picture.width > 600
        assert (sweep / "report" / f"{name}.svg").read_bytes().startswith(b"<?xml")


def test_the_page_needs_nothing_but_itself_and_its_links_lead_to_the_runs(sweep: Path) -> None:
    main([str(sweep)])
    page = (sweep / "report" / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"""(?:src|href)="(?:https?:|//|/|file:)""", page) == []
    assert re.findall(r"<(?:script|link|iframe|object)", page) == []
    assert all(source.startswith("data:image/svg+xml;base64,") for source in re.findall(r'src="([^"]*)"', page))
    links = re.findall(r'href="([^"#]+)"', page)
    folders = [link for link in links if link.endswith("/")]
    assert len(folders) == 6
    for link in links:
        assert (sweep / "report" / urllib.parse.unquote(link)).exists()


def test_the_same_folders_give_the_same_bytes_wherever_they_lie(sweep: Path, tmp_path: Path) -> None:
    shutil.copytree(sweep, tmp_path / "elsewhere" / "s")
    main([str(sweep)])
    main([str(tmp_path / "elsewhere" / "s")])
    for path in (sweep / "report").iterdir():
        assert path.read_bytes() == (tmp_path / "elsewhere" / "s" / "report" / path.name).read_bytes(), path.name


def test_a_second_report_replaces_the_first_and_nothing_else(sweep: Path, write_run: WriteRun) -> None:
    main([str(sweep)])
    (sweep / "report" / "notes.txt").write_text("mine", encoding="utf-8")
    for folder in sweep.glob("agent=random*"):
        shutil.rmtree(folder)
    main([str(sweep)])
    assert not (sweep / "report" / "improvement.svg").exists()
    assert len(rows(sweep / "report", "settings")) == 1
    assert (sweep / "report" / "notes.txt").read_text(encoding="utf-8") == "mine"


@pytest.mark.usefixtures("no_pictures")
def test_several_folders_make_one_report_in_the_first_or_where_asked(
    sweep: Path, tmp_path: Path, write_run: WriteRun
) -> None:
    write_run(tmp_path / "dqn", agent="dqn", score=300.0)
    assert main([str(tmp_path / "dqn"), str(sweep), str(sweep / "agent=ppo,seed=1")]) == 0
    assert len(rows(tmp_path / "dqn" / "report", "runs")) == 7
    assert main([str(sweep), "--out", str(tmp_path / "here" / "it is")]) == 0
    assert not (sweep / "report").exists()
    link = rows(tmp_path / "here" / "it is", "runs")[0]["folder"]
    assert link == os.path.join("..", "..", "s", "agent=ppo,seed=0")


@pytest.mark.usefixtures("no_pictures")
def test_runs_that_do_not_count_are_named_with_the_reason(
    sweep: Path, write_run: WriteRun, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(sweep / "f", agent="dqn", seed=1, status="failed", error="out of <memory>")
    write_run(sweep / "g", agent="dqn", seed=2, status="running")
    write_run(sweep / "h", agent="ppo", seed=1)
    write_run(sweep / "i", agent="ppo", seed=9, score=None)
    summary = write_run(sweep / "j") / "summary.json"
    summary.write_bytes(summary.read_bytes()[:9])
    (write_run(sweep / "k", agent="ppo", seed=4, score=400.0) / "metrics.csv").unlink()
    assert main([str(sweep)]) == 0
    reasons = {
        "f": ("failed", "out of <memory>"),
        "g": ("running", "still running, or its process ended without a word"),
        "h": ("repeat", "the same configuration and seed as agent=ppo,seed=1"),
        "i": (
            "completed",
            "not counted: it has no eval_return_mean; --metric names a number that all have, such as return_mean",
        ),
        "j": ("damaged", "summary.json is not JSON, or only a part of it"),
    }
    out = capsys.readouterr().out
    found = {Path(row["folder"]).name: row for row in rows(sweep / "report", "runs")}
    words = words_of(sweep / "report" / "index.html")
    for name, (status, reason) in reasons.items():
        assert f"{status}: {sweep / name}: {reason}\n" in out
        assert (found[name]["status"], found[name]["counts"]) == (status, "no")
        assert reason.split(" as ")[0] in words
    assert (found["k"]["counts"], found["k"]["what_is_wrong"]) == ("yes", "no metrics.csv")
    assert "Counted, though their files have faults folder what is wrong ../k no metrics.csv" in words
    assert "7 of 12 runs compared" in words


def test_where_no_run_counts_the_page_says_so(tmp_path: Path, write_run: WriteRun) -> None:
    write_run(tmp_path / "a", status="interrupted", score=None, curve={})
    assert main([str(tmp_path)]) == 0
    words = words_of(tmp_path / "report" / "index.html")
    assert "No run counts: none is complete with this metric." in words
    assert "no reason given" in words


def test_a_single_run_has_a_report_without_interval(tmp_path: Path, write_run: WriteRun) -> None:
    write_run(tmp_path / "a")
    assert main([str(tmp_path / "a")]) == 0
    (row,) = rows(tmp_path / "a" / "report", "settings")
    assert (row["iqm"], row["iqm_lower"]) == ("100.0", "")
    assert "A setting has a single run: no interval" in words_of(tmp_path / "a" / "report" / "index.html")


def test_names_from_run_folders_are_shown_and_not_obeyed(tmp_path: Path, write_run: WriteRun) -> None:
    evil = '<script>alert("$x_1$")</script>'
    for seed in range(2):
        write_run(tmp_path / f"{seed}", agent=evil, seed=seed)
        write_run(tmp_path / f"<b>{seed}&\u202e\n", agent="ppo\u0000\ud800漢", seed=seed)
    write_run(tmp_path / os.fsdecode(b"\xff"), seed=3, status="failed", error='"><img src=x>\x1b[31m')
    assert main([str(tmp_path)]) == 0
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;" in page
    assert "\x1b" not in page
    assert 'href="../%FF/"' in page


def environments(folder: Path, write_run: WriteRun) -> None:
    """Two agents in two environments: a scores 100 and 0, b scores 50 and 10."""
    for agent, of in (("a", {"x": 100.0, "y": 0.0}), ("b", {"x": 50.0, "y": 10.0})):
        for env, score in of.items():
            for seed in range(2):
                write_run(folder / f"{agent}{env}{seed}", agent=agent, env=env, seed=seed, score=score)


def test_environments_are_put_together_by_normalised_scores_and_the_page_says_how(
    tmp_path: Path, write_run: WriteRun
) -> None:
    environments(tmp_path, write_run)
    main([str(tmp_path), "--normalize", "x=0:100", "y=0:20"])
    table = rows(tmp_path / "report", "settings")
    found = {(row["environment"], row["setting"]): float(row["iqm"]) for row in table}
    assert found["all environments", "agent=a"] == pytest.approx((1 + 0) / 2)
    assert found["all environments", "agent=b"] == pytest.approx((0.5 + 0.5) / 2)
    assert found["x", "agent=a"] == 100
    words = words_of(tmp_path / "report" / "index.html")
    assert "Scores are normalised: 0 and 1 as --normalize states." in words
    assert "environment 0 is 1 is x 0 100.0 y 0 20.00" in words
    main([str(tmp_path)])
    assert "0 is the mean of the worst setting in an environment" in words_of(tmp_path / "report" / "index.html")
    assert [row["probability"] for row in rows(tmp_path / "report", "improvement")] == ["0.5", "0.5"]


@pytest.mark.usefixtures("no_pictures")
def test_returns_of_different_environments_are_never_put_together_as_they_are(
    tmp_path: Path, write_run: WriteRun
) -> None:
    environments(tmp_path, write_run)
    main([str(tmp_path), "--normalize", "none"])
    assert {row["environment"] for row in rows(tmp_path / "report", "settings")} == {"x", "y"}
    for folder in tmp_path.glob("b*"):
        shutil.rmtree(folder)
    main([str(tmp_path)])
    assert {row["environment"] for row in rows(tmp_path / "report", "settings")} == {"x", "y"}
    words = words_of(tmp_path / "report" / "index.html")
    assert "Returns of different environments are not put together: an environment has fewer than two settings" in words


@pytest.mark.usefixtures("no_pictures")
def test_a_setting_that_lacks_an_environment_is_named_and_left_out_of_the_whole(
    tmp_path: Path, write_run: WriteRun
) -> None:
    environments(tmp_path, write_run)
    for seed in range(2):
        write_run(tmp_path / f"c{seed}", agent="c", env="x", seed=seed, score=70.0)
    main([str(tmp_path)])
    whole = [
        row["setting"] for row in rows(tmp_path / "report", "settings") if row["environment"] == "all environments"
    ]
    assert sorted(whole) == ["agent=a", "agent=b"]
    assert "Not in this table: agent=c (no run in y)." in words_of(tmp_path / "report" / "index.html")


@pytest.mark.usefixtures("no_pictures")
def test_the_metric_the_keys_and_the_threshold_can_be_chosen(sweep: Path) -> None:
    assert main([str(sweep), "--metric", "return_mean", "--by", "seed", "--threshold", "cartpole=415"]) == 0
    found = {row["setting"]: float(row["iqm"]) for row in rows(sweep / "report", "settings")}
    assert found == {"seed=2": (210 + 11) / 2, "seed=1": (205 + 10.5) / 2, "seed=0": (200 + 10) / 2}
    assert {row["setting"]: row["reached"] for row in rows(sweep / "report", "efficiency")} == {
        "seed=2": "1",
        "seed=1": "0",
        "seed=0": "0",
    }
    assert main([str(sweep), "--metric", "eval/return_mean"]) == 0
    assert rows(sweep / "report", "settings")[0]["iqm"] == "410.0"


@pytest.mark.usefixtures("no_pictures")
def test_less_can_be_better(sweep: Path) -> None:
    main([str(sweep), "--metric", "wall_seconds", "--lower-is-better"])
    main([str(sweep), "--lower-is-better"])
    assert [row["setting"] for row in rows(sweep / "report", "settings")] == ["agent=random", "agent=ppo"]
    assert rows(sweep / "report", "improvement")[0] == {
        "setting": "agent=random",
        "over": "agent=ppo",
        "environments": "1",
        "probability": "1.0",
        "probability_lower": "1.0",
        "probability_upper": "1.0",
    }


@pytest.mark.usefixtures("no_pictures")
def test_the_baseline_can_be_named_by_a_part(sweep: Path) -> None:
    assert main([str(sweep), "--baseline", "agent=random"]) == 0
    assert "agent=ppo agent=random 1.000 1.000 to 1.000" in words_of(sweep / "report" / "index.html")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--metric", "eval_return_men"],
            "--metric 'eval_return_men': no run has it; did you mean 'eval_return_mean'?",
        ),
        (["--by", "batch"], "--by 'batch': no run has this key"),
        (["--by", "agnt"], "--by 'agnt': no run has this key; did you mean 'agent'?"),
        (["--threshold", "high"], "--threshold 'high': 'high' is not a number"),
        (
            ["--threshold", "cartpol=1"],
            "--threshold 'cartpol': no run is of this environment; did you mean 'cartpole'?",
        ),
        (
            ["--normalize", "cartpole=1"],
            "--normalize 'cartpole=1': should be ENV=LOW:HIGH, as cartpole=22:500, or none alone",
        ),
        (["--normalize", "cartpole=1:1"], "--normalize 'cartpole=1:1': low and high are equal"),
        (["--normalize", "pendulum=1:2"], "--normalize 'pendulum': no run counts in it"),
        (
            ["--baseline", "agent=pp"],
            "--baseline 'agent=pp': no setting with runs that count; did you mean 'agent=ppo'?",
        ),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_and_nothing_is_made(
    sweep: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(sweep), *arguments]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
    assert not (sweep / "report").exists()


@pytest.mark.usefixtures("no_pictures")
def test_a_report_that_cannot_be_written_is_an_error_in_one_line(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert main([str(sweep), "--out", str(tmp_path / "file")]) == 1
    assert "error: cannot write the report in" in capsys.readouterr().err


@pytest.mark.usefixtures("no_pictures")
def test_runs_of_several_commits_are_told(sweep: Path, write_run: WriteRun) -> None:
    write_run(sweep / "other", seed=7, git_commit="abc")
    main([str(sweep)])
    words = words_of(sweep / "report" / "index.html")
    assert "Commits or versions of packages differ between the runs" in words
    assert json.dumps("abc")[1:-1] in words


@pytest.mark.usefixtures("no_pictures")
def test_the_speed_of_runs_that_were_trained_side_by_side_is_marked_as_a_share(
    tmp_path: Path, write_run: WriteRun
) -> None:
    for seed in (1, 2, 3):
        write_run(tmp_path / "s" / f"ppo{seed}", seed=seed, side_by_side_with=2)
        write_run(tmp_path / "s" / f"dqn{seed}", agent="dqn", seed=seed)
    assert main([str(tmp_path / "s")]) == 0
    report = tmp_path / "s" / "report"
    said = words_of(report / "index.html")
    assert (
        "* Trained side by side with 2 others: the number is the share of a run; its stack is as fast as all of its "
        "runs together." in said
    )
    assert "ppo 3 502.0* 501.0 to 503.0 2.000 2.000 to 2.000" in said
    assert "dqn 3 502.0 501.0 to 503.0" in said
    assert "1,000 501.0* 2.000" in said
    assert {row["setting"]: row["runs_side_by_side"] for row in rows(report, "speed")} == {
        "agent=ppo": "3",
        "agent=dqn": "0",
    }
    assert {(row["setting"], row["side_by_side_with"]) for row in rows(report, "runs")} == {
        ("agent=ppo", "2"),
        ("agent=dqn", ""),
    }
    shutil.rmtree(report)
    shutil.rmtree(tmp_path / "s" / "ppo2")
    write_run(tmp_path / "s" / "ppo2", seed=2)
    write_run(tmp_path / "s" / "ppo4", seed=4, side_by_side_with=0)
    assert main([str(tmp_path / "s")]) == 0
    assert "* Trained side by side with 0 to 2 others: the number is" in words_of(report / "index.html")


def test_the_script_starts_without_pytorch_and_refuses_a_folder_that_is_not_there(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "scripts" / "report.py"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(script), str(tmp_path / "none")], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"error: '{tmp_path / 'none'}': no such folder"
    assert not re.search(r"\| +(torch|hydra|gymnasium)$", done.stderr, re.MULTILINE)


@pytest.mark.usefixtures("no_pictures")
def test_a_run_that_failed_and_was_done_again_elsewhere_counts(tmp_path: Path, write_run: WriteRun) -> None:
    write_run(tmp_path / "first", status="failed", error="out of memory")
    write_run(tmp_path / "second")
    main([str(tmp_path)])
    found = {row["folder"]: (row["status"], row["counts"]) for row in rows(tmp_path / "report", "runs")}
    assert found == {os.path.join("..", "first"): ("failed", "no"), os.path.join("..", "second"): ("completed", "yes")}


def test_runs_that_stopped_early_were_extended_paused_or_judged_otherwise_are_named(
    tmp_path: Path, write_run: WriteRun, no_pictures: None, capsys: pytest.CaptureFixture[str]
) -> None:
    why = "eval_return_mean of 60 is at least 50 (stop_when)"
    plain = {"total_steps": 1000}
    write_run(tmp_path / "plain", seed=1, config=plain, config_hash="a")
    write_run(
        tmp_path / "stopped",
        seed=1,
        config=plain | {"stop_when": {"at_least": 50}},
        config_hash="a",  # the hash says nothing of when a run stops
        env_steps=400,
        stopped_because=why,
        curve={200: 40.0, 400: 60.0},
    )
    write_run(tmp_path / "extended", seed=1, config={"total_steps": 2000}, env_steps=2000, extended_from=(500, 1000))
    sampled = {"eval_policy": "sample", "eval_mode_return_mean": 0.0, "eval_sample_return_mean": 79.0}
    folder = write_run(
        tmp_path / "sampled", seed=1, score=79.0, config=plain | {"eval": {"policy": "both"}}, curve={}, **sampled
    )
    with (folder / "metrics.csv").open("a") as file:
        file.write("500,eval/return_mean,0.0,\n500,eval_sample/return_mean,33.0,\n1000,eval_sample/return_mean,79.0,\n")
    paused = "paused after 512 environment steps (pause_after)"
    write_run(tmp_path / "new", seed=2, status="paused", error=paused)
    write_run(tmp_path / "old", seed=3, status="interrupted", error=paused)

    assert main([str(tmp_path)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "4 of 6 runs compared by eval_return_mean, 4 settings"
    assert sorted(out[1:-1]) == [
        f"{tmp_path}/extended: extended from 500, 1,000 to 2,000 steps",
        f"{tmp_path}/sampled: judged by sampled actions",
        f"{tmp_path}/stopped: stopped early after 400 of 1,000 steps: {why}",
        f"paused: {tmp_path}/new: {paused}",
        f"paused: {tmp_path}/old: {paused}",
    ]
    report = tmp_path / "report"
    settings = {
        row["setting"]: (row["judged_by"], row["most_steps"], row["stopped_early"], row["extended"])
        for row in rows(report, "courses")
    }
    assert settings == {
        "total_steps=1000 policy=mode at_least=null": ("most likely actions", "1000.0", "0", "0"),
        "total_steps=1000 policy=mode at_least=50": ("most likely actions", "400.0", "1", "0"),
        "total_steps=2000 policy=mode at_least=null": ("most likely actions", "2000.0", "0", "1"),
        "total_steps=1000 policy=both at_least=null": ("sampled actions", "1000.0", "0", "0"),
    }
    (both,) = [row for row in rows(report, "courses") if row["judged_by"] == "sampled actions"]
    assert (both["mode_return_mean"], both["sample_return_mean"], both["success_rate"]) == ("0.0", "79.0", "")
    sampled_curve = [float(row["iqm"]) for row in rows(report, "curves") if "both" in row["setting"]]
    assert sampled_curve == [33.0, 79.0]
    words = words_of(report / "index.html")
    assert "Some runs stopped early. The curve of a setting covers the steps that all of its runs have" in words
    assert f"stopped early after 400 of 1,000 steps: {why}" in words
    assert "return, most likely actions interval return, sampled actions interval" in words


def test_steps_to_a_threshold_are_those_of_each_run_however_early_it_stopped(
    tmp_path: Path, write_run: WriteRun, no_pictures: None
) -> None:
    stop = {"total_steps": 1000, "stop_when": {"at_least": 50}}
    curves = ({200: 10.0, 400: 60.0}, {200: 55.0}, {200: 10.0, 400: 20.0, 600: 30.0, 1000: 51.0}, {200: 5.0, 400: 6.0})
    for seed, curve in enumerate(curves):
        stopped = {"env_steps": max(curve), "stopped_because": "some reason"} if max(curve) < 1000 else {}
        write_run(tmp_path / str(seed), seed=seed, config=stop, curve=curve, **stopped)
    assert main([str(tmp_path), "--threshold", "50"]) == 0
    (found,) = rows(tmp_path / "report", "efficiency")
    assert (found["reached"], found["runs"], float(found["env_steps"])) == ("3", "4", 700.0)  # 200, 400, 1000, never
    (course,) = rows(tmp_path / "report", "courses")
    assert (course["stopped_early"], course["least_steps"], course["most_steps"]) == ("3", "200.0", "1000.0")
    assert [row["env_steps"] for row in rows(tmp_path / "report", "curves")] == ["200.0"]  # where the first stopped


def test_success_rates_have_a_table_where_they_were_measured(
    tmp_path: Path, write_run: WriteRun, no_pictures: None
) -> None:
    for seed, rate in enumerate((0.5, 0.75, 1.0)):
        write_run(tmp_path / str(seed), seed=seed, eval_success_rate=rate, eval_mode_return_mean=100.0)
    assert main([str(tmp_path)]) == 0
    (found,) = rows(tmp_path / "report", "courses")
    assert [float(found[name]) for name in ("success_rate", "success_rate_lower", "success_rate_upper")] == [
        0.75,
        0.5,
        1.0,
    ]
    words = words_of(tmp_path / "report" / "index.html")
    assert re.search(r"success rate interval cartpole .* 0\.7500 0\.5000 to 1\.000", words)
    assert "stopped early" not in words
    assert "most likely actions" not in words
