"""Compiled updates do what the others do; what cannot be compiled says why, and learns all the same.

All but one of these tests run the recorded graphs as they are: compiling them changes no more than their speed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from bbrl_exp.agents.combinators import TemporalAgent
from bbrl_exp.compilation.compiler import Compiler, Function, NotCompilableError, why_no_compiler
from bbrl_exp.config.check import check
from bbrl_exp.config.preparation import PreparedRun, prepare
from bbrl_exp.learners.compiled.optimizers import OptimizerState
from bbrl_exp.learners.compiled.recording import LearnerTensors, record
from bbrl_exp.learners.compiled.updates import in_words, updates_per_graph
from bbrl_exp.learners.learner import Learner, Progress
from bbrl_exp.learners.parts.samples import Samples
from bbrl_exp.runs.run import open_composer
from bbrl_exp.training.loop import collect
from bbrl_exp.workspace import Workspace

SMALL = ["batch_size=2", "agent.steps_per_chunk=8", "total_steps=64", "tracking=none"]
REPLAYED = ["agent.learner.learning_starts=16", "agent.learner.updates_per_step=0.5", "agent.learner.batch_size=5"]
POLICY = "agent.members.policy.hidden_sizes=[8]"
DQN = ["agent=dqn", "env=cartpole", POLICY, *REPLAYED]
ON_POLICY = [POLICY, "env=cartpole"]
PPO = ["agent=ppo", "agent.learner.n_epochs=2"]


def actor_critic(agent: str, env: str = "pendulum") -> list[str]:
    return [f"agent={agent}", f"env={env}", POLICY, "agent.learner.critic.hidden_sizes=[8]", *REPLAYED]


OWN = f"_target_: {__name__}.CountsCalls"
OF_BATCHES = "{" + OWN + ", averages: true}"

LEARNERS: dict[str, list[str]] = {
    "dqn": DQN,
    "dqn of quantiles with copies every second update and AdamW": [
        *DQN,
        "agent.members.policy.distribution=quantile",
        "agent.members.policy.n_atoms=3",
        "agent.learner.target_rate=null",
        "agent.learner.target_period=4",
        "+agent.learner.optimizer={_target_: torch.optim.AdamW, weight_decay: 0.1}",
    ],
    "prioritised dqn with copies": [
        *DQN,
        "agent.learner.prioritised=true",
        "agent.learner.target_rate=null",
        "agent.learner.target_period=12",
    ],
    "ddpg": actor_critic("ddpg"),
    "td3": actor_critic("td3"),
    "sac": actor_critic("sac"),
    "tqc": actor_critic("tqc"),
    "crossq": actor_critic("crossq"),
    "droq": [*actor_critic("droq"), "agent.learner.policy_delay=3"],
    "discrete sac": actor_critic("discrete_sac", "cartpole"),
    "ppo with clipped values": [
        *PPO,
        *ON_POLICY,
        "+agent.learner.value_clip_range=0.1",
        "+agent.members.policy.network={" + OWN + "}",
    ],
    "ppo with a penalty": [*PPO, *ON_POLICY, "agent.learner.objective=kl"],
    "ppo of continuous actions in five minibatches": [
        *PPO,
        "env=pendulum",
        POLICY,
        "agent.learner.n_minibatches=5",
    ],
    "a2c": ["agent=a2c", *ON_POLICY],
    "pqn": ["agent=pqn", *ON_POLICY],
}


class CountsCalls(nn.Module):
    """A layer that counts how often it was called in training mode; with averages over batches where asked."""

    def __init__(self, input_shape: tuple[int, ...], averages: bool = False) -> None:
        super().__init__()
        self.n_features = 3
        self.layer = nn.Linear(input_shape[0], 3)
        self.last = nn.BatchNorm1d(3) if averages else nn.Tanh()
        self.register_buffer("n_calls", torch.zeros(()))

    def forward(self, observation: Tensor) -> Tensor:
        if self.training:
            self.n_calls += 1
        return self.last(self.layer(observation))


class Centred(nn.Module):
    """A layer that in training mode centres its features over the batch, or keeps their mean for nobody."""

    def __init__(self, input_shape: tuple[int, ...], subtracts: bool = True) -> None:
        super().__init__()
        self.n_features, self.subtracts = 3, subtracts
        self.layer = nn.Linear(input_shape[0], 3)
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, observation: Tensor) -> Tensor:
        features = self.layer(observation)
        mean = features.mean(0)
        self.mean.copy_(mean.detach())
        return features - mean if self.training and self.subtracts else features


@pytest.fixture(autouse=True)
def allow_own_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BBRL_EXP_ALLOW", __name__.partition(".")[0])


class Recorded(Compiler):
    """Runs graphs as they were recorded."""

    def compile(self, graph: torch.fx.GraphModule, examples: Sequence[Tensor], **_: bool) -> Function:
        return graph


class Refused(Compiler):
    """Compiles nothing."""

    def compile(self, graph: torch.fx.GraphModule, examples: Sequence[Tensor], **_: bool) -> Function:
        raise RuntimeError("too warm\nfor this")


def prepared(overrides: Sequence[str]) -> PreparedRun:
    with open_composer() as composer:
        return prepare(check(composer.compose([*SMALL, *overrides])))


def trained(
    overrides: Sequence[str],
    compiler: Compiler | None,
    around_compiling: Callable[[str | None], AbstractContextManager[None]] | None = None,
) -> tuple[Learner, list[str], list[dict[str, float]]]:
    """A learner at the end of a run, what it has said, and the metrics of all its chunks."""
    with prepared(overrides) as run:
        graph, learner, size = run.graph, run.learner, run.run.size
        assert isinstance(graph, TemporalAgent)
        assert learner is not None
        if compiler is not None:
            learner.compile_updates(compiler, size.steps_per_chunk, size.batch_size)
            if around_compiling is not None and learner.compiled is not None:
                learner.compiled.around_compiling = around_compiling
        workspace, news, metrics = Workspace(), [], []
        for chunk in collect(
            graph,
            workspace,
            total_steps=size.total_steps,
            batch_size=size.batch_size,
            steps_per_chunk=size.steps_per_chunk,
        ):
            progress = Progress(chunk.first_row, chunk.env_steps, size.env_steps, chunk.new_steps)
            found = learner.learn_from(workspace, progress)
            metrics.append({name: float(value) for name, value in found.items()})
            news += learner.news()
        return learner, news, metrics


def tensors_in(state: Any) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return [tensor for part in parts for tensor in tensors_in(part)]


def assert_same(one: Learner, other: Learner, tolerance: float) -> None:
    ours, theirs = tensors_in(one.state_dict()), tensors_in(other.state_dict())
    assert len(ours) == len(theirs) > 0
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", sorted(LEARNERS.keys() - {"dqn"}))  # which the test of a schedule covers
def test_a_learner_becomes_the_same_up_to_rounding(name: str) -> None:
    eager, _, expected = trained(LEARNERS[name], None)
    learner, news, found = trained(LEARNERS[name], Recorded("cpu"))
    assert news
    assert all(
        line.startswith(("compile: a graph of ", "compile: policy and critic on the states of a chunk: "))
        for line in news
    )
    assert_same(learner, eager, 2e-5)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-4)


def test_a_schedule_is_followed_without_another_graph() -> None:
    schedule = "{_target_: bbrl_exp.functional.schedules.Linear, start: 0.1, end: 0.5}"
    overrides = [*DQN, f"agent.learner.target_rate={schedule}", "agent.learner.anneal_learning_rate=true"]
    eager, _, _ = trained(overrides, None)
    learner, news, _ = trained(overrides, Recorded("cpu"))
    assert len(news) == 1
    assert_same(learner, eager, 2e-5)


@pytest.mark.parametrize("name", ["droq", "ppo with a penalty", "pqn"])
def test_a_learner_that_cannot_be_compiled_learns_as_without_to_the_last_bit(name: str) -> None:
    eager, _, _ = trained(LEARNERS[name], None)
    learner, news, _ = trained(LEARNERS[name], Refused("cpu"))
    assert news == ["compile: updates are not compiled: it cannot be compiled (RuntimeError: too warm)"]
    assert learner.compiled is None
    assert_same(learner, eager, 0.0)


@pytest.mark.parametrize(("agent", "subtracts"), [("a2c", True), ("pqn", True), ("pqn", False)])
def test_a_network_whose_samples_depend_on_each_other_is_not_compiled(agent: str, subtracts: bool) -> None:
    network = f"{{_target_: {__name__}.Centred, subtracts: {subtracts}}}"
    overrides = [f"agent={agent}", *ON_POLICY, f"+agent.members.policy.network={network}"]
    learner, news, _ = trained(overrides, Recorded("cpu"))
    assert (
        "compile: updates are not compiled: its network mixes the samples of a minibatch, which others fill up" in news
    )
    assert_same(learner, trained(overrides, None)[0], 0.0)


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["agent=recurrent_ppo", "env=cartpole"], "RecurrentPPO has no compiled update"),
        (["agent=recurrent_sac", "env=pendulum"], "RecurrentSAC has a memory, and no compiled update"),
        (["agent=cem", "env=cartpole"], "CrossEntropyMethod has no compiled update"),
        (
            ["agent=ppo", "env=cartpole", f"+agent.members.policy.network={OF_BATCHES}"],
            "BatchNorm1d would count the samples that fill a minibatch up; use layer normalisation",
        ),
        (["agent=random", "env=cartpole"], "the agent learns nothing"),
        (
            ["agent=ppo", "env=cartpole", "+agent.learner.target_kl=0.01"],
            "target_kl may end the update of a chunk early; it must be null",
        ),
        (
            [*DQN, "+agent.learner.optimizer={_target_: torch.optim.Adagrad}"],
            "optimizer Adagrad is not one of those that are compiled: Adam, AdamW, RMSprop, SGD",
        ),
        (
            [*DQN, "+agent.learner.optimizer={_target_: torch.optim.SGD, momentum: 0.9}"],
            "optimizer SGD is not compiled with momentum",
        ),
    ],
)
def test_the_plan_says_why_nothing_is_compiled(overrides: list[str], reason: str) -> None:
    with prepared([*overrides, "compile=true"]) as run:
        assert run.run.size.compiled == f"nothing: {reason}"
        assert run.learner is None or run.learner.compiled is None


def test_the_plan_says_that_there_is_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with prepared([*DQN, "compile=true"]) as run:
        assert run.run.size.compiled == (
            "nothing: no C++ compiler found (no-such-compiler); install one, such as the package g++"
        )


def test_the_plan_says_what_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "true")
    with prepared([*DQN, "compile=true"]) as run:
        assert run.run.size.compiled == ("the updates of DQN, 4 in a graph, when the first is due; kept for later runs")
    with prepared(DQN) as run:
        assert run.run.size.compiled is None


def test_nothing_is_compiled_for_mps() -> None:
    assert why_no_compiler("mps") == "device=mps is not supported"


def test_an_optimizer_with_hooks_is_refused() -> None:
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))])
    hook = optimizer.register_step_pre_hook(lambda *_: None)
    complaint = "optimizer Adam has hooks, which a graph would not call"
    with pytest.raises(NotCompilableError, match=f"^{complaint}$"):
        OptimizerState(optimizer)
    hook.remove()
    with register_optimizer_step_post_hook(lambda *_: None), pytest.raises(NotCompilableError, match=f"^{complaint}$"):
        OptimizerState(optimizer)
    assert OptimizerState(optimizer).max_grad_norm is None


def test_a_buffer_that_was_replaced_between_updates_is_the_one_that_counts() -> None:
    module = nn.Linear(2, 2)
    module.register_buffer("objective", torch.zeros(()))
    tensors = LearnerTensors(module)
    before = len(tensors.all())
    module.objective = torch.ones(())
    assert any(each is module.objective for each in tensors.all())
    assert len(tensors.all()) == before
    with tensors.replaced([each.detach().clone() for each in tensors.all()]):
        assert module.objective == 1


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        (lambda x: (x + torch.rand_like(x),), r"^its network draws random numbers \(rand_like\)$"),
        (lambda x: (torch.nn.functional.dropout(x),), r"^its network draws random numbers \("),
    ],
)
def test_random_numbers_that_nobody_passed_in_are_refused(
    function: Callable[..., tuple[Tensor, ...]], complaint: str
) -> None:
    before = torch.get_rng_state()
    with pytest.raises(NotCompilableError, match=complaint):
        record(function, [torch.ones(3)])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("example", [torch.arange(3.0), torch.arange(3)])
def test_numbers_that_are_computed_outside_torch_are_refused(example: Tensor) -> None:
    def function(x: Tensor) -> tuple[Tensor]:
        return (x + torch.from_numpy(x.numpy() % 2),)

    complaint = r"^some of its numbers are computed outside torch, such as by numpy$"
    with pytest.raises(NotCompilableError, match=complaint):
        record(function, [example], 1)
    assert record(lambda x: (x + x % 2,), [example], 1)


def test_operations_that_depend_on_values_are_refused() -> None:
    def function(x: Tensor) -> tuple[Tensor]:
        return (x + 1 if bool(x.sum() > 0) else x,)

    with pytest.raises(NotCompilableError, match=r"^it cannot be compiled \("):
        Recorded("cpu")(lambda: (record(function, [torch.ones(3)]), [torch.ones(3)]))


def test_a_graph_has_no_more_updates_than_lie_between_copies_of_the_target_network() -> None:
    assert [updates_per_graph(16, most) for most in (0.5, 1, 2.5, 3, 1000)] == [1, 1, 2, 2, 4]


def test_advantages_of_a_minibatch_with_one_sample_stay_as_they_are() -> None:
    advantages, zeros = torch.tensor([2.0, 2.0, 2.0]), torch.zeros(3)
    samples = Samples((), (), zeros, zeros, advantages, zeros, torch.tensor([1.0, 0.0, 0.0]))
    assert samples.standardized(advantages).tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize(("due", "n"), [(0.5, 1), (1, 1), (2, 2), (3, 3), (4, 4), (5, 1), (6, 3), (14, 2), (16, 4)])
def test_the_updates_that_are_due_at_a_time_fill_graphs(due: float, n: int) -> None:
    assert updates_per_graph(due) == n


def test_a_line_says_what_a_graph_costs_and_when_it_pays() -> None:
    assert in_words(4, "compiled in 12.0 s", 30.0, (0.0002, 0.0008), None) == (
        "compile: a graph of 4 updates: compiled in 12.0 s; an update takes 0.2 ms, 0.8 ms without compiling: "
        "it pays after about 50,000 updates"
    )
    assert in_words(4, "loaded from the cache in 3.0 s", 3.0, (0.0002, 0.0008), 81_234.0) == (
        "compile: a graph of 4 updates: loaded from the cache in 3.0 s; an update takes 0.2 ms, 0.8 ms "
        "without compiling: it pays after about 5,000 updates; about 81,000 are left in this run"
    )
    assert in_words(1, "compiled in 30.0 s", 30.0, (0.002, 0.001), 100.0) == (
        "compile: a graph of one update: compiled in 30.0 s; an update takes 2 ms, 1 ms without compiling: it does not "
        "pay here"
    )


@pytest.mark.parametrize(
    ("overrides", "n_graphs", "ends"),
    [
        ([*PPO, *ON_POLICY, "agent.learner.n_minibatches=4"], 2, "about 3 updates; about 32 are left in this run"),
        (DQN, 1, "about 1 updates; about 24 are left in this run"),
    ],
)
def test_compiling_is_announced_once_before_it_begins_and_all_of_it_has_to_pay(
    overrides: list[str], n_graphs: int, ends: str
) -> None:
    class Slow(Recorded):
        """Compiling takes a second, and so does each update and each graph of four."""

        def clock(self) -> float:
            self.now = getattr(self, "now", 0.0) + 1.0
            return self.now

    said: list[str | None] = []

    @contextlib.contextmanager
    def around(begins: str | None) -> Iterator[None]:
        said.append(begins)
        yield
        said.append("end")

    learner, news, _ = trained(overrides, Slow("cpu"), around)
    begins = f"compile: compiling the updates of {type(learner).__name__} …"
    assert said == [begins, "end", None, "end"][: 2 * n_graphs]
    assert len(news) == n_graphs
    assert news[-1].endswith(f"an update takes 250 ms, 1e+03 ms without compiling: it pays after {ends}")
