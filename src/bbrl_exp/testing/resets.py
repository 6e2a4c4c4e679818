"""Whether anything leaks from an episode to the next one, or from an environment to another."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from bbrl_exp.agents.agent import Agent
from bbrl_exp.testing.cells import cells_of, gradient_leak
from bbrl_exp.testing.differences import Difference, differences
from bbrl_exp.testing.playing import evaluating, play, repeat, rows_of
from bbrl_exp.testing.report import Check, checked
from bbrl_exp.testing.tape import Tape
from bbrl_exp.testing.trial import SEED, Trial

CLAIM = "resets"
EPISODES = "an episode does not depend on the one before"
ENVIRONMENTS = "environments do not depend on each other"
NO_GRADIENT_TO_EPISODES = "no gradient flows into the episode before"
NO_GRADIENT_TO_ENVIRONMENTS = "no gradient flows into other environments"
_ROUNDING = 1e-6


def checks(trial: Trial) -> Iterator[Check]:
    """Acting with the past changed, and gradients with respect to it."""
    yield checked(CLAIM, EPISODES, lambda: episodes(trial))
    yield checked(CLAIM, ENVIRONMENTS, lambda: environments(trial))
    yield checked(CLAIM, NO_GRADIENT_TO_EPISODES, lambda: gradients(trial, across_resets=True))
    yield checked(CLAIM, NO_GRADIENT_TO_ENVIRONMENTS, lambda: gradients(trial, across_resets=False))


def last_starts(starts: Tensor) -> Tensor:
    """For each environment the beginning of the last episode of which four rows or more follow, ``[B]``."""
    times = torch.arange(len(starts)).unsqueeze(1)
    return torch.where(starts & (times < len(starts) - 4), times, 0).amax(0)


def episodes(trial: Trial) -> Difference:
    """Changes all that is before an episode, and looks at the rows from its beginning on."""
    tape = trial.short
    begins = last_starts(tape.starts)
    times = torch.arange(len(tape)).unsqueeze(1)
    found = _changed(trial, tape.changed(times < begins, SEED), times >= begins)
    if found.rows is None or not found.where:
        return found
    late = found.rows & (times > begins)
    how = "the state is reset a row late" if not late.any() else "the state is not reset"
    return found.at(f"{how} where an episode begins")


def environments(trial: Trial) -> Difference:
    """Changes observations, beginnings and ends of half of the environments, and looks at the others."""
    tape = trial.short
    is_even = torch.arange(tape.starts.shape[1]) % 2 == 0
    found = Difference(0.0, _ROUNDING)
    for others in (is_even, ~is_even):
        changed = tape.with_other_episodes(others, SEED).changed(others.expand(len(tape), -1), SEED)
        found = found & _changed(trial, changed, (~others).expand(len(tape), -1))
    return found


def _changed(trial: Trial, changed: Tape, counts: Tensor) -> Difference:
    names = (*trial.memory.written, *trial.memory.actions)
    expected = {name: trial.expected[name] for name in names}
    return differences(expected, rows_of(play(trial.members(), changed), names), _ROUNDING, counts)


def gradients(trial: Trial, *, across_resets: bool) -> Difference | str:
    """Of whole sequences, as learners unroll them, and of acting where an agent lets gradients through."""
    graph = trial.graph()
    found = [gradient_leak(cell, across_resets=across_resets).at(path) for path, cell in cells_of(graph).items()]
    acting = _gradients_of_acting(trial, across_resets=across_resets)
    found += [] if acting is None else [acting]
    if not found:
        return "the agent lets no gradient through, and has no module with initial_state, step and unroll"
    whole = found[0]
    for each in found[1:]:
        whole = whole & each
    return whole


def _gradients_of_acting(trial: Trial, *, across_resets: bool) -> Difference | None:
    """The largest gradient of what holders write with respect to observations that it must not depend on."""
    members: list[Agent] = trial.members()
    tape, memory = trial.short, trial.memory
    with evaluating(members):
        rows = trial.expected
        names = [name for name in memory.supplied(rows) if rows[name].is_floating_point() and _is_observed(name, trial)]
        inputs = {name: [row.clone().requires_grad_() for row in rows[name]] for name in names}
        with torch.enable_grad():
            workspace = repeat(members, memory, rows, inputs=inputs)
            outputs = {name: workspace[name] for name in (*memory.written, *memory.actions)}
    outputs = {name: value for name, value in outputs.items() if value.requires_grad}
    if not outputs or not inputs:
        return None
    times = torch.arange(len(tape)).unsqueeze(1)
    if across_resets:
        begins = last_starts(tape.starts)
        counts, forbidden = times >= begins, times < begins
    else:
        counts = (torch.arange(tape.starts.shape[1]) % 2 == 0).expand(len(tape), -1)
        forbidden = ~counts
    loss = sum(
        (value.flatten(2).sum(2) * counts).sum() if value.ndim > 2 else (value * counts).sum()
        for value in outputs.values()
    )
    leaves = [row for name in names for row in inputs[name]]
    flat = torch.autograd.grad(loss, leaves, allow_unused=True)  # type: ignore[arg-type]
    filled = [
        torch.zeros_like(leaf) if gradient is None else gradient for leaf, gradient in zip(leaves, flat, strict=True)
    ]
    gradients = {
        f"gradient of {name}": torch.stack(filled[index * len(tape) : (index + 1) * len(tape)])
        for index, name in enumerate(names)
    }
    return differences({name: torch.zeros_like(value) for name, value in gradients.items()}, gradients, 0.0, forbidden)


def _is_observed(name: str, trial: Trial) -> bool:
    """Whether a variable shows an observation, the environment's own or one made from it by another agent."""
    leaves = [leaf.name for leaf in trial.tape.env_spec.observations]
    return name in leaves or not name.startswith("env/")
