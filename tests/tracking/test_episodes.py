"""Every finished episode counts once, whatever the reset and wherever the chunks are cut."""

import numpy as np
import pytest

from bbrl_exp.tracking.episodes import finished_episodes


def as_tuples(episodes):
    return list(zip(*(array.tolist() for array in episodes), strict=True))


def found(done, first_new_row=0):
    done = np.array(done, dtype=bool)
    time = np.arange(len(done))[:, None]
    environment = np.arange(done.shape[1])
    return as_tuples(finished_episodes(done, 100.0 * time + environment, 10 * time + environment, first_new_row))


def test_all_episodes_that_end_in_one_step_are_found_in_the_order_of_the_environments():
    assert found([[0, 0, 0], [1, 0, 1], [0, 1, 0]]) == [(1, 0, 100.0, 10), (1, 2, 102.0, 12), (2, 1, 201.0, 21)]


def test_the_frozen_rows_of_an_environment_without_automatic_reset_are_no_episodes():
    assert found([[0, 0], [1, 0], [1, 0], [1, 1]]) == [(1, 0, 100.0, 10), (3, 1, 301.0, 31)]


def test_an_end_in_the_row_kept_from_the_chunk_before_is_not_counted_again():
    assert found([[1, 0], [1, 0], [1, 1]], first_new_row=1) == [(2, 1, 201.0, 21)]


def test_two_episodes_of_one_step_with_a_reset_between_both_count():
    assert [time for time, *_ in found([[0], [1], [0], [1]])] == [1, 3]


@pytest.mark.parametrize("first_new_row", [0, 1])
def test_no_end_gives_empty_arrays(first_new_row):
    episodes = finished_episodes(np.zeros((3, 2), bool), np.zeros((3, 2)), np.zeros((3, 2)), first_new_row)
    assert [len(array) for array in episodes] == [0, 0, 0, 0]


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 50])
def test_chunks_of_any_length_give_the_episodes_of_the_whole_recording(chunk):
    done = np.random.default_rng(0).random((51, 4)) < 0.4
    done[0] = False
    rewards = np.arange(51.0)[:, None] + np.zeros(4)
    whole = as_tuples(finished_episodes(done, rewards, rewards, 0))
    pieces = []
    for first in range(0, 50, chunk):
        rows = slice(first, first + chunk + 1)
        for time, *rest in as_tuples(finished_episodes(done[rows], rewards[rows], rewards[rows], min(first, 1))):
            pieces.append((time + first, *rest))
    assert pieces == whole
    assert len(whole) > 20
