"""Streams of random numbers: named, independent, the same for ever."""

from __future__ import annotations

import contextlib
import itertools
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.seeding import (
    EpisodeSeeds,
    global_generator_states,
    load_global_generator_states,
    numpy_generator,
    seed_global_generators,
    stream_seed,
    torch_generator,
    untouched_global_generators,
)


def episode_seeds(seed: int, role: str, environments: int, episodes: int) -> list[int]:
    streams = [EpisodeSeeds(seed, role, environment) for environment in range(environments)]
    return [stream(episode) for stream in streams for episode in range(episodes)]


def test_no_two_episodes_of_a_run_have_the_same_seed() -> None:
    seeds = episode_seeds(0, "train", 30, 10_000)
    assert len(set(seeds)) == len(seeds)  # among so many random numbers of 30 bits, about 42 pairs would be equal


def test_training_never_shares_a_seed_with_an_evaluation_whatever_the_root_seeds() -> None:
    training = {seed for root in range(10) for seed in episode_seeds(root, "train", 10, 200)}
    for role in ("eval", "final_eval"):
        assert not training & {seed for root in range(10) for seed in episode_seeds(root, role, 200, 10)}


def test_seeds_roles_environments_and_episodes_have_streams_of_their_own() -> None:
    lists = [episode_seeds(root, role, 20, 50) for root in range(20) for role in ("train", "eval", "final_eval")]
    for first, second in itertools.combinations(lists, 2):
        assert len(set(first) & set(second)) <= 1  # 1,000 of 2**30: for one pair of lists in a thousand
    far = [EpisodeSeeds(0, "train", environment) for environment in (0, 1, 2**10 - 1, 2**10, 2**11, 2**20)]
    seeds = [stream(episode) for stream in far for episode in (0, 1, 2**20 - 1, 2**20, 2**21, 2**40)]
    assert len(set(seeds)) == len(seeds)


def test_every_generator_takes_the_seed_of_an_episode() -> None:
    seeds = [*episode_seeds(7, "train", 4, 100), *episode_seeds(7, "eval", 4, 100)]
    assert 0 <= min(seeds) < 2**27
    assert 2**31 - 2**27 < max(seeds) < 2**31
    for seed in (min(seeds), max(seeds)):
        np.random.RandomState(seed), np.random.default_rng(seed), random.Random(seed), np.int32(seed)
        torch.Generator().manual_seed(seed)


def test_each_bit_of_the_seed_of_an_episode_is_as_often_0_as_1() -> None:
    seeds = np.array(episode_seeds(3, "train", 10, 1000))
    for bit in range(30):
        assert abs(np.mean(seeds >> bit & 1) - 0.5) < 0.025  # five standard deviations


def test_episode_seeds_may_be_asked_for_in_any_order() -> None:
    forward = [EpisodeSeeds(1, "train", 2)(episode) for episode in (0, 63, 2**20, 2**21)]
    seeds = EpisodeSeeds(1, "train", 2)
    assert [seeds(episode) for episode in (2**21, 2**20, 63, 0)] == forward[::-1]


def test_a_stream_is_the_numpy_seed_sequence_of_its_path() -> None:
    expected = np.random.SeedSequence(entropy=5, spawn_key=(3, 4)).generate_state(1, np.uint64)[0]
    assert stream_seed(5, 3, 4) == int(expected) >> 1


def test_generators_repeat_and_differ_by_path() -> None:
    assert numpy_generator(0, "a").random() == numpy_generator(0, "a").random()
    assert numpy_generator(0, "a").random() != numpy_generator(0, "b").random()
    first, second = (torch.rand(3, generator=torch_generator(0, "a", 1)) for _ in range(2))
    assert torch.equal(first, second)


def test_the_global_generators_are_seeded_together() -> None:
    draws = []
    for seed in (3, 3, 4):
        seed_global_generators(seed)
        draws.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert draws[0] == draws[1]
    assert all(a != b for a, b in zip(draws[1], draws[2], strict=True))


@pytest.mark.parametrize("seed", [-1, 1.0, "1", True])
def test_a_seed_is_an_integer_of_zero_or_more(seed: object) -> None:
    with pytest.raises(ConfigurationError, match="a seed is an integer of 0 or more"):
        stream_seed(seed)  # type: ignore[arg-type]


def drawn() -> list[float]:
    """Of every kind that leaves something behind in its generator: Gaussians come in pairs."""
    numbers = [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn()]
    return [*numbers, torch.rand(1).item(), torch.randn(1).item(), *torch.randn(3).tolist()]


def test_the_states_of_the_global_generators_are_plain_and_lead_back(tmp_path: Path) -> None:
    with untouched_global_generators():
        seed_global_generators(7)
        drawn()
        torch.save(global_generator_states(), tmp_path / "states.pt")
        expected = [drawn() for _ in range(3)]
        seed_global_generators(8)
        assert drawn() != expected[0]
        load_global_generator_states(torch.load(tmp_path / "states.pt", weights_only=True))
        assert [drawn() for _ in range(3)] == expected


def test_the_states_of_the_global_generators_do_not_change_with_the_draws_after_them() -> None:
    with untouched_global_generators():
        states = global_generator_states()
        expected = drawn()
        load_global_generator_states(states)
        assert drawn() == expected
        load_global_generator_states(states)
        assert drawn() == expected


def test_a_block_that_draws_leaves_the_global_generators_where_they_were() -> None:
    with untouched_global_generators():
        seed_global_generators(1)
        expected = drawn()
        seed_global_generators(1)
        with contextlib.suppress(ZeroDivisionError), untouched_global_generators():
            drawn()
            raise ZeroDivisionError
        assert drawn() == expected
