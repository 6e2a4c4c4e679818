"""``eval.policy`` and ``eval.success``: how the policy acts in evaluations, and which of them a run is judged by."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.runs.policy import evaluate
from bbrl_exp.runs.run import run
from bbrl_exp.training.evaluation import Evaluation

from .conftest import CommandLine
from .same_run import assert_same_run, csv_of, state_of, summary_of
from .test_going_on import PPO, RUN, SAC, at

STRAIGHT = Path("outputs") / "straight"
SEVERAL = ["eval.episodes=3", "eval.final_episodes=4", "eval.every=256"]


def rows(folder: Path, *parts: str) -> list[tuple[str, ...]]:
    """The rows of ``metrics.csv`` whose names begin with one of ``parts``; of none the other rows."""
    names = ("eval/", "eval_sample/", "final_eval/", "final_eval_sample/")
    return [row for row in csv_of(folder) if row[1].startswith(parts or names) is bool(parts)]


@pytest.mark.parametrize("agent", [PPO, SAC], ids=["ppo", "sac"])
def test_both_measures_what_each_does_on_the_same_episodes_and_training_is_the_same(
    agent: list[str], command_line: CommandLine
) -> None:
    for policy in ("mode", "sample", "both"):
        assert command_line(*agent, *SEVERAL, f"eval.policy={policy}", f"name={policy}").code == 0
    mode, sample, both = (Path("outputs") / name for name in ("mode", "sample", "both"))
    assert rows(both, "eval/", "final_eval/") == rows(mode, "eval/", "final_eval/") != []
    assert rows(both, "eval_sample/", "final_eval_sample/") == rows(sample, "eval_sample/", "final_eval_sample/") != []
    assert rows(mode, "eval_sample/", "final_eval_sample/") == rows(sample, "eval/", "final_eval/") == []
    assert rows(mode) == rows(sample) == rows(both)
    assert len({row[2] for row in rows(both, "final_eval")}) > 4
    found = {folder.name: summary_of(folder) for folder in (mode, sample, both)}
    assert found["both"]["eval_returns"] == found["mode"]["eval_returns"] != found["sample"]["eval_returns"]
    assert found["both"]["eval_sample_return_mean"] == found["sample"]["eval_return_mean"]
    assert found["both"]["eval_mode_return_mean"] == found["both"]["eval_return_mean"]
    assert found["mode"]["eval_sample_return_mean"] is None
    assert [found[name]["eval_policy"] for name in ("mode", "sample", "both")] == ["mode", "sample", "mode"]
    entries = found["both"]["evaluations"]
    assert [each["mode_return_mean"] for each in entries] == [each["return_mean"] for each in entries]
    assert [each["sample_return_mean"] for each in entries] == [
        each["return_mean"] for each in found["sample"]["evaluations"]
    ]


def test_a_run_is_judged_by_the_one_that_it_names(command_line: CommandLine) -> None:
    both = [*PPO, *SEVERAL, "eval.policy=both", "eval.judged_by=sample", "name=run"]
    assert command_line(*both).code == 0
    assert command_line(*PPO, *SEVERAL, "eval.policy=sample", "name=straight").code == 0
    found, alone = summary_of(RUN), summary_of(STRAIGHT)
    for name in ("eval_policy", "eval_return_mean", "eval_returns", "eval_curve_mean", "best_eval_return_mean"):
        assert found[name] == alone[name]
    meta = [torch.load(folder / "checkpoints" / "best.pt")["meta"] for folder in (RUN, STRAIGHT)]
    assert meta[0]["eval_return_mean"] == meta[1]["eval_return_mean"] == found["best_eval_return_mean"]


@pytest.mark.parametrize("agent", [PPO, SAC], ids=["ppo", "sac"])
def test_sampled_evaluations_are_the_same_in_another_process_and_after_a_stop(
    agent: list[str], command_line: CommandLine
) -> None:
    both = [*agent, *SEVERAL, "eval.policy=both", "stop_when.no_improvement=99"]  # waits for each evaluation
    assert command_line(*both, "name=straight").code == 0
    with at(600, lambda: os.kill(os.getpid(), signal.SIGTERM)):
        assert command_line(*both, "name=run", "eval.workers=1").code == 128 + signal.SIGTERM
    assert command_line(*both, "name=run", "eval.workers=1").code == 0
    assert_same_run(STRAIGHT, RUN)


def test_a_saved_policy_is_evaluated_as_the_run_was_or_as_it_is_asked(command_line: CommandLine) -> None:
    run([*PPO, *SEVERAL, "eval.policy=both", "name=run"])
    csv = {
        name: [float(row[2]) for row in rows(RUN, f"{name}/return") if row[3] != ""]
        for name in ("final_eval", "final_eval_sample")
    }
    assert list(evaluate(RUN).returns) == csv["final_eval"]
    assert list(evaluate(RUN, policy="mode").returns) == csv["final_eval"]
    assert list(evaluate(RUN, policy="sample").returns) == csv["final_eval_sample"]
    assert evaluate(RUN, policy="sample", seed=7).returns != evaluate(RUN, policy="sample").returns
    with pytest.raises(ConfigurationError, match=r"^policy='both': must be mode or sample$"):
        evaluate(RUN, policy="both")  # type: ignore[arg-type]
    run([*PPO, *SEVERAL, "eval.policy=sample", "name=straight"])
    assert list(evaluate(STRAIGHT).returns) == csv["final_eval_sample"]


def test_a_difference_between_the_two_is_said_with_its_numbers(command_line: CommandLine) -> None:
    longer = ["total_steps=4096", "eval.every=0", "eval.final_episodes=20"]
    ended = command_line(*PPO, *longer, "eval.policy=both", "name=run")
    found = summary_of(RUN)
    mode, sample = (found[f"eval_{acting}_return_mean"] for acting in ("mode", "sample"))
    assert (
        f"warning: the most likely actions return {mode:.4g}, sampled actions {sample:.4g}: best.pt, report and search "
        "follow the most likely actions, with eval.judged_by=sample they follow the other"
    ) in ended.out
    assert f"; sampled actions: return {sample:.4g}\n" in ended.out


def test_two_ways_differ_much_by_more_than_their_error_and_a_tenth() -> None:
    def of(*returns: float) -> Evaluation:
        return Evaluation(returns, (1,) * len(returns))

    assert of(0.0, 0.0, 0.0).differs_much(of(1.0, 0.5, 1.0))
    assert not of(0.0, 0.0, 0.0, 0.0).differs_much(of(1.0, 0.0, 0.0, 0.0))  # 0.25 ± 0.22
    assert not of(100.0, 100.0).differs_much(of(109.0, 109.0))
    assert of(100.0, 100.0).differs_much(of(112.0, 112.0))
    assert not of(3.0).differs_much(of(9.0))  # one episode says nothing


def test_success_is_what_a_key_of_info_says(command_line: CommandLine) -> None:
    lake = [*PPO, "env.id=FrozenLake-v1", *SEVERAL, "env.info_keys=[prob]"]
    ended = command_line(*lake, "eval.success=prob", "eval.policy=both", "name=run")
    assert ended.code == 0
    found = summary_of(RUN)
    rates = ("eval_success_rate", "eval_mode_success_rate", "eval_sample_success_rate")
    assert [found[name] for name in rates] == [1.0, 1.0, 1.0]  # the probability of a transition is never 0
    assert {each["success_rate"] for each in found["evaluations"]} == {1.0}
    assert {row[2] for row in csv_of(RUN) if row[1].endswith("eval_sample/success_rate")} == {"1.0"}
    assert "(4 episodes), success rate 1; sampled actions: return" in ended.out
    assert command_line(*lake, "name=straight").code == 0
    assert summary_of(STRAIGHT)["eval_success_rate"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["agent=dqn", "eval.policy=sample"], "key 'eval.policy' = 'sample': must be mode: policy has no distribution"),
        (
            ["agent=dqn", "eval.policy=both"],
            "key 'eval.policy' = 'both': must be mode: policy has no distribution over",
        ),
        (["eval.policy=often"], "key 'eval.policy' = 'often': must be one of mode, sample, both"),
        (["eval.judged_by=sample"], "key 'eval.judged_by' = 'sample': must be null or mode with eval.policy=mode, or"),
        (["eval.success=there"], "key 'eval.success' = 'there': must be a key of info with one number per environment"),
    ],
)
def test_an_evaluation_that_cannot_be_is_refused_in_one_line(
    options: list[str], message: str, command_line: CommandLine
) -> None:
    ended = command_line("agent=ppo", *options, "name=run")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert message in ended.err
    assert not RUN.exists()


def test_the_job_of_a_policy_without_a_distribution_fails_alone(command_line: CommandLine) -> None:
    short = ["total_steps=256", "eval.every=0", "eval.final_episodes=1", "tracking=none"]
    ended = command_line("-m", "agent=a2c,dqn", "eval.policy=sample", "name=s", *short)
    assert ended.code == 1
    jobs = json.loads((Path("outputs") / "multirun" / "s" / "sweep.json").read_text())["jobs"]
    assert [(job["overrides"], job["status"]) for job in jobs] == [("agent=a2c", "completed"), ("agent=dqn", "failed")]
    assert state_of(Path("outputs") / "multirun" / "s" / "agent=a2c", "last.pt")


def test_the_configuration_of_an_earlier_version_has_the_hash_and_the_meaning_that_it_had(
    command_line: CommandLine,
) -> None:
    assert command_line(*PPO, "name=straight").code == 0
    with at(600, lambda: os.kill(os.getpid(), signal.SIGTERM)):
        command_line(*PPO, "name=run")
    config = RUN / ".hydra" / "config.yaml"
    added = ("schedule_steps:", "stop_when:", "  metric: eval", "  at_least:", "  evaluations: 1", "  no_improvement:")
    added += ("  wall_minutes:", "  policy: mode", "  judged_by:", "  success:")
    lines = config.read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(added)]
    assert len(lines) - len(kept) == len(added)
    config.write_text("".join(kept))
    assert len(evaluate(RUN, episodes=1).returns) == 1
    assert command_line(*PPO, "name=run").code == 0
    assert_same_run(STRAIGHT, RUN)
