"""Runs of an agent that learns: evaluations, policies kept, and what may not change the training."""

import csv
import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import prepared
import pytest
import torch

import bbrl_exp
from bbrl_exp.config.compose import Composer, resolve
from bbrl_exp.config.options import default_config_dir
from bbrl_exp.config.preparation import build_graph_and_learner
from bbrl_exp.errors import ConfigurationError, DivergedError, WorkerError
from bbrl_exp.learners.cem import CrossEntropyMethod
from bbrl_exp.runs.run import run

from .conftest import CommandLine

LEARNS = [
    "agent=mlp",
    "agent.learner={_target_: users_own.Shifts, step: 0.05}",
    "agent.steps_per_chunk=8",
    "batch_size=4",
    "total_steps=2048",
    "tracking.metrics_every=256",
    "tracking.tensorboard=false",
]
EVALUATED = ["eval.every=512", "eval.episodes=3", "eval.final_episodes=4"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, users_package: str) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def quick_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dry run's speed, which the test does not look at, is measured for a moment."""
    monkeypatch.setattr("bbrl_exp.runs.estimate.MEASURED_SECONDS", 0.1)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return [row for row in csv.DictReader(file) if not row["name"].startswith("time/")]


def of_training(folder: Path) -> list[dict[str, str]]:
    return [row for row in rows(folder) if "eval" not in row["name"]]


def of_evaluations(folder: Path) -> set[tuple[str, ...]]:
    return {tuple(row.values()) for row in rows(folder) if "eval" in row["name"]}


def state_of(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(folder / "checkpoints" / f"{name}.pt", weights_only=True)
    return found


def test_evaluation_changes_no_bit_of_the_training_wherever_it_is_done() -> None:
    never = run([*LEARNS, "eval.every=0", "eval.final_episodes=0"])
    here = run([*LEARNS, *EVALUATED])
    beside = run([*LEARNS, *EVALUATED, "eval.workers=1"])
    assert of_training(never.folder) == of_training(here.folder) == of_training(beside.folder)
    assert of_evaluations(here.folder) == of_evaluations(beside.folder) != set()
    assert here.summary.eval_returns == beside.summary.eval_returns
    assert (never.summary.eval_return_mean, never.summary.best_eval_return_mean) == (None, None)
    last = [state_of(result.folder, "last")["state"] for result in (never, here, beside)]
    for part in ("graph", "learner"):
        for name, tensor in last[0][part].items():
            assert torch.equal(tensor, last[1][part][name])
            assert torch.equal(tensor, last[2][part][name])
    assert last[0]["learner"]["weight"].tolist() == pytest.approx([64 * 0.05] * 3)


def test_what_is_recorded_of_evaluations_and_of_the_learner() -> None:
    result = run([*LEARNS, *EVALUATED])
    recorded = rows(result.folder)
    at = {
        name: [int(row["env_steps"]) for row in recorded if row["name"] == name]
        for name in ("eval/return_mean", "eval/return", "final_eval/return", "losses/shift", "learner/seen")
    }
    assert at["eval/return_mean"] == [512, 1024, 1536, 2048]
    assert at["eval/return"] == [512] * 3 + [1024] * 3 + [1536] * 3 + [2048] * 3
    assert at["final_eval/return"] == [2048] * 4
    assert at["losses/shift"] == [32, *range(256, 2049, 256)]
    seen = [float(row["value"]) for row in recorded if row["name"] == "learner/seen"]
    assert seen == [float(step) for step in at["learner/seen"]]
    means = [float(row["value"]) for row in recorded if row["name"] == "eval/return_mean"]
    returns = [float(row["value"]) for row in recorded if row["name"] == "final_eval/return"]
    summary = result.summary
    assert summary.eval_returns == tuple(returns)
    periodic = [float(row["value"]) for row in recorded if row["name"] == "eval/return"]
    assert [value for evaluation in summary.evaluations for value in evaluation["returns"]] == periodic
    assert [evaluation["env_steps"] for evaluation in summary.evaluations] == at["eval/return_mean"]
    assert [evaluation["return_mean"] for evaluation in summary.evaluations] == pytest.approx(means)
    stds = [float(row["value"]) for row in recorded if row["name"] == "eval/return_std"]
    assert [evaluation["return_std"] for evaluation in summary.evaluations] == pytest.approx(stds)
    assert summary.eval_return_mean == pytest.approx(sum(returns) / 4)
    assert (summary.best_eval_return_mean, summary.eval_curve_mean) == (max(means), pytest.approx(sum(means) / 4))
    assert state_of(result.folder, "best")["meta"]["env_steps"] == 512 * (1 + means.index(max(means)))
    assert state_of(result.folder, "last")["meta"]["env_steps"] == 2048


def test_every_run_is_judged_on_the_same_episodes() -> None:
    constant = ["agent=constant", "eval.every=0", "eval.final_episodes=5"]
    one, two = (run([*LEARNS, *constant, f"seed={seed}"]) for seed in (1, 2))
    other = run([*LEARNS, *constant, "eval.seed=1"])
    assert one.summary.eval_returns == two.summary.eval_returns != other.summary.eval_returns


def test_the_policy_of_a_run_is_loaded_and_evaluated_again() -> None:
    result = run([*LEARNS, *EVALUATED])
    assert bbrl_exp.evaluate(result.folder).returns == result.summary.eval_returns
    other = bbrl_exp.evaluate(result.folder, episodes=2, seed=3).returns
    assert len(other) == 2
    policy = bbrl_exp.load_policy(result.folder, "best")
    assert not policy.training
    saved = state_of(result.folder, "best")["state"]["graph"]
    for loaded, kept in zip(policy.state_dict().values(), saved.values(), strict=True):
        assert torch.equal(loaded, kept)
    workspace = bbrl_exp.Workspace()
    environments = bbrl_exp.NoAutoResetGymAgent("CartPole-v1", 2)
    graph = bbrl_exp.TemporalAgent(bbrl_exp.Agents(environments, policy))
    graph(workspace, t=0, stop_variable="env/done")
    graph.close()
    assert workspace["action"].shape == workspace["env/done"].shape


def test_an_agent_without_parameters_is_loaded_from_its_configuration_alone() -> None:
    result = run(["agent=random", "total_steps=64", "tracking=none"])
    assert not list((result.folder / "checkpoints").glob("[bl]*.pt"))
    assert len(bbrl_exp.evaluate(result.folder, episodes=2).returns) == 2
    with pytest.raises(ConfigurationError, match="completed, has kept no best policy"):
        bbrl_exp.load_policy(result.folder, "best")


def test_a_damaged_policy_is_refused() -> None:
    folder = run([*LEARNS, "eval.every=0", "eval.final_episodes=0"]).folder
    path = folder / "checkpoints" / "last.pt"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ConfigurationError, match="damaged"):
        bbrl_exp.load_policy(folder)


