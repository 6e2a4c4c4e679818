"""Recurrent SAC: losses by their definition, step by step through the memories, and its options."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from chunks import env_spec_of, hand_over_rows, recorded_chunk
from torch import Tensor

from bbrl_exp.agents import Agents
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.functional.schedules import Linear
from bbrl_exp.learners.learner import Progress
from bbrl_exp.learners.parts.replayed_sequences import SequenceBatch
from bbrl_exp.learners.recurrent_dqn import RecurrentDQN
from bbrl_exp.learners.recurrent_sac import RecurrentSAC
from bbrl_exp.learners.sac import SAC
from bbrl_exp.nn.recurrent import GRU, LSTM
from bbrl_exp.policies.q_ensemble import QEnsemble
from bbrl_exp.policies.q_recurrent import RecurrentQPolicy
from bbrl_exp.policies.q_recurrent_ensemble import RecurrentQEnsemble
from bbrl_exp.policies.recurrent_squashed import RecurrentSquashedPolicy
from bbrl_exp.policies.squashed import SquashedNormalPolicy
from bbrl_exp.workspace import Workspace

ENV = "bbrl_exp/ProbeMemoryContinuous-v0"
ALL_INPUTS = ("observation", "action", "reward")


def a_learner(seed: int = 0, inputs: Any = ("observation",), **options: Any) -> RecurrentSAC:
    spec = env_spec_of(ENV, 2)
    policy = RecurrentSquashedPolicy(spec, partial(GRU, n_hidden=4), inputs, head_sizes=(8,), seed=seed)
    critic = RecurrentQEnsemble(spec, 2, partial(LSTM, n_hidden=3), inputs, head_sizes=(8,), seed=seed + 1)
    torch.nn.init.normal_(policy.network.layers[-1].weight, generator=torch.Generator().manual_seed(1))
    defaults = {"discount": 0.5, "learning_starts": 0, "burn_in": 0, "initial_temperature": 0.3, "sequence_length": 5}
    return RecurrentSAC(policy, critic, **{**defaults, **options})  # type: ignore[arg-type]


def recorded(learner: RecurrentSAC, n_steps: int = 12) -> Workspace:
    return recorded_chunk(ENV, 2, n_steps, Agents(learner.policy, learner.critic))


def batch_of(learner: RecurrentSAC, rows: Workspace) -> SequenceBatch:
    return SequenceBatch(learner, rows, learner.policy.memory.names, ("action",))


def latents(agent: Any, rows: Workspace) -> Tensor:
    """Of all rows, ``[T, B, H + D]``, one step after the other from the recorded state of the first."""
    memory = agent.memory
    state, found = rows.get(memory.state_name, 0), []
    for t, initial in enumerate(rows["env/initial_state"]):
        x = memory.inputs([leaf[t] for leaf in memory.read(rows)])
        output, state = memory.cell.step(x, state * ~initial[:, None])
        found.append(torch.cat((output, x), dim=1))
    return torch.stack(found)


@pytest.mark.parametrize("inputs", [("observation",), ALL_INPUTS])
def test_targets_are_soft_values_of_the_next_row_of_the_same_episode(inputs: Any) -> None:
    learner = a_learner(inputs=inputs)
    rows = recorded(learner)
    for parameter in learner.target_critic.parameters():
        parameter.mul_(1.5)
    drawn = torch.randn((int((~rows["env/done"][:-1]).sum()), 1), generator=torch.Generator().manual_seed(3))
    learner.draw_noise = lambda like: drawn[: len(like)]  # type: ignore[method-assign]
    policy, target, online = (latents(each, rows) for each in (learner.policy, learner.target_critic, learner.critic))
    expected, n = 0.0, 0
    for t in range(12):
        for b in range(2):
            if rows["env/done"][t, b]:
                continue
            following = learner.policy.sample(policy[t + 1, b][None], drawn[n][None])
            value = learner.target_critic.values(target[t + 1, b][None], following.action).min()
            soft = 0.0 if rows["env/terminated"][t + 1, b] else 0.5 * (value - 0.3 * following.log_prob)
            taken = learner.policy.bounds.to_unit(rows["action"][t, b][None])
            values = learner.critic.values(online[t, b][None], taken).flatten().detach()
            expected += float((0.5 * (values - rows["env/reward"][t + 1, b] - soft) ** 2).sum().detach())
            n += 1
    assert rows["env/done"].any()
    assert learner.loss_of_critics(batch_of(learner, rows))[0].item() == pytest.approx(expected / n, rel=1e-4)


def test_the_policy_minimises_log_densities_minus_the_smaller_value() -> None:
    learner = a_learner()
    rows = recorded(learner)
    valid = ~rows["env/done"][:-1]
    drawn = torch.randn((int(valid.sum()), 1), generator=torch.Generator().manual_seed(3))
    learner.draw_noise = lambda like: drawn  # type: ignore[method-assign]
    actions = learner.policy.sample(latents(learner.policy, rows)[:-1][valid], drawn)
    smaller = learner.critic.values(latents(learner.critic, rows)[:-1][valid], actions.action).min(dim=0).values
    loss, log_probs = learner.loss_of_policy(batch_of(learner, rows))
    torch.testing.assert_close(loss, (0.3 * actions.log_prob - smaller).mean())
    torch.testing.assert_close(log_probs, actions.log_prob.detach())


def test_the_loss_of_the_critics_reaches_their_memory_alone_and_that_of_the_policy_its_own() -> None:
    learner = a_learner()
    batch = batch_of(learner, recorded(learner))
    learner.loss_of_critics(batch)[0].backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in learner.critic.parameters())
    assert all(parameter.grad is None for parameter in learner.policy.parameters())
    critic = copy.deepcopy(learner.critic.state_dict())
    learner.improve_policy(learner.loss_of_policy(batch)[0])
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in learner.policy.parameters())
    assert all(map(torch.equal, critic.values(), learner.critic.state_dict().values()))


def without_memory(weight: Tensor, n_hidden: int) -> Tensor:
    """The weights of a first layer ``[…, n_inputs, …]`` of which the memory's part is zeroed in place."""
    weight.data[:n_hidden] = 0.0
    return weight.data[n_hidden:]


