"""Prioritised replay: P(i) = p_i^α / Σ p_k^α, and weights that correct for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from recordings import ACTIONS, OBSERVATIONS, endless, load_all_rows, through_a_file, window, with_random_ends

from bbrl_exp.data.prioritised import PrioritisedReplay, SumTree
from bbrl_exp.data.replay import ReplayBuffer, ReplayError
from bbrl_exp.errors import ConfigurationError, DivergedError


def replay_of(capacity: int, priority_exponent: float = 0.6) -> PrioritisedReplay:
    buffer = ReplayBuffer(capacity, OBSERVATIONS, ACTIONS, discount=0.9)
    return PrioritisedReplay(buffer, priority_exponent=priority_exponent)


def everything(replay: PrioritisedReplay) -> np.ndarray:
    return np.arange(replay.buffer.stored.start, replay.buffer.stored.stop)


def frequencies(replay: PrioritisedReplay, n_batches: int = 500) -> np.ndarray:
    """How often each stored transition was drawn, as a share."""
    generator = np.random.default_rng(0)
    drawn = [replay.sample(64, generator, importance_exponent=1.0).indexes for _ in range(n_batches)]
    first = replay.buffer.stored.start
    return np.bincount(np.concatenate(drawn) - first, minlength=len(replay)) / (64 * n_batches)


@pytest.mark.parametrize("n_weights", [1, 5, 16, 17, 300])
def test_a_tree_finds_the_index_at_which_the_sum_passes_a_position(n_weights: int) -> None:
    generator = np.random.default_rng(n_weights)
    tree, weights = SumTree(n_weights), np.zeros(n_weights)
    for _ in range(20):
        changed = generator.integers(0, n_weights, 4)
        weights[changed] = generator.integers(0, 9, 4)
        tree[changed] = weights[changed]
        assert tree.total == weights.sum()
        if tree.total:
            positions = np.arange(tree.total)
            assert tree.find(positions).tolist() == np.repeat(np.arange(n_weights), weights.astype(int)).tolist()


@pytest.mark.parametrize(("first", "stop"), [(0, 3), (37, 41), (95, 103), (20, 20), (100, 200)])
def test_filled_weights_are_counted_modulo_their_number(first: int, stop: int) -> None:
    tree = SumTree(100)
    tree.fill(0, 100, 1.0)
    tree.fill(first, stop, 3.0)
    expected = np.ones(100)
    expected[np.arange(first, stop) % 100] = 3.0
    assert tree[np.arange(100)].tolist() == expected.tolist()
    assert tree.total == expected.sum()


def test_sums_follow_however_often_weights_change_between_draws() -> None:
    tree = SumTree(70_000)
    for index in range(300):
        tree[np.array([index, 69_999 - index])] = float(index)
    assert tree.total == 300 * 299
    assert tree.find(np.array([0.0, 300 * 299 - 0.5])).tolist() == [1, 69_998]


def test_a_weight_of_zero_is_never_found() -> None:
    tree = SumTree(100)
    tree[np.array([3, 50])] = np.array([0.1, 0.7])
    total = tree.total
    assert set(tree.find(np.array([0.0, 0.1, 0.5, np.nextafter(total, 0.0), total])).tolist()) == {3, 50}


@pytest.mark.parametrize("priority_exponent", [0.0, 0.5, 1.0])
def test_transitions_are_drawn_in_proportion_to_their_priorities(priority_exponent: float) -> None:
    replay = replay_of(100, priority_exponent)
    replay.put(with_random_ends(20, 2), 0)
    errors = torch.arange(1, len(replay) + 1) * torch.tensor([1.0, -1.0]).repeat(len(replay))[: len(replay)]
    replay.update(everything(replay), errors)
    expected = errors.abs().numpy() ** priority_exponent
    assert frequencies(replay) == pytest.approx(expected / expected.sum(), abs=0.005)


def test_weights_undo_the_priorities() -> None:
    replay = replay_of(100, 1.0)
    replay.put(endless(6, 2), 0)
    errors = torch.arange(1.0, 11.0)
    replay.update(everything(replay), errors)
    batch = replay.sample(64, np.random.default_rng(0), importance_exponent=1.0)
    drawn = torch.from_numpy(batch.indexes) + 1.0
    assert torch.allclose(batch.weights, drawn.min() / drawn)
    assert batch.weights.dtype == torch.float32
    half = replay.sample(64, np.random.default_rng(0), importance_exponent=0.5)
    assert torch.allclose(half.weights, batch.weights.sqrt())
    none = replay.sample(64, np.random.default_rng(0), importance_exponent=0.0)
    assert none.weights.tolist() == [1.0] * 64


def test_what_is_drawn_is_the_transition_of_the_index() -> None:
    replay = replay_of(30)
    workspace = with_random_ends(60, 3)
    replay.put(workspace, 0)
    batch = replay.sample(64, np.random.default_rng(0), importance_exponent=0.4)
    again = replay.buffer.gather(batch.indexes)
    assert torch.equal(batch.actions[0], again.actions[0])
    assert torch.equal(batch.next_observations[0][:, 0], batch.observations[0][:, 0] + 100)


def test_a_new_transition_has_the_largest_priority_seen() -> None:
    replay = replay_of(1000, 1.0)
    replay.put(endless(11, 1), 0)
    assert frequencies(replay) == pytest.approx(np.full(10, 0.1), abs=0.01)
    replay.update(everything(replay), torch.full((10,), 1.0))
    replay.update(np.array([4]), torch.tensor([10.0]))
    replay.put(endless(2, 1, first_time=10), 0)
    expected = np.array([1.0] * 4 + [10.0] + [1.0] * 5 + [10.0])
    assert frequencies(replay) == pytest.approx(expected / expected.sum(), abs=0.01)


def test_dropped_transitions_are_drawn_no_more_and_their_errors_are_ignored() -> None:
    workspace, replay = with_random_ends(200, 3), replay_of(30, 1.0)
    for row in range(0, 198, 9):
        old = everything(replay)
        replay.put(window(workspace, row, min(10, 200 - row)), 0)
        replay.update(old, torch.full((len(old),), 1000.0))
        stored = replay.buffer.stored
        assert len(stored) <= 30
        drawn = replay.sample(200, np.random.default_rng(0), importance_exponent=1.0).indexes
        assert set(drawn.tolist()) <= set(stored)
    new = everything(replay)
    replay.update(new, torch.ones(len(new)))
    assert frequencies(replay) == pytest.approx(np.full(len(new), 1 / len(new)), abs=0.01)


@pytest.mark.parametrize("capacity", [30, 1000])
def test_a_restored_replay_goes_on_as_the_saved_one(capacity: int) -> None:
    workspace, saved = with_random_ends(100, 3), replay_of(capacity)
    saved.put(window(workspace, 0, 61), 0)
    saved.update(everything(saved), torch.arange(float(len(saved))))
    restored = replay_of(capacity)
    restored.load_state(through_a_file(saved.state()))
    load_all_rows(restored.buffer, saved.buffer)
    generators = np.random.default_rng(5), np.random.default_rng(5)
    for row in (60, 70, 80):
        batches = []
        for replay, generator in zip((saved, restored), generators, strict=True):
            replay.put(window(workspace, row, 11), 0)
            batch = replay.sample(32, generator, importance_exponent=0.4)
            replay.update(batch.indexes, batch.rewards)
            batches.append(batch)
        one, other = batches
        assert one.indexes.tolist() == other.indexes.tolist()
        assert torch.equal(one.weights, other.weights)
        assert torch.equal(one.next_observations[0], other.next_observations[0])


@pytest.mark.parametrize("error", [float("nan"), float("inf")])
def test_an_error_that_is_not_finite_is_refused_and_changes_nothing(error: float) -> None:
    replay = replay_of(10)
    replay.put(endless(5, 1), 0)
    with pytest.raises(DivergedError, match="1 errors are NaN or infinite"):
        replay.update(everything(replay), torch.tensor([1.0, error, 1.0, 1.0]))
    assert frequencies(replay) == pytest.approx(np.full(4, 0.25), abs=0.01)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (4, 1)])
def test_another_number_of_errors_than_of_indexes_is_refused_and_changes_nothing(shape: tuple[int, ...]) -> None:
    replay = replay_of(10)
    replay.put(endless(5, 1), 0)
    with pytest.raises(ReplayError) as refused:
        replay.update(everything(replay), torch.full(shape, 9.0))
    message = f"prioritised replay: errors {list(shape)} for indexes [4], expected one error for each index"
    assert str(refused.value) == message
    assert frequencies(replay) == pytest.approx(np.full(4, 0.25), abs=0.01)
    assert replay.state()["largest"] == 1.0


def test_nothing_stored_is_nothing_drawn() -> None:
    with pytest.raises(ReplayError, match="nothing to draw"):
        replay_of(10).sample(1, np.random.default_rng(0), importance_exponent=1.0)
    restored = replay_of(10)
    restored.load_state(replay_of(10).state())
    assert len(restored) == 0


@pytest.mark.parametrize("change", [{"priority_exponent": 1.5}, {"smallest_error": 0.0}])
def test_settings_that_make_no_sense_are_refused(change: dict[str, float]) -> None:
    buffer = ReplayBuffer(10, OBSERVATIONS, ACTIONS, discount=0.9)
    with pytest.raises(ConfigurationError, match=next(iter(change))):
        PrioritisedReplay(buffer, **change)


def test_a_buffer_that_was_filled_by_somebody_else_is_refused() -> None:
    buffer = ReplayBuffer(10, OBSERVATIONS, ACTIONS, discount=0.9)
    buffer.put(endless(5, 1), 0)
    with pytest.raises(ConfigurationError, match="holds 4 transitions"):
        PrioritisedReplay(buffer)


@pytest.mark.parametrize("seed", range(20))
def test_what_comes_and_goes_in_one_put_leaves_no_priority(seed: int) -> None:
    replay, recording = replay_of(capacity=10), with_random_ends(48, 1, seed)
    replay.put(window(recording, 0, 8), 0)
    replay.put(window(recording, 7, 41), 0)
    drawn = replay.sample(64, np.random.default_rng(0), importance_exponent=1.0).indexes
    assert set(drawn.tolist()) <= set(everything(replay).tolist())


def test_what_was_put_in_inference_mode_can_be_drawn_and_updated_outside() -> None:
    found = []
    for is_inference in (True, False):
        with torch.inference_mode(is_inference):
            buffer = replay_of(32)
            buffer.put(endless(9, 2), 0)
        batch = buffer.sample(8, np.random.default_rng(0), importance_exponent=1.0)
        buffer.update(batch.indexes, torch.arange(8.0))
        found.append(buffer.sample(8, np.random.default_rng(1), importance_exponent=1.0).indexes.tolist())
    assert found[0] == found[1]
