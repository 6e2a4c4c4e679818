"""Episodes leave whole, once, and whatever the chunks they came in."""

from __future__ import annotations

import io

import pytest
import torch
from torch import Tensor

from bbrl_exp.data.episodes import UnfinishedEpisodes
from bbrl_exp.data.transitions import Transitions, align
from bbrl_exp.workspace import Workspace

N_ROWS = 40
# Row of each environment's last observation of an episode; the row after it begins the next one.
ENDS = {0: [4, 6, 19, 38], 1: [11, 31]}


def recording() -> Workspace:
    """Observation and reward of row t and environment b are 100 t + b; every other end is a truncation."""
    workspace = Workspace()
    seen = 100.0 * torch.arange(N_ROWS).unsqueeze(1) + torch.arange(len(ENDS))
    terminated, truncated = torch.zeros(2, N_ROWS, len(ENDS), dtype=torch.bool)
    for environment, rows in ENDS.items():
        terminated[rows[::2], environment] = True
        truncated[rows[1::2], environment] = True
    workspace.set_full("env/env_obs", seen)
    workspace.set_full("action", seen.long())
    workspace.set_full("env/reward", seen)
    workspace.set_full("env/terminated", terminated)
    workspace.set_full("env/truncated", truncated)
    workspace.set_full("env/done", terminated | truncated)
    return workspace


def chunk(first: int, last: int) -> Transitions:
    return align(recording().subtime(first, last + 1), ("env/env_obs",), ("action",))


def taken(episodes: UnfinishedEpisodes) -> Tensor:
    transitions, complete = episodes.take()
    return transitions.observations[0][complete]


def expected(up_to_row: int) -> set[float]:
    """The observations on which an action was taken in episodes that ended by that row."""
    found = set()
    for environment, rows in ENDS.items():
        begin = 0
        for end in rows:
            if end <= up_to_row:
                found |= {100.0 * t + environment for t in range(begin, end)}
            begin = end + 1
    return found


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 7, 13, 39])
def test_every_step_of_a_complete_episode_leaves_once_whatever_the_chunks(chunk_size: int) -> None:
    episodes, seen = UnfinishedEpisodes(), []
    for first in range(0, N_ROWS - 1, chunk_size):
        last = min(first + chunk_size, N_ROWS - 1)
        episodes.put(chunk(first, last))
        seen += taken(episodes).tolist()
        assert sorted(seen) == sorted(expected(last))
    assert len(seen) == len(set(seen))


def test_episodes_wait_until_they_are_taken() -> None:
    episodes = UnfinishedEpisodes()
    counts = []
    for first in range(0, 39, 13):
        episodes.put(chunk(first, first + 13))
        counts.append(episodes.n_complete)
    assert counts == [3, 4, 6]
    assert set(taken(episodes).tolist()) == expected(39)
    assert episodes.n_complete == 0


def test_everything_that_belongs_to_a_step_stays_with_it() -> None:
    episodes = UnfinishedEpisodes()
    for first in range(0, 39, 3):
        episodes.put(chunk(first, first + 3))
    transitions, complete = episodes.take()
    seen = transitions.observations[0][complete]
    assert torch.equal(transitions.actions[0][complete], seen.long())
    assert torch.equal(transitions.rewards[complete], seen + 100)
    assert torch.equal(transitions.next_observations[0][complete], seen + 100)
    ends = transitions.observations[0][complete & transitions.cut]
    assert sorted(ends.tolist()) == sorted(100.0 * (t - 1) + b for b, rows in ENDS.items() for t in rows)


def test_only_what_waits_is_kept() -> None:
    episodes = UnfinishedEpisodes()
    episodes.put(chunk(0, 32))
    episodes.take()
    transitions, complete = episodes.take()
    # Environment 0 has been in its episode since row 20, environment 1 since row 32.
    assert len(transitions.rewards) == 12
    assert not complete.any()
    assert not transitions.valid[:, 1].any()


def test_the_state_of_waiting_episodes_can_be_saved() -> None:
    episodes, restored = UnfinishedEpisodes(), UnfinishedEpisodes()
    episodes.put(chunk(0, 25))
    episodes.take()
    episodes.put(chunk(25, 33))
    file = io.BytesIO()
    torch.save(episodes.state(), file)
    file.seek(0)
    restored.load_state(torch.load(file, weights_only=True))
    assert restored.n_complete == episodes.n_complete == 1
    for each in (episodes, restored):
        each.put(chunk(33, 39))
    assert torch.equal(taken(episodes), taken(restored))
