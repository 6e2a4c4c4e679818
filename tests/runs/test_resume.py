"""A run that was stopped, in whatever way, and goes on ends as the run that never was."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bbrl_exp.commands.record import record
from bbrl_exp.commands.run import main
from bbrl_exp.runs import execution, session
from bbrl_exp.runs.run import run
from bbrl_exp.runs.stop import CAUGHT
from bbrl_exp.training.evaluation import Evaluation, Evaluator

from .same_run import assert_equal, assert_same_run, csv_of, state_of, summary_of

SMALL = [
    "total_steps=1024",
    "eval.every=300",
    "eval.episodes=1",
    "eval.final_episodes=1",
    "tracking.metrics_every=200",
    "checkpoint.every=200",
    "checkpoint.keep=1",  # a signal adds one, where there may have been fewer than are kept
]
CHUNKS_OF_256 = ["agent.steps_per_chunk=32"]
FEW_UPDATES = ["agent.learner.learning_starts=200", "agent.learner.updates_per_step=0.05"]
SMALL_NETS = ["agent.members.policy.hidden_sizes=[8]", "agent.learner.critic.hidden_sizes=[8]"]
CONTINUOUS = ["env=pendulum", "batch_size=2", *FEW_UPDATES, *SMALL_NETS]
AGENTS = {
    "random": CHUNKS_OF_256,
    "constant": CHUNKS_OF_256,
    "mlp": ["env=pendulum", *CHUNKS_OF_256],
    "reinforce": CHUNKS_OF_256,
    "a2c": [],
    "ppo": ["agent.learner.objective=kl", "agent.learner.n_epochs=2", *CHUNKS_OF_256],
    "recurrent_a2c": ["env=masked_cartpole"],
    "recurrent_ppo": ["env=masked_cartpole", "agent.learner.n_epochs=1", *CHUNKS_OF_256],
    "cem": ["agent.members.policy.population_size=16"],
    "behaviour_cloning": ["agent.learner.minibatch_size=16", *CHUNKS_OF_256],
    "pqn": [],
    "dqn": FEW_UPDATES,
    "dqn prioritised": [*FEW_UPDATES, "agent.learner.prioritised=true", "agent.learner.n_steps=3"],
    "recurrent_dqn": ["env=masked_cartpole", "memory=lstm", "memory.inputs=[observation,action,reward]", *FEW_UPDATES],
    "recurrent_pqn": ["env=masked_cartpole", "agent.learner.sequence_length=16", "agent.learner.burn_in=4"],
    "recurrent_sac": ["env=masked_pendulum", "batch_size=2", *FEW_UPDATES, "agent.learner.sequence_stride=5"],
    "ddpg": CONTINUOUS,
    "td3": CONTINUOUS,
    "sac": [*CONTINUOUS, "agent.members.policy.noise_correlation=0.7"],
    "discrete_sac": FEW_UPDATES,
    "tqc": CONTINUOUS,
    "crossq": CONTINUOUS,
    "droq": CONTINUOUS,
}


class PowerCut(BaseException):
    """What the tests raise where the power goes."""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The recording of an agent that has learned nothing."""
    folder = tmp_path_factory.mktemp("teacher")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run(["agent=cem", "name=teacher", "total_steps=128", "eval.every=0", "eval.final_episodes=0"])
        record("outputs/teacher", 200, Path("teacher.pt"), 0)
    return str(folder / "teacher.pt")


@contextlib.contextmanager
def at(env_steps: int, action: Callable[[], None]) -> Iterator[None]:
    """Does something as soon as a run has done so many environment steps, at every chunk from there."""

    class Tripwire(session.RunProgress):
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if name == "loop_seconds" and self.env_steps >= env_steps:
                action()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execution, "RunProgress", Tripwire)
        yield


def power_cut(*arguments: object) -> None:
    raise PowerCut


def command(agent: str, name: str, *more: str) -> list[str]:
    return [f"agent={agent.split()[0]}", *AGENTS[agent], *SMALL, f"name={name}", *more]


@pytest.mark.parametrize("agent", AGENTS)
def test_a_run_that_was_stopped_and_then_cut_off_ends_like_one_that_was_not(agent: str, recording: str) -> None:
    more = [f"agent.learner.recording={recording}"] if agent == "behaviour_cloning" else []
    straight = run(command(agent, "straight", *more))
    number = CAUGHT[list(AGENTS).index(agent) % len(CAUGHT)]
    with at(400, lambda: os.kill(os.getpid(), number)):
        assert main(command(agent, "stopped", *more)) == 128 + number
    with at(700, power_cut):
        assert main(command(agent, "stopped", *more)) == 1
    assert main(command(agent, "stopped", *more)) == 0
    assert_same_run(straight.folder, Path("outputs/stopped"))


@pytest.mark.parametrize("number", CAUGHT, ids=lambda number: number.name)
def test_each_signal_stops_a_run_at_the_next_chunk(number: signal.Signals) -> None:
    with at(300, lambda: os.kill(os.getpid(), number)):
        assert main(command("random", "stopped")) == 128 + number
    summary = summary_of(Path("outputs/stopped"))
    assert (summary["status"], summary["env_steps"]) == ("interrupted", 512)
    assert summary["error"] == f"stopped by {number.name}"


@pytest.mark.parametrize("agent", ["ppo", "sac"])
def test_a_signal_in_an_evaluation_leaves_that_one_to_the_run_that_goes_on(
    agent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = run(command(agent, "straight"))
    begin, begun = Evaluator.run, []

    def signalled(own: Evaluator, *arguments: Any, **named: Any) -> Evaluation | None:
        begun.append(own)
        if len(begun) in (2, 5):  # the second one along the run, and the last one
            os.kill(os.getpid(), signal.SIGTERM)
        return begin(own, *arguments, **named)

    monkeypatch.setattr(Evaluator, "run", signalled)
    for _ in range(2):
        assert main(command(agent, "stopped")) == 128 + signal.SIGTERM
    assert main(command(agent, "stopped")) == 0
    assert_same_run(straight.folder, Path("outputs/stopped"))


def test_an_evaluation_beside_the_run_is_begun_again_where_it_was_not_over() -> None:
    straight = run(command("ppo", "straight"))
    beside = command("ppo", "cut", "eval.workers=1")
    with at(700, power_cut):
        assert main(beside) == 1
    assert main(beside) == 0
    one, other = straight.folder, Path("outputs/cut")
    assert sorted(csv_of(one)) == sorted(csv_of(other))  # evaluations arrive when they are done
    names = [path.name for path in (one / "checkpoints").glob("*.pt")]
    assert "best.pt" in names
    for name in names:
        assert_equal(state_of(one, name), state_of(other, name), name)
