"""The replay buffer: rows are kept, transitions are drawn; a row of environment b at time t shows 100·t + b."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from recordings import (
    ACTIONS,
    OBSERVATIONS,
    endless,
    load_all_rows,
    recording,
    through_a_file,
    window,
    with_random_ends,
)

from bbrl_exp.data.replay import Batch, ReplayBuffer, ReplayError
from bbrl_exp.data.ring import Field
from bbrl_exp.data.transitions import DONE, REWARD, TERMINATED, align
from bbrl_exp.errors import ConfigurationError, WorkspaceError
from bbrl_exp.workspace import Workspace

DISCOUNT = 0.5


def buffer_of(capacity: int, n_steps: int = 1, extras: Sequence[str] | None = ()) -> ReplayBuffer:
    observations = [*OBSERVATIONS, "env/image"]
    return ReplayBuffer(capacity, observations, ACTIONS, discount=DISCOUNT, n_steps=n_steps, extras=extras)


def everything(buffer: ReplayBuffer) -> Batch:
    return buffer.gather(np.arange(buffer.stored.start, buffer.stored.stop))


def put_in_chunks(buffer: ReplayBuffer, workspace: Workspace, sizes: Sequence[int]) -> None:
    """What a loop does: chunks of these numbers of rows, the recording being cut before each."""
    row = 0
    for size in sizes:
        buffer.put(window(workspace, row, size + 1), 0)
        row += size
    assert row == workspace.time_size() - 1


def expected_transitions(workspace: Workspace, first_row: int = 0) -> list[int]:
    return align(workspace, OBSERVATIONS, ACTIONS, first_row).flat().actions[0].tolist()


def n_step_by_hand(workspace: Workspace, t: int, b: int, n: int) -> tuple[float, float, bool, int]:
    """Return, discount, terminated and last row, by the definition."""
    total, k = 0.0, 0
    while k < n and t + k + 1 < workspace.time_size():
        total += DISCOUNT**k * float(workspace["env/reward"][t + k + 1, b])
        k += 1
        if bool(workspace["env/done"][t + k, b]):
            break
    return total, DISCOUNT**k, bool(workspace["env/terminated"][t + k, b]), t + k


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("sizes", [(39,), (1,) * 39, (13, 13, 13), (1, 7, 30, 1)])
def test_all_transitions_of_a_recording_are_kept_in_order_and_no_reset(batch_size: int, sizes: Sequence[int]) -> None:
    workspace = with_random_ends(40, batch_size)
    buffer = buffer_of(1000)
    put_in_chunks(buffer, workspace, sizes)
    expected = align(workspace, [*OBSERVATIONS, "env/image"], ACTIONS).flat()
    batch = everything(buffer)
    assert len(buffer) == len(expected.rewards) < 39 * batch_size
    pairs = zip(
        (*batch.observations, *batch.actions, batch.rewards, batch.terminated, *batch.next_observations),
        (*expected.observations, *expected.actions, expected.rewards, expected.terminated, *expected.next_observations),
        strict=True,
    )
    for found, wanted in pairs:
        assert found.dtype == wanted.dtype
        assert torch.equal(found, wanted)
    assert batch.discounts.tolist() == [DISCOUNT] * len(buffer)
    assert batch.weights.tolist() == [1.0] * len(buffer)


def test_rows_of_a_growing_recording_are_put_once_each() -> None:
    workspace, buffer = with_random_ends(40, 2), buffer_of(1000)
    for first_row in range(0, 39, 3):
        buffer.put(window(workspace, 0, first_row + 4), first_row)
    assert everything(buffer).actions[0].tolist() == expected_transitions(workspace)


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("sizes", [(1,) * 99, (99,), (33, 33, 33), (9, 10, 11, 12, 57)])
@pytest.mark.parametrize("capacity", [1, 20, 30])
def test_a_full_ring_holds_the_last_time_steps(batch_size: int, sizes: Sequence[int], capacity: int) -> None:
    workspace, buffer = with_random_ends(100, batch_size), buffer_of(capacity)
    put_in_chunks(buffer, workspace, sizes)
    n_time_steps = -(-capacity // batch_size)
    expected = expected_transitions(workspace, 99 - n_time_steps)
    assert len(buffer) == len(expected)
    assert buffer.max_transitions == n_time_steps * batch_size
    if expected:
        batch = everything(buffer)
        assert batch.actions[0].tolist() == expected
        assert torch.equal(batch.next_observations[0][:, 0], batch.observations[0][:, 0] + 100)
        assert torch.equal(batch.rewards, batch.observations[0][:, 0])


def test_draws_are_uniform_over_the_transitions_and_never_a_reset() -> None:
    workspace, buffer = with_random_ends(60, 3), buffer_of(90)
    put_in_chunks(buffer, workspace, (7, 20, 32))
    expected = expected_transitions(workspace, 29)
    n_draws = 400 * len(expected)
    drawn = buffer.sample(n_draws, np.random.default_rng(0)).actions[0].numpy()
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == sorted(expected)
    # Chi-square of k - 1 degrees of freedom: mean k - 1, variance 2 (k - 1); five deviations.
    chi_square = ((counts - 400) ** 2 / 400).sum()
    degrees = len(expected) - 1
    assert abs(chi_square - degrees) < 5 * (2 * degrees) ** 0.5


@pytest.mark.parametrize("n_steps", [1, 3])
@pytest.mark.parametrize("extras", [None, ("policy/state",)])
def test_transitions_are_also_drawn_as_a_workspace_of_two_rows(n_steps: int, extras: Sequence[str] | None) -> None:
    workspace, buffer = with_random_ends(60, 3), buffer_of(90, n_steps, extras)
    put_in_chunks(buffer, workspace, (7, 20, 32))
    drawn = buffer.sample_transitions(500, np.random.default_rng(0))
    identity = drawn["action"]
    assert identity.shape == (2, 500)
    assert identity[0].tolist() == buffer.sample(500, np.random.default_rng(0)).actions[0].tolist()
    assert torch.equal(identity[1], identity[0] + 100)
    t, b = identity // 100, identity % 100
    assert not workspace["env/done"][t[0], b[0]].any()
    assert set(drawn.keys()) == {*OBSERVATIONS, "env/image", *ACTIONS, REWARD, TERMINATED, DONE} | (
        {"env/truncated", "env/initial_state", *extras} if extras else set()
    )
    for name in list(drawn.keys()):
        assert drawn[name].dtype == workspace[name].dtype
        assert torch.equal(drawn[name], workspace[name][t, b])
    with pytest.raises(ConfigurationError, match="batch_size"):
        buffer.sample_transitions(0, np.random.default_rng(0))
    with pytest.raises(ReplayError, match="nothing to draw"):
        buffer_of(9).sample_transitions(1, np.random.default_rng(0))


@pytest.mark.parametrize("n_steps", [1, 2, 3, 8])
@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("capacity", [30, 1000])
def test_n_step_returns_are_those_of_the_definition(n_steps: int, batch_size: int, capacity: int) -> None:
    workspace, buffer = with_random_ends(80, batch_size, seed=n_steps), buffer_of(capacity, n_steps)
    put_in_chunks(buffer, workspace, (40, 1, 38))
    batch = everything(buffer)
    for i, identity in enumerate(batch.actions[0].tolist()):
        t, b = divmod(identity, 100)
        expected, discount, terminated, last = n_step_by_hand(workspace, t, b, n_steps)
        assert batch.rewards[i].item() == pytest.approx(expected)
        assert batch.discounts[i].item() == discount
        assert batch.terminated[i].item() == terminated
        assert batch.next_observations[0][i].tolist() == [100 * last + b, 0.5]
        assert batch.next_observations[1][i].tolist() == [[(100 * last + b) % 251] * 2] * 2


def test_an_n_step_window_next_to_the_last_row_spans_the_steps_that_are_there() -> None:
    buffer = buffer_of(100, n_steps=3)
    buffer.put(endless(5, 1), 0)
    batch = everything(buffer)
    assert batch.discounts.tolist() == [DISCOUNT**3, DISCOUNT**3, DISCOUNT**2, DISCOUNT]
    assert batch.next_observations[0][:, 0].tolist() == [300, 400, 400, 400]
    buffer.put(endless(2, 1, first_time=4), 0)
    assert everything(buffer).discounts.tolist() == [DISCOUNT**3] * 3 + [DISCOUNT**2, DISCOUNT]


@pytest.mark.parametrize("capacity", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("n_steps", [2, 3, 5])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_windows_of_several_steps_are_right_wherever_the_ring_wraps(capacity: int, n_steps: int, size: int) -> None:
    workspace, buffer = with_random_ends(41, 1, seed=1), buffer_of(capacity, n_steps)
    for row in range(0, 40, size):
        buffer.put(window(workspace, row, size + 1), 0)
        so_far = window(workspace, 0, row + size + 1)
        first = max(row + size - capacity, 0)
        starts = [t for t in range(first, row + size) if not bool(so_far["env/done"][t, 0])]
        assert len(buffer) == len(starts)
        if not starts:
            continue
        batch = everything(buffer)
        by_hand = [n_step_by_hand(so_far, t, 0, n_steps) for t in starts]
        assert batch.actions[0].tolist() == [100 * t for t in starts]
        assert batch.rewards.tolist() == [total for total, *_ in by_hand]
        assert batch.discounts.tolist() == [discount for _, discount, *_ in by_hand]
        assert batch.terminated.tolist() == [terminated for *_, terminated, _ in by_hand]
        assert batch.next_observations[0][:, 0].tolist() == [100.0 * last for *_, last in by_hand]


@pytest.mark.parametrize("n_steps", [1, 3])
def test_nothing_is_joined_across_two_recordings(n_steps: int) -> None:
    buffer = buffer_of(100, n_steps)
    for first_time in (0, 50):
        buffer.begin_recording()
        buffer.put(endless(4, 2, first_time), 0)
    batch = everything(buffer)
    assert batch.actions[0].tolist() == [0, 1, 100, 101, 200, 201, 5000, 5001, 5100, 5101, 5200, 5201]
    ends = [300, 301] * 3 + [5300, 5301] * 3 if n_steps == 3 else [value + 100 for value in batch.actions[0].tolist()]
    assert batch.next_observations[0][:, 0].tolist() == ends


def test_rows_that_do_not_follow_the_last_one_are_refused() -> None:
    workspace, buffer = endless(9, 2), buffer_of(100)
    buffer.put(window(workspace, 0, 4), 0)
    with pytest.raises(ReplayError, match="begin_recording"):
        buffer.put(window(workspace, 4, 4), 0)
    with pytest.raises(ReplayError, match="row 2 of 'env/env_obs'"):
        buffer.put(window(workspace, 0, 6), 2)
    buffer.put(window(workspace, 0, 6), 3)
    assert everything(buffer).actions[0].tolist() == expected_transitions(window(workspace, 0, 6))


def test_environments_together_equal_each_alone() -> None:
    workspace = with_random_ends(50, 3)
    together = buffer_of(90, n_steps=3)
    together.put(workspace, 0)
    batch = everything(together)
    for b in range(3):
        alone = buffer_of(30, n_steps=3)
        alone.put(workspace.select_batch(torch.tensor([b])), 0)
        own, mine = everything(alone), batch.actions[0] % 100 == b
        assert torch.equal(own.rewards, batch.rewards[mine])
        assert torch.equal(own.discounts, batch.discounts[mine])
        assert torch.equal(own.next_observations[0], batch.next_observations[0][mine])


def test_sequences_are_consecutive_rows_of_one_environment_with_every_variable() -> None:
    workspace, buffer = with_random_ends(60, 3), buffer_of(120, extras=["policy/state"])
    put_in_chunks(buffer, workspace, (25, 1, 33))
    sequences = buffer.sample_sequences(500, 6, np.random.default_rng(0))
    identity = sequences["action"]
    assert identity.shape == (6, 500)
    assert torch.equal(identity, identity[0] + 100 * torch.arange(6)[:, None])
    t, b = identity // 100, identity % 100
    assert int(t.min()) == 60 - 41
    assert int(t.max()) == 59
    names = ["env/env_obs", "env/image", "policy/state", "env/reward", "env/terminated", "env/truncated", "env/done"]
    for name in [*names, "env/initial_state"]:
        assert sequences[name].dtype == workspace[name].dtype
        assert torch.equal(sequences[name], workspace[name][t, b])
    transitions = align(sequences, OBSERVATIONS, ACTIONS)
    assert torch.equal(transitions.valid, ~workspace["env/done"][t[:-1], b[:-1]])
    assert not transitions.valid.all()


def test_sequences_begin_uniformly_and_cross_neither_the_write_head_nor_another_recording() -> None:
    buffer = buffer_of(40)
    for first_time, n_rows in ((0, 30), (40, 12), (60, 3), (70, 7)):
        buffer.begin_recording()
        buffer.put(endless(n_rows, 2, first_time), 0)
    # Of 52 rows the last 21 are stored: none of the first recording, 11 of the second, 3 and 7.
    sequences = buffer.sample_sequences(30_000, 4, np.random.default_rng(1))
    begins, counts = np.unique(sequences["action"][0].numpy(), return_counts=True)
    times = [*range(41, 49), *range(70, 74)]
    assert begins.tolist() == [100 * t + b for t in times for b in range(2)]
    expected = 30_000 / len(begins)
    chi_square = ((counts - expected) ** 2 / expected).sum()
    degrees = len(begins) - 1
    assert abs(chi_square - degrees) < 5 * (2 * degrees) ** 0.5
    with pytest.raises(ReplayError, match="length=12; the longest recording has 11 rows"):
        buffer.sample_sequences(1, 12, np.random.default_rng(0))


def test_sequences_want_a_buffer_made_for_them() -> None:
    buffer = buffer_of(40, extras=None)
    buffer.put(endless(5, 2), 0)
    with pytest.raises(ReplayError, match="extras"):
        buffer.sample_sequences(1, 2, np.random.default_rng(0))


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("capacity", [30, 1000])
@pytest.mark.parametrize("n_steps", [1, 3])
def test_a_restored_buffer_goes_on_as_the_saved_one(capacity: int, batch_size: int, n_steps: int) -> None:
    workspace = with_random_ends(100, batch_size)
    saved, restored = (buffer_of(capacity, n_steps) for _ in range(2))
    put_in_chunks(saved, window(workspace, 0, 55), (14, 40))
    saved.begin_recording()
    saved.put(window(workspace, 56, 5), 0)
    restored.load_state(through_a_file(saved.state()))
    load_all_rows(restored, saved)
    assert restored.state() == saved.state()
    assert restored.stored == saved.stored
    generators = np.random.default_rng(5), np.random.default_rng(5)
    for first_row in (60, 70, 80, 90):
        for buffer in (saved, restored):
            buffer.put(window(workspace, first_row, min(11, 100 - first_row)), 0)
        one, other = (
            buffer.sample(64, generator) for buffer, generator in zip((saved, restored), generators, strict=True)
        )
        assert one.indexes.tolist() == other.indexes.tolist()
        assert torch.equal(one.rewards, other.rewards)
        for ours, theirs in zip(one.next_observations, other.next_observations, strict=True):
            assert ours.dtype == theirs.dtype
            assert torch.equal(ours, theirs)
        one_rows, other_rows = (
            buffer.sample_sequences(9, 5, generator)["action"]
            for buffer, generator in zip((saved, restored), generators, strict=True)
        )
        assert torch.equal(one_rows, other_rows)
    assert restored.state() == saved.state()


@pytest.mark.parametrize("ended", [False, True])
def test_a_restored_buffer_knows_whether_the_recording_had_ended(ended: bool) -> None:
    saved, restored = buffer_of(100), buffer_of(100)
    saved.put(endless(4, 2), 0)
    if ended:
        saved.begin_recording()
    restored.load_state(through_a_file(saved.state()))
    load_all_rows(restored, saved)
    restored.put(endless(3, 2, first_time=3), 0)
    transitions = everything(restored).actions[0].tolist()
    assert transitions == [0, 1, 100, 101, 200, 201, 300, 301, 400, 401]
    assert restored.kept_rows == range(7 if ended else 6)


def test_rows_are_read_by_their_numbers_as_they_were_put() -> None:
    workspace, buffer = with_random_ends(60, 3), buffer_of(60)
    put_in_chunks(buffer, workspace, (20, 39))
    assert buffer.kept_rows == range(60 - 21, 60)
    for first, stop in ((39, 60), (41, 43), (50, 50)):
        for name, rows in buffer.read_rows(first, stop).items():
            assert rows.dtype == workspace[name].dtype
            assert torch.equal(rows, workspace[name][first:stop])
    for first, stop in ((38, 42), (50, 61)):
        with pytest.raises(ReplayError, match="stored: rows 39 to 59"):
            buffer.read_rows(first, stop)


def test_rows_that_were_read_keep_their_values_when_the_buffer_goes_on() -> None:
    workspace, buffer = endless(40, 2), buffer_of(20)
    buffer.put(window(workspace, 0, 21), 0)
    rows = buffer.read_rows(10, 21)["action"]
    before = rows.clone()
    buffer.put(window(workspace, 20, 20), 0)
    assert torch.equal(rows, before)


def test_nothing_is_drawn_put_or_saved_before_all_rows_are_loaded() -> None:
    saved, restored = buffer_of(100), buffer_of(100)
    saved.put(endless(9, 2), 0)
    restored.load_state(saved.state())
    assert restored.kept_rows == range(9)
    with pytest.raises(ReplayError, match="rows 2 to 4 do not follow; missing: rows 0 to 8"):
        restored.load_rows(2, saved.read_rows(2, 5))
    restored.load_rows(0, saved.read_rows(0, 6))
    for refused in (
        lambda: restored.sample(1, np.random.default_rng(0)),
        lambda: restored.put(endless(2, 2, first_time=8), 0),
        lambda: restored.read_rows(0, 2),
        restored.state,
    ):
        with pytest.raises(ReplayError, match="rows 6 to 8 are not loaded yet"):
            refused()
    restored.load_rows(4, saved.read_rows(4, 9))
    assert everything(restored).actions[0].tolist() == everything(saved).actions[0].tolist()
    with pytest.raises(ReplayError, match="rows 8 to 8 do not follow; missing: none"):
        restored.load_rows(8, saved.read_rows(8, 9))


def test_an_empty_buffer_can_be_saved_and_restored() -> None:
    buffer = buffer_of(20)
    buffer.put(endless(5, 2), 0)
    buffer.load_state(buffer_of(20).state())
    assert len(buffer) == 0
    buffer.put(endless(5, 3), 0)
    assert len(buffer) == 12


def test_the_state_of_another_buffer_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="capacity 20, the saved one 30"):
        buffer_of(20).load_state(buffer_of(30).state())


def test_gradients_do_not_enter_and_draws_may_be_used_in_autograd() -> None:
    workspace = endless(6, 2)
    observation = workspace["env/env_obs"].clone().requires_grad_()
    workspace.remove_variable("env/env_obs")
    workspace.set_full("env/env_obs", observation)
    buffer = buffer_of(20)
    with torch.inference_mode():
        buffer.put(workspace, 0)
    batch = buffer.sample(4, np.random.default_rng(0))
    assert not any(values.requires_grad or values.is_inference() for values in batch.observations)
    weight = torch.ones(2, 1, requires_grad=True)
    (batch.observations[0] @ weight).sum().backward()
    assert weight.grad is not None
    assert weight.grad[:, 0].tolist() == batch.observations[0].sum(0).tolist()


def test_a_batch_keeps_its_values_when_rows_are_overwritten() -> None:
    workspace, buffer = endless(40, 2), buffer_of(20)
    buffer.put(window(workspace, 0, 21), 0)
    batch = buffer.sample(32, np.random.default_rng(0))
    before = batch.observations[0].clone(), batch.rewards.clone()
    buffer.put(window(workspace, 20, 20), 0)
    assert torch.equal(batch.observations[0], before[0])
    assert torch.equal(batch.rewards, before[1])


def test_every_row_is_stored_once_and_the_bytes_are_known_before() -> None:
    buffer, workspace = buffer_of(10_000, extras=None), endless(5, 2)
    full = {name: workspace[name] for name in ["env/env_obs", "env/image", "action", REWARD, TERMINATED, DONE]}
    fields = {name: Field(tuple(value.shape[2:]), value.dtype) for name, value in full.items()}
    expected = buffer.bytes_for(fields, 2)
    buffer.put(workspace, 0)
    ring = buffer._ring
    assert ring is not None
    held = ring.memory.nbytes + ring._places.nbytes
    # Two floats, a byte image of four, an int64 action, a reward and two flags; padded to words of eight bytes.
    row_bytes = 32
    assert row_bytes >= 8 + 4 + 8 + 4 + 2
    assert row_bytes * 10_000 <= expected < 1.5 * row_bytes * 10_000
    assert expected == held + 8 * len(ring._starts_in_slot)
    del fields["action"]
    with pytest.raises(WorkspaceError, match="no variable 'action'"):
        buffer.bytes_for(fields, 2)


def test_transitions_that_are_gone_or_not_there_yet_are_refused() -> None:
    buffer = buffer_of(10)
    with pytest.raises(ReplayError, match="nothing to draw"):
        buffer.sample(1, np.random.default_rng(0))
    buffer.put(endless(21, 1), 0)
    assert buffer.stored == range(10, 20)
    for indexes in ([9], [20], [12, 25]):
        with pytest.raises(ReplayError, match=r"10 … 19 are"):
            buffer.gather(np.array(indexes))


@pytest.mark.parametrize("n_new_rows", [1, 3])
@pytest.mark.parametrize("changed", ["env/image", "action"])
def test_a_variable_that_changes_its_dtype_or_shape_is_named(n_new_rows: int, changed: str) -> None:
    workspace, buffer = endless(9, 2), buffer_of(100)
    buffer.put(window(workspace, 0, 4), 0)
    broken = window(workspace, 3, n_new_rows + 1)
    values = broken[changed]
    broken.remove_variable(changed)
    broken.set_full(changed, values.double())
    with pytest.raises(WorkspaceError, match=f"'{changed}': expected .* found .* float64"):
        buffer.put(broken, 0)
    buffer.put(window(workspace, 3, n_new_rows + 1), 0)
    assert len(buffer) == 2 * (3 + n_new_rows)


def test_what_cannot_be_stored_is_named() -> None:
    buffer = ReplayBuffer(10, ["env/env_ob"], ACTIONS, discount=1.0)
    with pytest.raises(WorkspaceError, match="'env/env_ob'"):
        buffer.put(endless(5, 2), 0)
    with pytest.raises(WorkspaceError, match="no row 5"):
        buffer_of(10).put(endless(5, 2), 5)
    workspace = endless(5, 2)
    workspace.remove_variable("env/done")
    workspace.set_full("env/done", torch.zeros(5, 2))
    with pytest.raises(WorkspaceError, match=r"'env/done': expected bool \[T, B\], found \[T, B\] float32"):
        buffer_of(10).put(workspace, 0)


def test_rewards_that_are_flags_are_refused_before_anything_is_put() -> None:
    buffer = ReplayBuffer(10, ["env/env_obs"], ["action"], discount=1.0, reward="env/done")
    fields = {name: Field((), torch.int64) for name in ("env/env_obs", "action")}
    flags = dict.fromkeys((TERMINATED, DONE), Field((), torch.bool))
    with pytest.raises(WorkspaceError, match="'env/done': expected numbers"):
        buffer.bytes_for({**fields, **flags}, 2)


@pytest.mark.parametrize("n_steps", [1, 3])
def test_rewards_that_are_integers_are_summed_and_discounted_as_numbers(n_steps: int) -> None:
    workspace = with_random_ends(30, 2)
    of_floats, of_integers = buffer_of(100, n_steps), buffer_of(100, n_steps)
    of_floats.put(workspace, 0)
    workspace.remove_variable(REWARD)
    workspace.set_full(REWARD, with_random_ends(30, 2)[REWARD].long())
    of_integers.put(workspace, 0)
    expected, found = everything(of_floats), everything(of_integers)
    for name in ("rewards", "discounts", "weights"):
        assert getattr(found, name).dtype == torch.float32
        assert torch.equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("change", [{"capacity": 0}, {"n_steps": 0}, {"discount": 1.5}])
def test_settings_that_make_no_sense_are_refused(change: dict[str, float]) -> None:
    settings = {"capacity": 10, "discount": 0.9, **change}
    with pytest.raises(ConfigurationError, match=next(iter(change))):
        ReplayBuffer(observations=OBSERVATIONS, actions=ACTIONS, **settings)  # type: ignore[arg-type]


def test_both_ends_at_once_are_a_termination() -> None:
    ends = torch.zeros((4, 1), dtype=torch.bool)
    ends[2] = True
    buffer = buffer_of(10, n_steps=5)
    buffer.put(recording(ends, ends), 0)
    batch = everything(buffer)
    assert batch.actions[0].tolist() == [0, 100]
    assert batch.terminated.tolist() == [True, True]
    assert batch.discounts.tolist() == [DISCOUNT**2, DISCOUNT]