def test_where_the_perceptrons_ignore_the_memories_losses_are_those_of_sac() -> None:
    learner = a_learner()
    spec = env_spec_of(ENV, 2)
    policy, critic = SquashedNormalPolicy(spec, (8,)), QEnsemble(spec, 2, (8,))
    plain = SAC(policy, critic, discount=0.5, initial_temperature=0.3)
    mine, theirs = learner.policy.network.layers, policy.network.layers
    theirs[0].weight.data = without_memory(mine[0].weight.data.T, 4).T.clone()
    theirs[0].bias.data, theirs[1].weight.data, theirs[1].bias.data = (
        each.data.clone() for each in (mine[0].bias, mine[1].weight, mine[1].bias)
    )
    for index in range(2):
        weight = learner.critic.network.weights[index]
        for member in range(2 if index == 0 else 0):
            without_memory(weight[member], 3)
        critic.network.weights[index].data = (weight[:, 3:] if index == 0 else weight).data.clone()
        critic.network.biases[index].data = learner.critic.network.biases[index].data.clone()
    for each in (learner, plain):
        each.target_critic.load_state_dict(each.critic.state_dict())
    rows = recorded(learner)
    batch = batch_of(learner, rows)
    observed = batch.of_steps(rows["env/env_obs"][:-1]), batch.of_steps(rows["env/env_obs"][1:])
    drawn = torch.randn((len(observed[0]), 1), generator=torch.Generator().manual_seed(3))
    learner.draw_noise = lambda like: drawn  # type: ignore[method-assign]
    for name in ("observations", "next_observations"):
        setattr(batch, name, [observed[name == "next_observations"]])
    expected: Any = batch
    torch.testing.assert_close(learner.loss_of_critics(batch)[0], plain.critic_loss(expected, drawn)[0])
    torch.testing.assert_close(learner.loss_of_policy(batch)[0], plain.policy_loss(expected, drawn)[0])


def test_the_memories_have_a_learning_rate_of_their_own() -> None:
    learner = a_learner(policy_learning_rate=1e-2, critic_learning_rate=1e-3, memory_learning_rate=1e-5)
    rows = recorded(learner)
    before = copy.deepcopy(learner.state_dict())
    learner.update(rows, Progress(0, 1, 100, 1))
    moved = {
        name: float((value - before[name]).abs().max())
        for name, value in learner.state_dict().items()
        if isinstance(value, Tensor) and name.startswith(("policy.", "critic."))
    }
    for name, distance in moved.items():
        rate = 1e-5 if ".cell." in name else 1e-2 if name.startswith("policy.") else 1e-3
        assert distance == pytest.approx(rate, rel=0.05), name


def test_the_learning_rate_of_the_memories_may_be_a_schedule() -> None:
    learner = a_learner(memory_learning_rate=Linear(1e-3, 0.0), critic_learning_rate=0.5)
    learner.start_schedules(100)
    learner.follow_schedules(50, 100)
    assert [group["lr"] for group in learner._critic_optimizer.param_groups] == [0.5, 5e-4]


def test_updates_wait_for_a_whole_sequence() -> None:
    learner = a_learner(sequence_length=6, burn_in=2, updates_per_step=0.5)
    chunk = recorded(learner, 16)
    first, whole = Workspace(), Workspace()
    for name in list(chunk.keys()):
        first.set_full(name, chunk[name][:8])
        whole.set_full(name, chunk[name][7:])
    assert learner.update(first, Progress(0, 14, 100, 14)) == {}
    assert learner.update(whole, Progress(0, 32, 100, 18))["learner/updates"] == 16


