"""The card of a policy: what it is, what it takes and gives, and the evidence of how well it does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from bbrl_exp.envs.spec import EnvSpec, LeafSpec
from bbrl_exp.records.provenance import versions
from bbrl_exp.runs.policy import SavedRun
from bbrl_exp.training.evaluation import Evaluation
from bbrl_exp.training.saved_state import Which

_OF_THE_RUN = ("agent", "env", "env_id", "seed", "batch_size", "status", "git_commit")
_REST = ("config_hash", "versions")


def card_of(
    saved: SavedRun,
    summary: Mapping[str, Any],
    which: Which,
    spec: EnvSpec,
    memory: Mapping[str, Any] | None,
    evaluation: Mapping[str, Any],
) -> dict[str, Any]:
    """The card of the policy in the folder of a run, as plain Python.

    Args:
        saved: the run.
        summary: what the run said of itself when the policy was read.
        which: of its policies.
        spec: facts of its environments.
        memory: variable → dtype and shape of what the policy remembers from step to step; None if not known.
        evaluation: how well it does, from :func:`evaluation_facts`.
    """
    overrides = [text for text in summary.get("overrides") or () if not text.lstrip("+~").startswith("tracking")]
    return {
        "exported_by": {name: version for name, version in versions().items() if name in ("bbrl_exp", "torch")},
        "run": {
            **{name: summary.get(name) for name in _OF_THE_RUN},
            "overrides": overrides,
            "policy": which,
            "env_steps": saved.env_steps,
            **{name: summary.get(name) for name in _REST},
        },
        "evaluation": evaluation,
        "spaces": {
            "observations": [_leaf(leaf) for leaf in spec.observations],
            "actions": [_leaf(leaf) for leaf in spec.actions],
            "clips_actions": spec.clips_actions,
            "max_episode_steps": spec.max_episode_steps,
        },
        "memory": memory,
        "config": _published(saved.config),
    }


def evaluation_facts(evaluation: Evaluation, seed: int) -> dict[str, Any]:
    """An evaluation in a card; ``actions`` says whether they were the most likely ones (``mode``) or a ``sample``.

    Args:
        evaluation: of the policy.
        seed: root of the list of episodes.
    """
    return {
        "actions": evaluation.acting,
        "episodes": len(evaluation.returns),
        "seed": seed,
        "return_mean": evaluation.return_mean,
        "return_std": evaluation.return_std,
        **({} if evaluation.success_rate is None else {"success_rate": evaluation.success_rate}),
        "returns": list(evaluation.returns),
        "lengths": list(evaluation.lengths),
        "cut": evaluation.n_cut,
    }


def _leaf(leaf: LeafSpec) -> dict[str, Any]:
    """A leaf of a space; bounds that are equal in all components are one number, infinite ones null."""
    facts: dict[str, Any] = {"name": leaf.name, "kind": leaf.kind, "shape": list(leaf.shape), "dtype": leaf.dtype}
    for name in ("low", "high", "counts", "start"):
        values = getattr(leaf, name)
        if values is not None:
            array = np.asarray(values)
            is_one = array.size > 0 and bool((array == array.flat[0]).all())
            facts[name] = array.flat[0].item() if is_one else array.tolist()
    return facts


def _published(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration without what says where a run was recorded, which may hold addresses and keys."""
    return {**config, "tracking": {"sinks": {}}}


def hub_name_of(card: Mapping[str, Any]) -> str:
    """``ppo-CartPole-v1``: a name of letters, digits, dots, hyphens and underscores."""
    run = card["run"]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{run['agent']}-{run['env_id']}")