def test_a_run_begins_with_the_policy_of_another(command_line: CommandLine, tmp_path: Path) -> None:
    first = run([*LEARNS, "name=first", "eval.every=0", "eval.final_episodes=0"])
    second = run([*LEARNS, "init_from=outputs/first", "total_steps=32", "eval.every=0", "eval.final_episodes=0"])
    before, after = (state_of(result.folder, "last")["state"] for result in (first, second))
    assert after["learner"]["weight"].tolist() == pytest.approx([65 * 0.05] * 3)
    weights = [name for name, tensor in before["graph"].items() if tensor.ndim == 2]
    assert weights
    for name in weights:
        assert torch.equal(before["graph"][name], after["graph"][name])
    refused = command_line(*LEARNS, "init_from=outputs/first", "agent.members.policy.hidden_sizes=[8,64]", "name=third")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    for part in ("'init_from' = 'outputs/first'", "do not fit", "[64, 4] there and [8, 4] here"):
        assert part in refused.err
    assert not (tmp_path / "outputs" / "third").exists()


@pytest.mark.usefixtures("quick_measurement")
def test_the_plan_says_what_of_the_learner_begins_anew(command_line: CommandLine) -> None:
    tiny = ["agent=ppo", "total_steps=64", "agent.steps_per_chunk=8", "eval.every=0", "eval.final_episodes=0"]
    run([*tiny, "name=first", "tracking=none"])
    told = "begins from        the last policy of outputs/first"
    same = command_line(*tiny, "init_from=outputs/first", "dry_run=true")
    assert f"{told}\n" in same.out
    wider = command_line(*tiny, "init_from=outputs/first", "dry_run=true", "agent.learner.critic.hidden_sizes=[64,8]")
    assert f"{told}, without what does not fit: the learner's critic\n" in wider.out


