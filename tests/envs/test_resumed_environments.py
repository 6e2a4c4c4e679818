"""Environments that take up a state show the rows that those they were taken from show, to the bit."""

from __future__ import annotations

import copy
import io

import gymnasium
import numpy as np
import pytest
import torch
from resumed_envs import SINGLE, Changed, Lottery, SeededSampling
from toy_envs import Counting, DictNoise

from bbrl_exp.envs import AutoResetGymAgent, NoAutoResetGymAgent
from bbrl_exp.envs.action_log import ActionLog
from bbrl_exp.envs.checks import check_resumable
from bbrl_exp.envs.spec import LeafSpec
from bbrl_exp.errors import BbrlExpError, ConfigurationError
from bbrl_exp.workspace import Workspace

N_STEPS = 60


ENVS = {
    "cartpole": ("CartPole-v1", {}),
    "pendulum": ("Pendulum-v1", {}),
    "dict": (DictNoise, {"info_keys": ["luck"]}),
    "multi_discrete": (SeededSampling, {}),
}


def actions_at(agent, t):
    """Actions of time t that depend on nothing else."""
    generator = np.random.default_rng(t)
    shape = (agent.batch_size,)
    for leaf in agent.env_spec.actions:
        if leaf.counts is None:
            values = generator.uniform(-1, 1, shape + leaf.shape)
        else:
            start = 0 if leaf.start is None else leaf.start
            values = start + generator.integers(0, leaf.counts, shape + leaf.shape)
        yield leaf.name, torch.from_numpy(np.asarray(values, leaf.dtype))


def unroll(agent, stop, workspace=None):
    """Rows up to time stop - 1, the actions of the last one included."""
    workspace = Workspace() if workspace is None else workspace
    first = workspace.time_size() if workspace.keys() else 0
    for t in range(first, stop):
        agent(workspace, t=t)
        for name, values in actions_at(agent, t):
            workspace.set(name, t, values)
    return workspace


