"""The aligner: rows of a workspace as transitions."""

from __future__ import annotations

import pytest
import torch
from recordings import ACTIONS, OBSERVATIONS, endless, recording, with_random_ends

from bbrl_exp.data.transitions import align
from bbrl_exp.errors import WorkspaceError


def test_a_transition_joins_a_row_with_the_reward_and_the_observation_of_the_next() -> None:
    transitions = align(endless(4, 3), [*OBSERVATIONS, "env/image"], ACTIONS)
    expected = torch.tensor([[0, 1, 2], [100, 101, 102], [200, 201, 202]])
    assert torch.equal(transitions.observations[0][..., 0], expected.float())
    assert torch.equal(transitions.actions[0], expected)
    assert torch.equal(transitions.rewards, expected.float())
    assert torch.equal(transitions.next_observations[0][..., 0], expected.float() + 100)
    assert transitions.next_observations[1].dtype == torch.uint8
    assert transitions.valid.all()


def test_an_end_belongs_to_the_action_before_it_and_the_pair_after_it_is_no_transition() -> None:
    terminated, truncated = torch.zeros((5, 2), dtype=torch.bool), torch.zeros((5, 2), dtype=torch.bool)
    terminated[2, 0] = truncated[3, 1] = True
    transitions = align(recording(terminated, truncated), OBSERVATIONS, ACTIONS)
    assert transitions.terminated.tolist() == [[False, False], [True, False], [False, False], [False, False]]
    assert transitions.truncated.tolist() == [[False, False], [False, False], [False, True], [False, False]]
    assert transitions.valid.tolist() == [[True, True], [True, True], [False, True], [True, False]]
    assert transitions.cut.tolist() == [[False, False], [True, False], [True, True], [False, True]]


def test_transitions_begin_at_the_first_row_that_is_asked_for() -> None:
    transitions = align(endless(5, 2), OBSERVATIONS, ACTIONS, first_row=2)
    assert transitions.actions[0].tolist() == [[200, 201], [300, 301]]
    assert transitions.next_observations[0][..., 0].tolist() == [[300, 301], [400, 401]]


def test_nothing_is_copied() -> None:
    workspace = endless(4, 3)
    transitions = align(workspace, OBSERVATIONS, ACTIONS)
    memory = workspace["env/env_obs"].untyped_storage().data_ptr()
    for values in (*transitions.observations, *transitions.next_observations, *transitions.flat().observations):
        assert values.untyped_storage().data_ptr() == memory


def test_flat_transitions_are_the_valid_ones_in_the_order_of_time_then_of_the_batch() -> None:
    workspace = with_random_ends(30, 3)
    transitions = align(workspace, OBSERVATIONS, ACTIONS)
    flat = transitions.flat()
    expected = [
        int(workspace["action"][t, b]) for t in range(29) for b in range(3) if not bool(workspace["env/done"][t, b])
    ]
    assert 0 < len(expected) < 87
    assert flat.actions[0].tolist() == expected
    assert flat.rewards.tolist() == expected
    assert torch.equal(flat.next_observations[0][:, 0], flat.observations[0][:, 0] + 100)
    assert flat.valid.all()
    pairs = workspace.get_transitions()
    assert torch.equal(pairs["env/env_obs"][1], flat.next_observations[0])
    assert torch.equal(pairs["env/terminated"][1], flat.terminated)


def test_environments_together_equal_each_alone() -> None:
    workspace = with_random_ends(20, 3)
    together = align(workspace, OBSERVATIONS, ACTIONS)
    for b in range(3):
        column = torch.tensor([b])
        alone = align(workspace.select_batch(column), OBSERVATIONS, ACTIONS)
        chosen = together.of_environments(column)
        for name in ("rewards", "terminated", "truncated", "valid", "cut"):
            assert torch.equal(getattr(alone, name), getattr(chosen, name))
        assert torch.equal(alone.next_observations[0], chosen.next_observations[0])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"observations": ["env/env_ob"]}, "env/env_ob"),
        ({"actions": ["act"]}, "act"),
        ({"reward": "env/rewards"}, "env/rewards"),
        ({"reward": "env/env_obs"}, "env/env_obs"),
        ({"actions": ["short"]}, "short"),
        ({"first_row": 3}, "row 3"),
        ({"first_row": -1}, "row -1"),
    ],
)
def test_what_cannot_be_aligned_is_named(change: dict[str, object], named: str) -> None:
    workspace = endless(4, 2)
    workspace.set_full("short", torch.zeros(3, 2))
    arguments = {"observations": OBSERVATIONS, "actions": ACTIONS, **change}
    with pytest.raises(WorkspaceError, match=named):
        align(workspace, **arguments)  # type: ignore[arg-type]


def test_ends_that_are_no_flags_are_refused() -> None:
    workspace = endless(4, 2)
    workspace.remove_variable("env/truncated")
    workspace.set_full("env/truncated", torch.zeros(4, 2))
    with pytest.raises(WorkspaceError, match="'env/truncated': expected bool"):
        align(workspace, OBSERVATIONS, ACTIONS)