@pytest.mark.usefixtures("quick_measurement")
def test_the_plan_says_that_an_experiment_is_made_for_another_environment(command_line: CommandLine) -> None:
    note = "note               experiment=ppo_cartpole is made for env=cartpole, and its settings remain"
    assert note in command_line("experiment=ppo_cartpole", "env=acrobot", "dry_run=true").out
    assert "made for" not in command_line("experiment=ppo_cartpole", "dry_run=true").out


def test_a_dry_run_of_a_run_that_pauses_measures_its_speed(command_line: CommandLine) -> None:
    out = command_line("agent=random", "env=cartpole", "agent.steps_per_chunk=8", "pause_after=64", "dry_run=true").out
    assert " steps/s, measured for " in out


@pytest.mark.usefixtures("quick_measurement")
def test_the_plan_says_that_no_update_falls_into_the_run(command_line: CommandLine) -> None:
    options = ["agent=dqn", "dry_run=true", "agent.learner.learning_starts=2048"]
    told = "updates            none: the first comes after 2,048 environment steps"
    assert told in command_line(*options, "total_steps=2048").out
    assert told not in command_line(*options, "total_steps=2049").out


def test_a_dry_run_says_that_the_measured_run_failed(command_line: CommandLine, tmp_path: Path) -> None:
    ended = command_line(*LEARNS, "+agent.learner.nan_after=64", "dry_run=true")
    assert ended.code == 1
    assert "error: the run failed while its speed was measured: metric 'losses/shift' is nan after" in ended.err
    swept = command_line("-m", *LEARNS, "+agent.learner.nan_after=64", "seed=1,2", "dry_run=true")
    assert "failed while its speed was measured: seed=1 and 1 more: metric 'losses/shift' is nan" in swept.out
    assert not (tmp_path / "outputs").exists()


# Of each agent, what its learner draws or sets anew in the graph.
OF_REAL_LEARNERS = {
    "ppo": ([], ()),
    "recurrent_ppo": ([], ()),
    "dqn": (["agent.learner.learning_starts=64", "agent.learner.batch_size=8"], ("epsilon",)),
    "sac": (["env=pendulum", "agent.learner.learning_starts=64", "agent.learner.batch_size=8"], ()),
    "cem": (["agent.members.policy.population_size=4", "agent.learner.extra_variance=0"], ("candidates",)),
}


@pytest.mark.parametrize("agent", list(OF_REAL_LEARNERS))
def test_a_learner_begins_with_the_parameters_of_another_run_and_goes_on(agent: str) -> None:
    options, drawn = OF_REAL_LEARNERS[agent]
    tiny = [f"agent={agent}", *options, "batch_size=2", "agent.steps_per_chunk=64", "tracking.tensorboard=false"]
    tiny += ["eval.every=0", "eval.final_episodes=0"]
    saved = state_of(run([*tiny, "total_steps=512", "name=first"]).folder, "last")["state"]
    second = [*tiny, "total_steps=128", "init_from=outputs/first"]
    with Composer(default_config_dir()) as composer:
        graph, learner, _ = build_graph_and_learner(resolve(composer.compose(second)))
    graph.close()
    assert learner is not None
    for name, tensor in graph.state_dict().items():
        if isinstance(tensor, torch.Tensor) and name.rsplit(".", 1)[-1] not in drawn:
            assert torch.equal(tensor, saved["graph"][name]), name
    beside = dict(learner.named_parameters())
    common = beside.keys() & saved["learner"].keys()
    assert common or agent == "cem"  # whose parameters are the policy's, and buffers of its own that begin anew
    assert all(torch.equal(beside[name], saved["learner"][name]) for name in common)
    assert run(second).summary.status == "completed"