def stored(state):
    """The state as it comes from a file."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def same(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def check_resume(make, n_before, n_steps=N_STEPS, make_other=None):
    straight, interrupted, resumed = make(), make(), (make_other or make)()
    try:
        expected = unroll(straight, n_steps)
        recorded = unroll(interrupted, n_before)
        state = interrupted.run_state()
        assert same(state, stored(state))
        resumed.load_run_state(stored(state))
        assert same(resumed.run_state(), state)
        found = unroll(resumed, n_steps, Workspace(recorded))
        for name in expected.keys():  # noqa: SIM118
            assert expected[name].numpy().tobytes() == found[name].numpy().tobytes(), name
        assert same(straight.run_state(), resumed.run_state())
    finally:
        for agent in (straight, interrupted, resumed):
            agent.close()


def ends(make):
    agent = make()
    done = unroll(agent, N_STEPS)["env/done"]
    agent.close()
    return done


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("kind", [AutoResetGymAgent, NoAutoResetGymAgent])
@pytest.mark.parametrize("env", ENVS)
def test_a_resumed_run_shows_the_rows_of_a_run_that_was_never_interrupted(env, kind, batch_size):
    source, options = ENVS[env]

    def make():
        return kind(source, batch_size, seed=3, **options)

    done = ends(make)[:, 0]
    moments = {1, 7, 40}
    if done[: N_STEPS - 3].any():
        first_end = int(done.int().argmax())
        moments |= {first_end, first_end + 1, first_end + 2}  # before, at and after an end
    for n_before in sorted(moments):
        check_resume(make, n_before)


@pytest.mark.parametrize("kind", [AutoResetGymAgent, NoAutoResetGymAgent])
def test_a_run_goes_on_with_another_number_of_workers(kind):
    def make(workers):
        return lambda: kind(DictNoise, 3, seed=1, workers=workers, info_keys=["luck"])

    check_resume(make(0), 17, make_other=make(2))
    check_resume(make(2), 23, make_other=make(1))
    if kind is AutoResetGymAgent:
        check_resume(make(1), 9, make_other=make(0))


@pytest.mark.parametrize("env", ["CartPole-v1", SINGLE])
@pytest.mark.parametrize("kind", [AutoResetGymAgent, NoAutoResetGymAgent])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_vectorised_environments_resume_too(env, kind, batch_size):
    for n_before in (1, 9, 40):
        check_resume(lambda: kind(env, batch_size, seed=2, stepping="vectorized"), n_before)


@pytest.mark.parametrize("stepping", [{}, {"workers": 1}, {"stepping": "vectorized"}])
def test_the_state_of_environments_that_have_not_begun_is_their_seed(stepping):
    agents = [AutoResetGymAgent("CartPole-v1", 2, seed=5, **stepping) for _ in range(2)]
    agents[0].seed(9)
    agents[1].load_run_state(stored(agents[0].run_state()))
    with pytest.raises(BbrlExpError, match="begin at t=0"):
        agents[1](unroll(AutoResetGymAgent("CartPole-v1", 2), 2), t=2)
    rows = [unroll(agent, 20)["env/env_obs"] for agent in agents]
    assert torch.equal(*rows)
    for agent in agents:
        agent.close()


def test_a_new_seed_counts_from_the_next_reset_on_also_after_a_resume():
    def make():
        agent = AutoResetGymAgent("CartPole-v1", 2, seed=5)
        unroll(agent, 30)
        agent.seed(11)
        return agent

    agent, other = make(), AutoResetGymAgent("CartPole-v1", 2, seed=5)
    other.load_run_state(agent.run_state())
    for one in (agent, other):
        one.state_rows = unroll(one, 40)["env/env_obs"]
    assert torch.equal(agent.state_rows, other.state_rows)
    assert torch.equal(agent.state_rows, unroll(AutoResetGymAgent("CartPole-v1", 2, seed=11), 40)["env/env_obs"])


def test_many_environments_have_the_same_state_in_workers_where_each_has_few():
    agents = [AutoResetGymAgent(SeededSampling, 10, **options) for options in ({}, {"workers": 2})]
    rows = [unroll(agent, 40) for agent in agents]
    for name in rows[0].keys():  # noqa: SIM118
        assert rows[0][name].numpy().tobytes() == rows[1][name].numpy().tobytes(), name
    assert same(*(agent.run_state() for agent in agents))
    agents[1].close()


@pytest.mark.parametrize("options", [{}, {"workers": 1}])
def test_an_environment_that_is_not_deterministic_is_named(options):
    agent, other = (AutoResetGymAgent(Lottery, 2, kwargs={"length": 50}, **options) for _ in range(2))
    unroll(agent, 5)
    message = r"environment 0 of Lottery is not deterministic: after replaying 4 actions .* cannot be resumed exactly"
    with pytest.raises(BbrlExpError, match=message):
        other.load_run_state(agent.run_state())
    with pytest.raises(BbrlExpError, match=r"begin at t=0|closed"):
        unroll(other, 6, Workspace(unroll(AutoResetGymAgent(Lottery, 2), 5)))
    for one in (agent, other):
        one.close()


def test_an_episode_that_depends_on_the_ones_before_or_ends_elsewhere_is_refused():
    agent, other = (AutoResetGymAgent(Counting, 1) for _ in range(2))
    unroll(agent, 6)
    with pytest.raises(BbrlExpError, match="environment 0 of Counting is not deterministic: after replaying 1 actions"):
        other.load_run_state(agent.run_state())
    Changed.made = 0
    agent, other = (AutoResetGymAgent(Changed, 1) for _ in range(2))
    unroll(agent, 5)
    with pytest.raises(BbrlExpError, match="not deterministic"):
        other.load_run_state(agent.run_state())


def test_a_replay_leaves_the_global_generators_alone():
    agent, other = (AutoResetGymAgent(Lottery, 1) for _ in range(2))
    unroll(agent, 2)
    np.random.seed(0)
    expected = np.random.random()
    np.random.seed(0)
    other.load_run_state(agent.run_state())
    assert np.random.random() == expected


def test_the_state_of_other_environments_is_refused_in_one_line():
    state = AutoResetGymAgent("CartPole-v1", 3).run_state()
    for other, message in (
        (AutoResetGymAgent("CartPole-v1", 2), "a state of 3 environments cannot be taken over by the 2 of CartPole-v1"),
        (AutoResetGymAgent("Pendulum-v1", 3), "'env/env_obs' float32 \\[4\\] cannot be .* Pendulum-v1, which has"),
        (AutoResetGymAgent("CartPole-v1", 3, stepping="vectorized"), "stepped one by one cannot be .* vectorised"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            other.load_run_state(state)
    vectorized = [AutoResetGymAgent("CartPole-v1", n, stepping="vectorized") for n in (2, 3)]
    with pytest.raises(ConfigurationError, match="a state of 2 environments"):
        vectorized[1].load_run_state(vectorized[0].run_state())


def test_environments_that_have_failed_have_no_state():
    agent = AutoResetGymAgent("CartPole-v1", 1)
    workspace = unroll(agent, 2)
    agent.envs[0].close()
    agent._kernel._steps[0] = lambda action: 1 / 0
    with pytest.raises(ZeroDivisionError):
        unroll(agent, 3, workspace)
    with pytest.raises(BbrlExpError, match="has failed"):
        agent.run_state()


@pytest.mark.parametrize(
    ("kind", "message"), [("object", "attribute helper.of: a object"), ("view", "attribute first: shares its memory")]
)
def test_vectorised_environments_that_cannot_be_saved_are_known_before_the_run(kind, message):
    agent = AutoResetGymAgent(SINGLE, 2, stepping="vectorized", kwargs={"kind": kind})
    with pytest.raises(ConfigurationError, match=message):
        check_resumable(lambda: copy.deepcopy(agent))
    unroll(agent, 2)
    with pytest.raises(BbrlExpError, match=message):
        agent.run_state()


def test_what_is_deterministic_is_known_before_the_run():
    check_resumable(lambda: AutoResetGymAgent(SINGLE, 2, stepping="vectorized"))
    check_resumable(lambda: AutoResetGymAgent("Pendulum-v1", 2))
    check_resumable(lambda: AutoResetGymAgent(DictNoise, 2))
    with pytest.raises(ConfigurationError, match="Lottery is not deterministic"):
        check_resumable(lambda: AutoResetGymAgent(Lottery, 1, kwargs={"length": 50}))
    with pytest.raises(ConfigurationError, match="Counting is not deterministic"):
        check_resumable(lambda: AutoResetGymAgent(Counting, 1))  # shows how many episodes there were before


@pytest.mark.parametrize("kind", ["discrete", "box"])
def test_the_log_keeps_episodes_and_no_more(kind):
    shape = () if kind == "discrete" else (2,)
    leaf = LeafSpec("action", kind, shape, "int64" if kind == "discrete" else "float32")
    log, expected = ActionLog([leaf], auto_reset=True), [[], []]
    for step in range(3000):
        values = np.arange(2 * leaf.size).reshape(2, *shape) + 10 * step
        log.append(values.tolist() if log.takes_numbers else [values.astype(leaf.dtype)])
        for index, length in ((0, 7), (1, 300)):
            expected[index].append(values[index])
            if step % length == length - 1:
                expected[index] = []
                log.trim([len(actions) for actions in expected])
        assert len(log._steps) <= 900
    found = log.episodes([len(actions) for actions in expected])
    for index in (0, 1):
        assert found[index][0].tolist() == [np.asarray(value).tolist() for value in expected[index]]


def test_environments_without_automatic_reset_log_nothing_when_all_are_over():
    agent = NoAutoResetGymAgent(Counting, 2)
    workspace = unroll(agent, 50)
    assert workspace["env/done"][-1].all()
    assert agent.run_state()["kernel"]["n_actions"].tolist() == [3, 3]
    assert len(agent._kernel._log._steps) == 3


def test_registered_environments_of_gymnasium_resume_within_long_episodes():
    for env in ("MountainCarContinuous-v0", "Acrobot-v1", "FrozenLake-v1"):
        assert env in gymnasium.registry
        check_resume(lambda env=env: AutoResetGymAgent(env, 2, seed=1), 33)


class Endless(Counting):
    """Ends its first episode after three steps, and no other one; environment 1 ends none at all."""

    made = 0

    def __init__(self):
        super().__init__()
        self.index = Endless.made % 2
        Endless.made += 1

    def reset(self, **kwargs):
        self.length = 3 if self.index == 0 and self.episode == -1 else 10**9
        return super().reset(**kwargs)


def test_the_actions_of_an_episode_that_never_ends_are_not_kept_for_ever(monkeypatch):
    monkeypatch.setattr("bbrl_exp.envs.action_log.MOST_STEPS", 300)
    agent = AutoResetGymAgent(Endless, 2)
    workspace = unroll(agent, 300)
    assert agent.run_state()["kernel"]["n_actions"].tolist() == [295, 299]
    unroll(agent, 302, workspace)
    with pytest.warns(UserWarning, match=r"Endless is in an episode of more than 100,000 steps.* cannot be resumed"):
        state = agent.run_state()
    assert state["kernel"]["n_actions"].tolist() == [297, 0]
    unroll(agent, 1000, workspace)
    assert len(agent._kernel._log._steps) == 301
    with pytest.raises(BbrlExpError, match=r"environment 1 of Endless was in step 301 of its episode.*init_from="):
        AutoResetGymAgent(Endless, 2).load_run_state(state)


def test_the_actions_of_a_whole_list_of_episodes_are_not_kept_for_ever(monkeypatch):
    monkeypatch.setattr("bbrl_exp.envs.action_log.MOST_STEPS", 20)
    agent = NoAutoResetGymAgent(Counting, 2, kwargs={"length": 30})
    workspace = unroll(agent, 21)
    assert agent.run_state()["kernel"]["n_actions"].tolist() == [20, 20]
    unroll(agent, 22, workspace)
    with pytest.warns(UserWarning, match="cannot be resumed"):
        assert agent.run_state()["kernel"]["n_actions"].tolist() == [0, 0]
    unroll(agent, 1)
    assert agent.run_state()["kernel"]["n_actions"].tolist() == [0, 0]


@pytest.mark.parametrize("workers", [0, 1])
def test_where_nothing_will_be_resumed_no_actions_are_kept(workers):
    agent = AutoResetGymAgent("CartPole-v1", 2, workers=workers)
    agent.forget_actions()
    unroll(agent, 5)
    with pytest.raises(BbrlExpError, match="the actions of CartPole-v1 are not kept"):
        agent.run_state()
    agent.close()
