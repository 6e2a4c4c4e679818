"""The tracker of a run: the facts that its sinks get, and the files that it continues."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bbrl_exp.config.graph import env_spec_of
from bbrl_exp.config.preparation import PreparedRun
from bbrl_exp.policies.memories import memories_of
from bbrl_exp.records.layout import EVENTS, METRICS, SWEEP_CONFIG
from bbrl_exp.records.provenance import record_run_id
from bbrl_exp.tracking.positions import Positions, new_run_id
from bbrl_exp.tracking.sink import RunFacts
from bbrl_exp.tracking.tracker import Tracker

if TYPE_CHECKING:
    from bbrl_exp.agents.combinators import TemporalAgent
    from bbrl_exp.tracking.console import Console


def tracker_of(
    prepared: PreparedRun,
    folder: Path,
    console: Console,
    clock: Callable[[], float],
    meta: Mapping[str, Any],
    git_commit: str | None,
) -> Tracker:
    """The tracker of a run, not begun yet; records in the folder that the run does not continue are removed.

    Args:
        prepared: the run.
        folder: of the run.
        console: for progress and warnings.
        clock: seconds spent in the loop.
        meta: what the checkpoint that the run resumes from says of it; empty where the run begins.
        git_commit: the commit of the checkout; None outside one.
    """
    run, spec = prepared.run, env_spec_of(prepared.graph)
    continued = Positions.of(meta["positions"]) if meta else None
    _remove_records(folder, set() if continued is None else continued.files)
    facts = RunFacts(
        folder=folder,
        run_id=new_run_id() if continued is None else continued.run_id,
        name=folder.name,
        group=folder.parent.name if (folder.parent / SWEEP_CONFIG).exists() else None,
        agent=run.choices["agent"],
        env=run.choices["env"],
        env_id=None if spec is None else spec.env_id,
        seed=run.root.seed,
        batch_size=run.size.batch_size,
        total_steps=run.size.env_steps,
        config=run.config,
        config_hash=run.config_hash,
        overrides=run.overrides,
        hyperparameters=run.hparams.parameters,
        setting=run.hparams.setting,
        git_commit=git_commit,
        resumed_at=meta.get("env_steps"),
        console=console,
    )
    record_run_id(folder, facts.run_id)
    return Tracker(
        prepared.sinks,
        facts,
        run.tracking,
        learns=prepared.learner is not None,
        discrete_actions=_discrete_actions(prepared.graph),
        units={each.state_name: each.memory.cell.bounded_units for each in memories_of(prepared.graph)},
        clock=clock,
        continued=continued,
    )


def _remove_records(folder: Path, continued: set[str]) -> None:
    """Removes the records that a run does not continue: all where it has no checkpoint to resume from."""
    for path in (*folder.glob(f"{EVENTS}*"), folder / METRICS):
        if path.name not in continued:
            path.unlink(missing_ok=True)


def _discrete_actions(graph: TemporalAgent) -> dict[str, tuple[int, int]]:
    """Name, smallest value and number of values of the graph's discrete actions."""
    spec = env_spec_of(graph)
    return {
        leaf.name: (int(leaf.start) if leaf.start is not None else 0, int(leaf.counts))
        for leaf in (spec.actions if spec is not None else ())
        if leaf.kind == "discrete" and leaf.counts is not None
    }