def test_a_population_begins_a_generation_around_the_mean_and_with_the_deviation_of_another_run() -> None:
    tiny = ["agent=cem", "batch_size=4", "eval.every=0", "eval.final_episodes=0", "tracking=none"]
    tiny += ["agent.members.policy.population_size=12", "agent.learner.extra_variance=0"]
    first = run([*tiny, "agent.learner.initial_std=1e-3", "total_steps=1024", "name=first"])
    saved = state_of(first.folder, "last")["state"]
    mean = next(tensor for name, tensor in saved["graph"].items() if name.endswith("mean"))
    assert mean.any()
    with Composer(default_config_dir()) as composer:
        config = resolve(composer.compose([*tiny, "init_from=outputs/first"]))
    graph, learner, _ = build_graph_and_learner(config)
    graph.close()
    assert isinstance(learner, CrossEntropyMethod)
    assert torch.equal(learner.policy.mean, mean)
    assert torch.equal(learner.std, saved["learner"]["std"])
    standardised = (learner.policy.candidates - mean) / learner.std
    assert 0.0 < standardised.abs().min() < standardised.abs().max() < 6.0
    assert saved["learner"]["n_episodes"].any()
    assert not learner.n_episodes.any()
    assert not learner.return_sums.any()


def test_a_metric_that_is_no_number_ends_the_run_with_3(command_line: CommandLine, tmp_path: Path) -> None:
    ended = command_line(*LEARNS, "+agent.learner.nan_after=1000", "name=x", "eval.every=0")
    assert ended.code == 3
    assert ended.err == "error: metric 'losses/shift' is nan after 1,024 environment steps\n"
    assert "error: " not in ended.out
    summary = json.loads((tmp_path / "outputs" / "x" / "summary.json").read_text())
    assert summary["status"] == "diverged"
    assert "'losses/shift' is nan after 1,024" in summary["error"]
    with pytest.raises(DivergedError):
        run([*LEARNS, "+agent.learner.nan_after=1000", "eval.every=0"])


