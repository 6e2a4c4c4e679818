"""Which jobs of a sweep are trained side by side: those that differ in seeds, and in numbers that each job has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bbrl_exp.config.identity import flat
from bbrl_exp.memory import available_memory
from bbrl_exp.sweeps.jobs import Job

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


@dataclass(frozen=True)
class Plan:
    """How the jobs of a sweep run.

    Attributes:
        stacks: jobs that run side by side; one alone where the others of its stack are complete.
        alone: the other jobs, with the reason.
    """

    stacks: tuple[tuple[Job, ...], ...]
    alone: tuple[tuple[Job, str], ...]

    @property
    def lines(self) -> list[str]:
        """The plan as it is printed."""
        sizes = [len(stack) for stack in self.stacks]
        lines = []
        if sizes:
            stacks = "1 stack" if len(sizes) == 1 else f"{len(sizes)} stacks of {', '.join(map(str, sizes))}"
            jobs = "1 job" if sum(sizes) == 1 else f"{sum(sizes)} jobs"
            lines.append(f"side by side: {jobs} in {stacks}")
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
    groups: dict[tuple[tuple[str, Any], ...], list[Job]] = {}
    for job in jobs:
        if job.not_stackable is None:
            groups.setdefault(_shared(job), []).append(job)
    stacks: list[tuple[Job, ...]] = []
    for key, group in groups.items():
        if len(group) == 1:
            alone.append((group[0], _why_single(key, [other for other in groups if other != key])))
            continue
        most = min(jobs_per_stack, _jobs_in_memory(group[0]))
        n_stacks = -(-len(group) // most)
        for index in range(n_stacks):
            part = tuple(group[len(group) * index // n_stacks : len(group) * (index + 1) // n_stacks])
            if len(part) > 1:
                stacks.append(tuple(job for job in part if not job.is_complete))
            else:
                limit = f"hydra.launcher.jobs_per_stack={jobs_per_stack}" if most == jobs_per_stack else "the memory"
                alone.append((part[0], f"{limit} leaves no other job for its stack"))
    return Plan(tuple(filter(None, stacks)), tuple((job, why) for job, why in alone if not job.is_complete))


def _shared(job: Job) -> tuple[tuple[str, Any], ...]:
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


def _why_single(key: tuple[tuple[str, Any], ...], others: Sequence[tuple[tuple[str, Any], ...]]) -> str:
    if not others:
        return "it is the only job"
    differing = min((_differing(dict(key), dict(other)) for other in others), key=len)
    shown = ", ".join(differing[:_SHOWN_KEYS])
    more = f" and {len(differing) - _SHOWN_KEYS} more" if len(differing) > _SHOWN_KEYS else ""
    return f"no other job is like it but for seeds and numbers; the nearest differs in {shown}{more}"


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    keys = [key for key in {**one, **other} if one.get(key, ...) != other.get(key, ...)]
    return [key for key in keys if not key.startswith("graph.")] or keys


def _jobs_in_memory(job: Job) -> int:
    assert job.run is not None
    # Stacks may record in blocks, beside the workspaces.
    needed = 2 * job.run.size.workspace_bytes + job.run.size.replay_bytes
    return max(1, available_memory() // max(1, needed))