def test_sequences_without_a_transition_teach_nothing() -> None:
    learner = a_learner(sequence_length=1, batch_size=1)
    rows = recorded(learner)
    learner.update(rows, Progress(0, 1, 100, 1))
    before = copy.deepcopy(learner.state_dict())
    row = int(rows["env/done"][:-1, 0].nonzero()[0])
    ended = Workspace()
    for name in list(rows.keys()):
        ended.set_full(name, rows[name][row : row + 2, :1])
    learner._replayed.draw = lambda: batch_of(learner, ended)  # type: ignore[method-assign]
    assert learner._replayed.n_updates == 1
    assert learner.update(rows, Progress(12, 3, 100, 2)) == {}
    assert learner._replayed.n_updates == 3
    after = learner.state_dict()
    assert all(torch.equal(after[name], each) for name, each in before.items() if isinstance(each, Tensor))


def test_state_is_complete() -> None:
    first, second = a_learner(), a_learner(seed=5)
    chunk = recorded(first, 16)
    early, late = Workspace(), Workspace()
    for name in list(chunk.keys()):
        early.set_full(name, chunk[name][:9])
        late.set_full(name, chunk[name][8:])
    first.update(early, Progress(0, 16, 100, 16))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    hand_over_rows(first, second)
    for learner in (first, second):
        learner.update(late, Progress(0, 32, 100, 16))
    assert all(map(torch.equal, first.policy.parameters(), second.policy.parameters()))
    assert all(map(torch.equal, first.critic.parameters(), second.critic.parameters()))


def test_a_critic_outside_of_the_graph_needs_sequences_that_begin_with_zeros() -> None:
    assert "critic/state" in (a_learner().reads or ())
    assert "critic/state" not in (a_learner(initial_state="zero").reads or ())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: a_learner(initial_state="last"), "initial_state='last': must be one of stored, zero"),
        (
            lambda: a_learner(replay_capacity=8).check_chunks(1, 2),
            "replay_capacity=8: too few for a sequence of burn_in + sequence_length = 5 transitions in each of 2 "
            "environments; must be at least 9",
        ),
        (
            lambda: a_learner(replay_capacity=9, sequence_stride=4).check_chunks(1, 2),
            "replay_capacity=9: too few for a sequence of burn_in + sequence_length = 5 transitions, beginning at "
            "every 4th row, in each of 2 environments; must be at least 15",
        ),
    ],
)
def test_what_cannot_be_learned_from_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as found:
        make()
    assert str(found.value) == message


@pytest.mark.parametrize(("stride", "smallest"), [(1, 9), (4, 15)])
def test_the_smallest_buffer_that_is_allowed_always_holds_a_sequence(stride: int, smallest: int) -> None:
    learner = a_learner(replay_capacity=smallest, sequence_stride=stride)
    learner.check_chunks(1, 2)
    rows = recorded(learner, 30)
    buffer = learner._replayed.buffer
    for t in range(30):
        two_rows = Workspace()
        for name in list(rows.keys()):
            two_rows.set_full(name, rows[name][t : t + 2])
        buffer.put(two_rows, 0)
        assert (buffer.n_sequences(learner.sequence_rows) > 0) == (t + 2 >= learner.sequence_rows)


class Window(GRU):
    """A cell for learners on policy."""

    replayed = False


@pytest.mark.parametrize(
    "make",
    [
        lambda cell: RecurrentDQN(RecurrentQPolicy(env_spec_of("bbrl_exp/ProbeMemory-v0", 2), cell)),
        lambda cell: RecurrentSAC(
            RecurrentSquashedPolicy(env_spec_of(ENV, 2)), RecurrentQEnsemble(env_spec_of(ENV, 2), cell=cell)
        ),
    ],
)
def test_a_cell_for_learners_on_policy_is_refused_in_one_line(make: Any) -> None:
    with pytest.raises(ConfigurationError) as found:
        make(Window)
    assert str(found.value) == (
        "cell: Window has states of 64 numbers, too large to replay; choose another memory, or a learner on policy "
        "(recurrent_ppo, recurrent_a2c, recurrent_pqn)"
    )


def test_a_critic_that_sees_something_else_than_the_policy_is_refused() -> None:
    spec = env_spec_of(ENV, 2)
    with pytest.raises(ConfigurationError, match=r"^critic: sees observation, reward, and the policy observation;"):
        RecurrentSAC(RecurrentSquashedPolicy(spec), RecurrentQEnsemble(spec, inputs=("observation", "reward")))