def test_an_environment_without_a_limit_is_cut_and_told(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bbrl_exp.training.evaluation.MOST_STEPS_WITHOUT_LIMIT", 70)
    endless = ["env=gym", "env.id=UsersEndless-v0", "env.info_keys={is_success: bool}", "eval.final_episodes=2"]
    ended = command_line(*LEARNS, *endless, "eval.every=0", "name=x")
    assert ended.code == 0
    assert "2 of 2 episodes were cut after 70 steps: the environment sets no limit" in ended.out
    recorded = {row["name"]: float(row["value"]) for row in rows(tmp_path / "outputs" / "x")}
    assert (recorded["final_eval/return_mean"], recorded["final_eval/success_rate"]) == (70.0, 1.0)


ONLY_TRAINING = ["tracking.tensorboard=false", "eval.every=0", "eval.final_episodes=0", "name=x"]


@pytest.mark.parametrize("agent", ["reinforce", "cem"])
def test_a_run_in_which_no_episode_ends_has_failed_where_whole_ones_are_needed(
    agent: str, command_line: CommandLine
) -> None:
    endless = ["env=gym", "env.id=UsersEndless-v0", "total_steps=256", "batch_size=2"]
    ended = command_line(f"agent={agent}", *endless, *ONLY_TRAINING)
    assert ended.code == 1
    (said,) = [line for line in ended.err.splitlines() if "learned nothing" in line]
    assert "in 256 environment steps" in said
    assert "no episode has ended; give the environment a time limit" in said


@pytest.mark.parametrize(
    ("agent", "options", "named"),
    [
        (["agent=dqn", "env=cartpole"], [], "DQN"),
        (
            ["agent=recurrent_dqn", "env=masked_cartpole"],
            ["agent.learner.learning_starts=8", "agent.learner.burn_in=2", "agent.learner.sequence_length=40"],
            "RecurrentDQN",
        ),
    ],
)
def test_a_run_without_an_update_says_so(
    agent: list[str], options: list[str], named: str, command_line: CommandLine
) -> None:
    ended = command_line(*agent, *options, "total_steps=64", "batch_size=2", *ONLY_TRAINING)
    assert ended.code == 0
    (said,) = [line for line in ended.out.splitlines() if "learned nothing" in line]
    awaited = "it awaits more environment steps (learning_starts="
    assert said.startswith(f"warning: {named} has learned nothing in 64 environment steps: {awaited}")
    assert all(option.removeprefix("agent.learner.") in said for option in options)


def test_a_learner_that_learns_is_not_said_to_have_learned_nothing(command_line: CommandLine) -> None:
    learns = ["agent.learner.episodes_per_update=1", "total_steps=512", "batch_size=2"]
    ended = command_line("agent=reinforce", "env=cartpole", *learns, *ONLY_TRAINING)
    assert ended.code == 0
    assert "nothing" not in ended.out


@pytest.mark.parametrize("metric", ["eval/return_mean", "losses/a,b"])
def test_a_metric_that_cannot_be_recorded_ends_the_run_with_its_name(
    metric: str, command_line: CommandLine, tmp_path: Path
) -> None:
    learner = f"agent.learner={{_target_: users_own.Tells, metric: '{metric}'}}"
    ended = command_line(*(learner if "learner" in part else part for part in LEARNS), *ONLY_TRAINING)
    assert ended.code == 1
    assert [f"Tells: metric '{metric}'" in line for line in ended.err.splitlines()].count(True) == 1
    assert [row for row in rows(tmp_path / "outputs" / "x") if row["name"] == metric] == []


@pytest.mark.parametrize(
    ("agent", "key"),
    [
        ("discrete_sac", "agent.learner.critic.n_critics"),
        ("sac env=pendulum", "agent.learner.critic.n_critics"),
        ("cem", "agent.members.policy.population_size"),
    ],
)
def test_parameters_that_do_not_fit_into_memory_are_refused_before_they_are_made(
    agent: str, key: str, command_line: CommandLine, tmp_path: Path
) -> None:
    ended = command_line(*f"agent={agent}".split(), f"{key}=1000000000000", *ONLY_TRAINING)
    assert ended.code == 2
    (said,) = ended.err.strip().splitlines()
    assert re.search(rf"key '{re.escape(key)}' = 1000000000000: learning [\d,]+ parameters needs about", said)
    assert not (tmp_path / "outputs").exists()


def test_a_signal_stops_an_evaluation(tmp_path: Path) -> None:
    endless = ["env=gym", "env.id=UsersEndless-v0", "eval.every=32", "eval.episodes=64", "name=x"]
    process = prepared.start([*prepared.RUN, *LEARNS, *endless], tmp_path)
    process.wait_for("\n  folder")
    time.sleep(0.5)
    process.send(signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM
    assert json.loads((tmp_path / "outputs" / "x" / "summary.json").read_text())["status"] == "interrupted"
    assert (tmp_path / "outputs" / "x" / "checkpoints" / "last.pt").exists()


def test_a_dead_evaluation_worker_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from bbrl_exp.runs.evaluation_process import EvaluationProcess

    started: list[int] = []
    submit = EvaluationProcess.submit

    def submit_and_kill(self: EvaluationProcess, task: Any) -> None:
        submit(self, task)
        process = self._crew.children[0].process
        started.append(process.pid)
        process.kill()

    monkeypatch.setattr(EvaluationProcess, "submit", submit_and_kill)
    with pytest.raises(
        WorkerError, match=r"evaluation worker \(pid \d+\) died: signal 9 \(SIGKILL\) .* policy of step 512"
    ):
        run([*LEARNS, *EVALUATED, "eval.workers=1"])
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)


def test_a_stuck_evaluation_worker_is_named_after_the_timeout_and_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    from bbrl_exp.runs import evaluation_process

    started: list[int] = []
    submit = evaluation_process.EvaluationProcess.submit

    def submit_and_stop(self: evaluation_process.EvaluationProcess, task: Any) -> None:
        submit(self, task)
        started.append(self._crew.children[0].process.pid)
        os.kill(started[-1], signal.SIGSTOP)

    monkeypatch.setattr(evaluation_process, "_STARTUP_SECONDS", 0.0)
    monkeypatch.setattr(evaluation_process.EvaluationProcess, "submit", submit_and_stop)
    with pytest.raises(WorkerError, match=r"evaluation worker \(pid \d+\) is stuck: no answer for 1 s"):
        run([*LEARNS, *EVALUATED, "eval.workers=1", "env.worker_timeout=1"])
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)


