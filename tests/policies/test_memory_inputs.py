"""What a memory sees: the observation, the action before it and its reward, row by row, across chunks and resets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bbrl_exp.envs.spec import EnvSpec, LeafSpec
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.nn.cell import ArrayStep, Cell
from bbrl_exp.policies.memory import check_same_inputs
from bbrl_exp.policies.q_recurrent import RecurrentQPolicy
from bbrl_exp.policies.recurrent import MemoryCritic, RecurrentPolicy
from bbrl_exp.workspace import Workspace

ALL = ("observation", "action", "reward")
BATCH = 2
OBSERVATION = LeafSpec.box("env/env_obs", (2,), -9, 9)
CHOICE = LeafSpec("action", "discrete", (), "int64", counts=np.array(3), start=np.array(1))
CHOICES = LeafSpec("action", "multi_discrete", (2,), "int64", counts=np.array([2, 3]), start=np.array([0, 0]))
BOX = LeafSpec.box("action", (2,), -1, 1)
PAIR = (LeafSpec.discrete("action/gear", 2), LeafSpec.box("action/push", (1,), -1, 1))


class Seen(Cell):
    """Its output is its input; its state only counts the rows of the episode."""

    def __init__(self, n_inputs: int) -> None:
        super().__init__(n_inputs, n_inputs, 1)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return x, state + 1

    def on_arrays(self) -> ArrayStep:
        return lambda x, state: (x, state + 1)


def spec(*actions: LeafSpec) -> EnvSpec:
    return EnvSpec("Toy", BATCH, (OBSERVATION,), actions or (CHOICE,))


def row(t: int) -> dict[str, Tensor]:
    """Recognisable numbers; environment 0 begins an episode at t = 0 and 3, environment 1 at t = 0."""
    starts = torch.tensor([t in (0, 3), t == 0])
    reward = torch.tensor([100.0 * t, 100.0 * t + 1]).masked_fill(starts, 0.0)
    return {
        "env/env_obs": torch.tensor([[t, 0.0], [t, 1.0]]),
        "env/reward": reward,
        "env/initial_state": starts,
    }


# What the two environments' actions are at t, 1 … 3, and the same one-hot.
ACTIONS = torch.tensor([[1, 3], [2, 2], [3, 1], [1, 2], [2, 3]])
ONE_HOT = {1: [1.0, 0.0, 0.0], 2: [0.0, 1.0, 0.0], 3: [0.0, 0.0, 1.0], 0: [0.0, 0.0, 0.0]}
# The actions before: none where an episode begins.
BEFORE = [[0, 0], [1, 3], [2, 2], [0, 1], [1, 2]]


def expected(t: int) -> Tensor:
    shown = row(t)
    parts = [shown["env/env_obs"], torch.tensor([ONE_HOT[each] for each in BEFORE[t]]), shown["env/reward"][:, None]]
    return torch.cat(parts, dim=1)


def acting(policy: RecurrentPolicy, chunk_ends: list[int], monkeypatch: pytest.MonkeyPatch, *, on_arrays: bool) -> Any:
    """Runs the policy over chunks, each beginning with the last row before; what its cell saw in each row."""
    seen: list[Tensor] = []
    memory = policy.memory
    if on_arrays:
        of_arrays = memory.inputs.of_arrays

        def noting(rows: Any) -> Any:
            x = of_arrays(rows)
            seen.append(torch.from_numpy(x.copy()))
            return x

        monkeypatch.setattr(memory.inputs, "of_arrays", noting)
    else:
        memory.inputs.register_forward_hook(lambda module, args, x: seen.append(x.clone()))
    workspace, first, recorded = Workspace(), 0, []
    for end in chunk_ends:
        if first:
            workspace.copy_n_last_steps(1)
        for offset, t in enumerate(range(first, end), start=min(first, 1)):
            for name, value in row(t).items():
                workspace.set(name, offset, value)
            policy(workspace, t=offset)
            workspace.set("action", offset, ACTIONS[t])
        recorded.append(workspace["policy/previous_action"][min(first, 1) :].clone())
        first = end
    return torch.stack(seen), torch.cat(recorded), workspace


@pytest.mark.parametrize("on_arrays", [True, False])
@pytest.mark.parametrize("chunk_ends", [[5], [2, 4, 5], [3, 5]])
def test_a_memory_sees_the_row_and_the_action_before_it_none_where_an_episode_begins(
    chunk_ends: list[int], on_arrays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = RecurrentPolicy(spec(), Seen, ALL)
    with torch.set_grad_enabled(not on_arrays):
        seen, recorded, _ = acting(policy, chunk_ends, monkeypatch, on_arrays=on_arrays)
    rows = torch.stack([expected(t) for t in range(5)])
    assert torch.equal(seen, rows)
    assert torch.equal(recorded, rows[:, :, 2:5])


def test_unrolled_over_a_chunk_the_memory_sees_what_it_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = RecurrentPolicy(spec(), Seen, ALL)
    with torch.no_grad():
        _, _, workspace = acting(policy, [2, 5], monkeypatch, on_arrays=True)
        latent = policy.latent(
            policy.memory.read(workspace), workspace["policy/state"][0], workspace["env/initial_state"]
        )
    assert policy.memory.names == ("env/env_obs", "policy/previous_action", "env/reward")
    assert torch.equal(latent, torch.stack([expected(t) for t in range(1, 5)]))


@pytest.mark.parametrize("on_arrays", [True, False])
def test_where_a_new_recording_begins_nothing_of_the_row_that_was_there_is_seen(on_arrays: bool) -> None:
    critic = MemoryCritic(spec(), Seen, ALL)
    workspace = Workspace()
    shown = row(1)  # in which no episode begins
    for name, value in {**shown, "action": torch.tensor([1, 3])}.items():
        workspace.set(name, 0, value)
    workspace.set("critic/state", 0, torch.tensor([[5.0], [6.0]]))
    workspace.set("critic/previous_action", 0, torch.tensor([ONE_HOT[1], ONE_HOT[3]]))
    for starts in ([False, False], [True, False], [True, True]):
        workspace.set("env/initial_state", 0, torch.tensor(starts))
        with torch.set_grad_enabled(not on_arrays):
            critic(workspace, t=0)
        before = [0 if start else action for start, action in zip(starts, (1, 3), strict=True)]
        assert workspace["critic/previous_action"][0].tolist() == [ONE_HOT[each] for each in before]
        assert workspace["critic/state"][0].flatten().tolist() == [0 if starts[0] else 5, 0 if starts[1] else 6]


@pytest.mark.parametrize("on_arrays", [True, False])
@pytest.mark.parametrize(
    ("leaves", "actions", "numbers"),
    [
        ((CHOICES,), {"action": [[1, 2], [0, 0]]}, [[0, 1, 0, 0, 1], [1, 0, 1, 0, 0]]),
        ((BOX,), {"action": [[0.5, -3.0], [0.0, 2.0]]}, [[0.5, -3.0], [0.0, 2.0]]),
        (PAIR, {"action/gear": [1, 0], "action/push": [[0.5], [-0.5]]}, [[0, 1, 0.5], [1, 0, -0.5]]),
    ],
)
def test_an_action_becomes_numbers(
    leaves: tuple[LeafSpec, ...], actions: dict[str, Any], numbers: Any, on_arrays: bool
) -> None:
    critic = MemoryCritic(spec(*leaves), Seen, ["action"])
    workspace = Workspace()
    for t in range(2):
        for name, value in row(1 + t).items():
            workspace.set(name, t, value)
        with torch.set_grad_enabled(not on_arrays):
            critic(workspace, t=t)
        for name, value in actions.items():
            workspace.set(name, t, torch.tensor(value))
    assert workspace["critic/previous_action"].tolist() == [[[0.0] * len(numbers[0])] * 2, numbers]


@pytest.mark.parametrize("make", [RecurrentPolicy, MemoryCritic, RecurrentQPolicy])
@pytest.mark.parametrize("inputs", [("observation",), ("action", "reward"), ("reward", "observation"), ALL])
def test_arrays_and_tensors_give_the_same(make: Any, inputs: tuple[str, ...]) -> None:
    written = []
    for with_gradients in (False, True):
        agent, workspace = make(spec(CHOICE), inputs=inputs, seed=3).eval(), Workspace()
        for t in range(4):
            for name, value in row(t).items():
                workspace.set(name, t, value / 100 if name == "env/reward" else value)
            with torch.set_grad_enabled(with_gradients):
                agent(workspace, t=t)
            if make is MemoryCritic:
                workspace.set("action", t, ACTIONS[t])
        assert set(agent.writes) <= set(workspace.keys())
        written.append({name: workspace[name].detach() for name in agent.writes})
    torch.testing.assert_close(written[0], written[1], atol=1e-6, rtol=1e-5)


def test_what_a_policy_declares_is_what_it_reads_and_writes() -> None:
    policy = RecurrentPolicy(spec(), inputs=["reward", "action"])
    assert policy.reads == ("env/reward", "env/initial_state", "action")
    assert policy.writes == ("action", "policy/state", "policy/next_state", "policy/previous_action")
    assert RecurrentPolicy(spec()).reads == ("env/env_obs", "env/initial_state")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], "inputs=[]: must be a list, at least one of observation, action, reward"),
        ("reward", "inputs=reward: must be a list, at least one of observation, action, reward"),
        (
            ["actoin"],
            "inputs=[actoin]: no such input 'actoin'; did you mean 'action'? allowed: observation, action, reward",
        ),
        (["reward", "reward"], "inputs=[reward, reward]: each can be named once"),
    ],
)
def test_inputs_that_are_none_are_refused(inputs: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RecurrentPolicy(spec(), inputs=inputs)
    assert str(caught.value) == message


def test_a_network_without_an_observation_and_a_critic_that_sees_something_else_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"^network: has no effect without the observation in inputs$"):
        RecurrentPolicy(spec(), inputs=["reward"], network=torch.nn.Flatten)
    policy, critic = RecurrentPolicy(spec(), inputs=ALL), MemoryCritic(spec())
    message = "^critic: sees observation, and the policy observation, action, reward; give both the same inputs$"
    with pytest.raises(ConfigurationError, match=message):
        check_same_inputs(policy.memory, critic.memory)


@pytest.mark.parametrize(
    ("old", "message"),
    [
        (
            {"kind": "lstm"},
            "kind='lstm': is now the memory's cell: memory=gru or memory=lstm (in Python cell=GRU or cell=LSTM)",
        ),
        (
            {"n_hidden": 8},
            "n_hidden=8: is now the memory's: memory.cell.n_hidden=… (in Python cell=partial(GRU, n_hidden=…))",
        ),
    ],
)
@pytest.mark.parametrize("make", [RecurrentPolicy, MemoryCritic, RecurrentQPolicy])
def test_the_former_arguments_are_refused_and_the_new_ones_named(make: Any, old: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make(spec(), **old)
    assert str(caught.value) == message
