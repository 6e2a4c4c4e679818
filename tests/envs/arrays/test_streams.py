"""Array environments have one stream per (seed, role, environment, episode), whatever the batch and the backend."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import BACKENDS, IDS, made, rows, step

from bbrl_exp.envs.arrays.environments import ArrayEnvironments
from bbrl_exp.envs.arrays.streams import philox, stream_keys, uniforms
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.workspace import Workspace


def test_philox_gives_the_numbers_of_its_authors() -> None:
    """The known answers of Random123 for philox4x32-10."""
    ones = 0xFFFFFFFF
    digits = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0)
    answers = {
        (0,) * 6: (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
        (ones,) * 6: (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        digits: (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    }
    for given, expected in answers.items():
        assert philox(*given) == expected
        assert tuple(int(x) for x in philox(*(torch.tensor(x) for x in given))) == expected


def test_numbers_are_spread_evenly_over_0_to_1() -> None:
    numbers = uniforms(
        torch.from_numpy(stream_keys((0,), "train", 1000)), torch.arange(20)[:, None].expand(20, 1000), 3
    )
    assert numbers.shape == (20, 1000, 3)
    assert float(numbers.min()) >= 0
    assert float(numbers.max()) < 1
    for moment, expected in ((1, 1 / 2), (2, 1 / 3), (3, 1 / 4)):
        assert torch.allclose(
            (numbers**moment).mean(dim=(0, 1)), torch.tensor(expected, dtype=torch.float64), atol=0.01
        )
    flat = numbers.reshape(20, 3000)
    assert float(torch.corrcoef(flat).fill_diagonal_(0).abs().max()) < 0.1  # of episodes
    assert len(numbers.unique()) == numbers.numel()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("env_id", ["CartPole-v1", "bbrl_exp/TMaze-v0"])
def test_the_rows_of_an_environment_do_not_depend_on_the_batch_size(backend: str, env_id: str) -> None:
    small, large = made(backend, env_id, 2, 5), made(backend, env_id, 7, 5)
    names = [f"env/{name}" for name in ("env_obs", "done", "timestep", "cumulated_reward")]
    few = rows(small, 70)
    many = Workspace()
    for t in range(70):
        large(many, t=t)
        action = few.get("action", t)
        many.set("action", t, torch.cat([action, action[:1].expand(5, *action.shape[1:])]))
    for name in names:
        assert torch.equal(few[name], many[name][:, :2]), name


@pytest.mark.parametrize("env_id", IDS)
def test_both_backends_begin_the_same_episodes(env_id: str) -> None:
    firsts = []
    for backend in BACKENDS:
        agent = made(backend, env_id, 3, 11)
        states = []
        for _ in range(3):
            rows(agent, 1)
            states.append(agent.run_state()["states"].clone())
        firsts.append(torch.stack(states))
    assert torch.equal(*firsts)
    assert len(firsts[0].reshape(9, -1).unique(dim=0)) == (2 if "TMaze" in env_id else 9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_environments_of_several_seeds_are_those_of_separate_runs(backend: str) -> None:
    together = made(backend, "CartPole-v1", 6, [4, 9, 2])
    found = rows(together, 80)
    for k, seed in enumerate((4, 9, 2)):
        alone = made(backend, "CartPole-v1", 2, seed)
        workspace = Workspace()
        for t in range(80):
            alone(workspace, t=t)
            workspace.set("action", t, found.get("action", t)[2 * k : 2 * k + 2])
        for name in alone.layout:
            assert torch.equal(workspace[name], found[name][:, 2 * k : 2 * k + 2]), name
    evaluation = together.for_evaluation(3, [4, 9, 2], "eval")
    for k, seed in enumerate((4, 9, 2)):
        one = together.for_evaluation(1, seed, "eval")
        assert torch.equal(rows(one, 1)["env/env_obs"][0, 0], rows(evaluation, 1)["env/env_obs"][0, k])
        evaluation.seed([4, 9, 2])


def test_seeds_that_cannot_share_a_batch_equally_are_refused() -> None:
    with pytest.raises(ConfigurationError) as error:
        made("array", "CartPole-v1", 4, [1, 2, 3])
    assert str(error.value) == (
        "seed: 3 seeds cannot share 4 environments equally; batch_size must be a multiple of their number"
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_seeds_roles_environments_and_episodes_begin_elsewhere(backend: str) -> None:
    starts = []
    for seed in (0, 1):
        for agent in (made(backend, "CartPole-v1", 3, seed), made(backend, "CartPole-v1", 3, seed, role="eval")):
            starts += [rows(agent, 1)["env/env_obs"][0] for _ in range(3)]
    assert len(torch.cat(starts).unique(dim=0)) == 2 * 2 * 3 * 3


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("auto_reset", [True, False])
def test_another_seed_in_mid_episode_takes_effect_from_the_next_reset_on(backend: str, auto_reset: bool) -> None:
    def agent_with(seed: int) -> ArrayEnvironments:
        agent = made(backend, "CartPole-v1", 3, seed)
        return agent if auto_reset else agent.for_evaluation(3, seed, "train")

    agent, same, other = agent_with(3), agent_with(3), agent_with(8)
    workspace, expected, generators = Workspace(), Workspace(), [np.random.default_rng(1) for _ in range(2)]
    first = rows(other, 1)["env/env_obs"][0]
    for t in range(60):
        if t == 5:
            agent.seed(8)
        step(agent, workspace, generators[0])
        step(same, expected, generators[1])
    begins = workspace["env/initial_state"][5:].long().cumsum(0)
    is_before = torch.cat([torch.ones(5, 3, dtype=torch.bool), begins == 0])
    assert torch.equal(workspace["env/env_obs"][is_before], expected["env/env_obs"][is_before])
    for i in range(3 if auto_reset else 0):
        start = 5 + int((begins[:, i] == 1).nonzero()[0])
        assert torch.equal(workspace["env/env_obs"][start, i], first[i])
        assert not torch.equal(expected["env/env_obs"][start, i], first[i])
    assert bool(begins.any()) == auto_reset
    agent.seed(8)
    assert torch.equal(rows(agent, 1)["env/env_obs"][0], first)


def test_another_seed_of_environments_that_are_stepped_together_takes_effect_there() -> None:
    agents = [made("array", "CartPole-v1", 2, seed) for seed in (1, 2)]
    together, workspaces = agents[0].together(agents[1:]), [Workspace(), Workspace()]
    assert together is not None
    agents[1].seed(5)
    assert not together.step(0, workspaces, [0, 1])
    for workspace, seed in zip(workspaces, (1, 5), strict=True):
        alone = rows(made("array", "CartPole-v1", 2, seed), 1)
        assert torch.equal(workspace["env/env_obs"], alone["env/env_obs"])


def test_numbers_are_where_the_episodes_are_even_if_there_are_none() -> None:
    keys, episodes = torch.zeros((3, 2), dtype=torch.int64, device="meta"), torch.zeros(2, device="meta").long()
    assert [str(uniforms(keys, episodes, count).device) for count in (0, 1)] == ["meta", "meta"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_copy_begins_from_the_seed(backend: str) -> None:
    agent = made(backend, "CartPole-v1", 2, 3)
    first = rows(agent, 40)
    assert torch.equal(rows(agent.clone(), 40)["env/env_obs"], first["env/env_obs"])
    assert not torch.equal(rows(agent, 40)["env/env_obs"], first["env/env_obs"])