def test_a_parameter_that_is_no_number_ends_the_run_with_3_and_is_in_no_checkpoint() -> None:
    others = [text for text in LEARNS if not text.startswith("agent.learner=")]
    ruined = [*others, "agent.learner={_target_: users_own.Ruins}", "name=ruined", "checkpoint.every=32"]
    with pytest.raises(DivergedError, match=r"'.*policy.*' contains NaN or infinity after \d+ environment"):
        run(ruined)
    folder = Path("outputs/ruined")
    assert json.loads((folder / "summary.json").read_text())["status"] == "diverged"
    kept = list((folder / "checkpoints").glob("*.pt"))
    assert kept
    for path in kept:
        for tensor in torch.load(path, weights_only=True)["state"]["graph"].values():
            assert not isinstance(tensor, torch.Tensor) or tensor.isfinite().all()


@pytest.mark.parametrize("ruins", [True, False])
def test_what_stumbles_over_a_parameter_that_is_no_number_has_diverged(ruins: bool) -> None:
    others = [text for text in LEARNS if not text.startswith("agent.learner=")]
    stumbles = [*others, f"agent.learner={{_target_: users_own.Stumbles, ruins: {ruins}}}", "name=stumbles"]
    with pytest.raises(DivergedError if ruins else ValueError):
        run(stumbles)
    summary = json.loads(Path("outputs/stumbles/summary.json").read_text())
    assert summary["status"] == ("diverged" if ruins else "failed")
    in_stumbles = r"ValueError: stumbled over it \(in Stumbles, users_own\.py:\d+\)"
    said = r"'.*policy.*' contains NaN" if ruins else in_stumbles
    assert re.match(said, summary["error"])
    with pytest.raises(ConfigurationError, match=f"run outputs/stumbles, {summary['status']}, has kept no last policy"):
        bbrl_exp.load_policy("outputs/stumbles")
    with pytest.raises(ConfigurationError, match=r"stumble is not a run folder \(no summary\.json\); .* 'stumbles'\?"):
        run([*LEARNS, "init_from=outputs/stumble"])


def test_the_script_evaluates_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from bbrl_exp.commands.evaluate import main

    result = run([*LEARNS, *EVALUATED])
    assert main([str(result.folder), "--episodes", "2", "--which", "best", "--animation", "a.gif"]) == 0
    assert "over 2 episodes" in capsys.readouterr().out
    assert (tmp_path / "a.gif").read_bytes().startswith(b"GIF89a")
    folder = str(result.folder)
    for bad, message in (
        (["nowhere"], "nowhere is not a run folder (no summary.json)"),
        ([folder, "--episodes", "0"], "episodes=0: must be at least 1"),
        ([folder, "--episodes", "x"], "argument --episodes: invalid int value: 'x'"),
        ([folder, "--which", "x"], "argument --which: invalid choice: 'x' (choose from 'last', 'best')"),
        ([folder, "--seed", "-3"], "seed=-3: a seed is an integer of 0 or more"),
        ([folder, "--animation", "a.gif"], "animation='a.gif': exists already; name another file or remove it"),
        ([], "the following arguments are required: run_folder"),
    ):
        assert main(bad) == 2
        assert capsys.readouterr().err == f"error: {message}\n"


def test_arguments_of_another_kind_are_refused_in_one_line() -> None:
    folder = run([*LEARNS, "eval.every=0", "eval.final_episodes=0"]).folder
    with pytest.raises(ConfigurationError, match=r"^episodes='5': must be an integer$"):
        bbrl_exp.evaluate(folder, episodes="5")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"^seed='5': a seed is an integer of 0 or more$"):
        bbrl_exp.evaluate(folder, seed="5")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"^seed=-1: a seed is an integer of 0 or more$"):
        bbrl_exp.load_policy(folder, seed=-1)


def test_a_policy_is_refused_in_environments_that_show_something_else() -> None:
    policy = bbrl_exp.load_policy(run([*LEARNS, "eval.every=0", "eval.final_episodes=0"]).folder)
    environments = bbrl_exp.NoAutoResetGymAgent("Pendulum-v1", 2)
    with pytest.raises(ConfigurationError) as refused:
        bbrl_exp.TemporalAgent(bbrl_exp.Agents(environments, policy))(bbrl_exp.Workspace(), t=0, n_steps=2)
    environments.close()
    assert str(refused.value) == (
        "this policy was made for CartPole-v1, where 'env/env_obs' is float32 [B, 4]; found float32 [2, 3]"
    )
