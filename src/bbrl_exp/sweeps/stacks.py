"""Which jobs of a sweep are trained side by side: those that differ in seeds, and in numbers that each job has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bbrl_exp.config.identity import flat
from bbrl_exp.config.typed_keys import typed_keys
from bbrl_exp.memory import available_memory
from bbrl_exp.sweeps.jobs import Job
from bbrl_exp.text import counted

# Options of learners that enter as numbers. Others change shapes, or how often something is done.
_OF_LEARNERS = frozenset(
    {
        "clip_range",
        "discount",
        "entropy_weight",
        "epsilon",
        "exploration_fraction",
        "final_epsilon",
        "importance_exponent",
        "initial_epsilon",
        "learning_rate",
        "max_grad_norm",
        "optimizer",
        "priority_exponent",
        "target_kl",
        "target_rate",
        "trace_decay",
        "value_clip_range",
        "value_weight",
    }
)
# Floats of members of the graph that all jobs of a stack share.
_OF_ALL = ("lowest_return", "highest_return")
_SHOWN_KEYS = 3
# Takes the place of a number that each job has itself; null stays null, so that it is never beside a number.
_OWN = object()

# What the jobs of a stack have in common, by dotted key.
_Shared = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Plan:
    """How the jobs of a sweep run.

    Attributes:
        stacks: jobs that run side by side; one alone where the others of its stack are complete.
        alone: the other jobs, with the reason.
        divided_by: why there are several stacks.
    """

    stacks: tuple[tuple[Job, ...], ...]
    alone: tuple[tuple[Job, str], ...]
    divided_by: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        """The plan as it is printed."""
        sizes = [len(stack) for stack in self.stacks]
        lines = []
        if sizes:
            stacks = "1 stack" if len(sizes) == 1 else f"{len(sizes)} stacks of {_in_words(sizes)}"
            why = f" ({'; '.join(self.divided_by)})" if len(sizes) > 1 and self.divided_by else ""
            lines.append(f"side by side: {counted(sum(sizes), 'job')} in {stacks}{why}")
        reasons: dict[str, list[str]] = {}
        for job, reason in self.alone:
            reasons.setdefault(reason, []).append(job.folder)
        for reason, names in reasons.items():
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            lines.append(f"on its own: {names[0]}{more}: {reason}")
        return lines


def plan(jobs: Sequence[Job], jobs_per_stack: int) -> Plan:
    """Divides jobs, which have been checked, into stacks.

    Args:
        jobs: without an error. Complete ones do not run, but a job whose neighbours are complete is still of a stack.
        jobs_per_stack: most jobs of a stack; fewer where the memory does not suffice.
    """
    alone = [(job, job.not_stackable) for job in jobs if job.not_stackable is not None]
    groups: dict[_Shared, list[Job]] = {}
    for job in jobs:
        if job.not_stackable is None:
            groups.setdefault(_shared(job), []).append(job)
    stacks: list[tuple[_Shared, tuple[Job, ...]]] = []
    limits: dict[str, None] = {}
    for key, group in groups.items():
        if len(group) == 1:
            others = {other: each[0] for other, each in groups.items() if other != key}
            alone.append((group[0], _why_single(key, group[0], others)))
            continue
        most = min(jobs_per_stack, _jobs_in_memory(group[0]))
        if len(group) > most:
            limit = f"at most {most} jobs per stack" if most == jobs_per_stack else "the memory suffices for no more"
            limits[limit] = None
        n_stacks = -(-len(group) // most)
        for index in range(n_stacks):
            part = tuple(group[len(group) * index // n_stacks : len(group) * (index + 1) // n_stacks])
            if len(part) > 1:
                stacks.append((key, tuple(job for job in part if not job.is_complete)))
            else:
                limit = f"hydra.launcher.jobs_per_stack={jobs_per_stack}" if most == jobs_per_stack else "the memory"
                alone.append((part[0], f"{limit} leaves no other job for its stack"))
    left = [(key, stack) for key, stack in stacks if stack]
    return Plan(
        tuple(stack for _, stack in left),
        tuple((job, why) for job, why in alone if not job.is_complete),
        (*_why_several({key: groups[key][0] for key, _ in left}), *limits),
    )


def _in_words(sizes: Sequence[int]) -> str:
    *most, last = sizes
    return counted(last, "job") if {*most} == {last} else f"{', '.join(map(str, most))} and {counted(last, 'job')}"


def _shared(job: Job) -> _Shared:
    """What the jobs of a stack have in common; numbers that each has itself are left out."""
    assert job.run is not None
    found = flat(job.run.identity)
    return tuple((key, _OWN if _is_own(key, value) else _hashable(value)) for key, value in sorted(found.items()))


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, list) else str(value) if value == {} else value


def _is_own(key: str, value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    *parents, name = key.removeprefix("graph.").split(".")
    if name == "seed":
        return True
    if parents[:2] == ["agent", "learner"]:
        option = [*parents, name][2]
        return option in _OF_LEARNERS or (option == "critic" and isinstance(value, float))
    return parents[:2] == ["agent", "members"] and isinstance(value, float) and name not in _OF_ALL


def _why_single(shared: _Shared, job: Job, others: Mapping[_Shared, Job]) -> str:
    if not others:
        return "it is the only job"
    nearest = min(others, key=lambda other: len(_differing(shared, other)))
    keys = _typed(_differing(shared, nearest), job, others[nearest])
    return (
        f"no other job differs from it in seed or numbers of the learner only; the nearest differs in {_first_of(keys)}"
    )


def _why_several(groups: Mapping[_Shared, Job]) -> list[str]:
    """What divides jobs, one of each group, into groups."""
    keys: dict[str, None] = {}
    first = next(iter(groups), ())
    for other, job in groups.items():
        if other != first:
            keys |= dict.fromkeys(_typed(_differing(first, other), groups[first], job))
    return [f"they differ in {_first_of(sorted(keys, key=lambda key: key.count('.')))}"] if keys else []


def _differing(one: _Shared, other: _Shared) -> list[str]:
    """The keys at which jobs differ, those of the graph last, which repeat others."""
    pairs = dict(one), dict(other)
    keys = [key for key in {**pairs[0], **pairs[1]} if pairs[0].get(key, ...) != pairs[1].get(key, ...)]
    return [key for key in keys if not key.startswith("graph.")] or keys


def _typed(keys: Sequence[str], one: Job, other: Job) -> list[str]:
    assert one.run is not None
    assert other.run is not None
    groups = [name for name, option in one.run.choices.items() if option != other.run.choices[name]]
    return typed_keys(keys, one.run.written, other.run.written, groups)


def _first_of(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _SHOWN_KEYS} more" if len(keys) > _SHOWN_KEYS else ""
    return f"{', '.join(keys[:_SHOWN_KEYS])}{more}"


def _jobs_in_memory(job: Job) -> int:
    assert job.run is not None
    # Stacks may record in blocks, beside the workspaces.
    needed = 2 * job.run.size.workspace_bytes + job.run.size.replay_bytes
    return max(1, available_memory() // max(1, needed))
