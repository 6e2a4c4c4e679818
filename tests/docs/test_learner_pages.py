"""The pages of the learners name every metric that a run of theirs logs, no other, and their configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from bbrl_exp.agents import Agents, TemporalAgent
from bbrl_exp.config.compose import Composer, resolve
from bbrl_exp.config.options import default_config_dir
from bbrl_exp.config.preparation import build_graph_and_learner
from bbrl_exp.data.recording import save_recording
from bbrl_exp.envs import AutoResetGymAgent
from bbrl_exp.learners.learner import Progress
from bbrl_exp.policies.random import RandomAgent
from bbrl_exp.training.loop import collect
from bbrl_exp.workspace import Workspace

CONF = default_config_dir()
PAGES = Path(__file__).parents[2] / "docs" / "learners"
PAGE_OF = {"discrete_sac": "sac", "droq": "crossq"}  # the others have a page of their own
LEARNERS = [
    path.stem
    for path in sorted((CONF / "agent").glob("*.yaml"))
    if OmegaConf.select(OmegaConf.load(path), "learner._target_") is not None
]
BATCH_SIZE, STEPS_PER_CHUNK, TOTAL_STEPS = 2, 16, 96
# What makes an update small and early, where a learner has it.
SMALL = {
    "batch_size": 8,
    "learning_starts": 8,
    "updates_per_step": 0.25,
    "episodes_per_update": 2,
    "n_epochs": 1,
    "replay_capacity": 1000,
    "elite_fraction": 0.5,
}
SMALL_POLICY = {"population_size": 4}
# Settings that log more than the default ones.
ALSO = {"ppo": ["agent.learner.objective=kl"]}


def page_of(learner: str) -> str:
    return (PAGES / f"{PAGE_OF.get(learner, learner)}.md").read_text(encoding="utf-8")


def told_metrics(page: str) -> list[str]:
    """The names in the first column of the table that follows the headline on what is logged."""
    section = re.split(r"^## What (?:it logs|they log)$", page, flags=re.MULTILINE)[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row.split(" | ")[0])]


@pytest.fixture(scope="module")
def composer() -> Iterator[Composer]:
    with Composer(CONF) as composer:
        yield composer


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an agent that knows nothing did, for those that learn from a recording."""
    path = tmp_path_factory.mktemp("recording") / "teacher.pt"
    env_id, workspace = "bbrl_exp/ProbeObservationAction-v0", Workspace()
    env = AutoResetGymAgent(env_id, BATCH_SIZE)
    TemporalAgent(Agents(env, RandomAgent(env.env_spec)))(workspace, t=0, n_steps=20)
    env.close()
    save_recording(path, workspace, env_id)
    return path


def logged_metrics(composer: Composer, learner: str, recording: Path, overrides: list[str]) -> set[str]:
    """The names of all metrics of a short run."""
    node = OmegaConf.load(CONF / "agent" / f"{learner}.yaml")
    space = "_continuous" if node.action_space == "continuous" else ""
    small = [
        f"agent.{place}.{key}={value}"
        for place, values in (("learner", SMALL), ("members.policy", SMALL_POLICY))
        for key, value in values.items()
        if OmegaConf.select(node, f"{place}.{key}") is not None
    ]
    if "recording" in node.learner:
        small.append(f"agent.learner.recording={recording}")
    run = [f"batch_size={BATCH_SIZE}", f"agent.steps_per_chunk={STEPS_PER_CHUNK}"]
    config = resolve(
        composer.compose([f"agent={learner}", f"env=probe_observation_action{space}", *run, *small, *overrides])
    )
    graph, built_learner, _ = build_graph_and_learner(config)
    assert built_learner is not None
    workspace = Workspace()
    found: set[str] = set()
    for chunk in collect(
        graph,
        workspace,
        total_steps=TOTAL_STEPS,
        batch_size=BATCH_SIZE,
        steps_per_chunk=STEPS_PER_CHUNK,
        chunks_per_recording=2,
    ):
        progress = Progress(chunk.first_row, chunk.env_steps, TOTAL_STEPS, chunk.new_steps)
        found.update(built_learner.update(workspace, progress))
    graph.close()
    return found


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_page_names_the_metrics_that_are_logged_and_no_others(
    learner: str, composer: Composer, recording: Path
) -> None:
    settings: list[list[str]] = [[], *([override] for override in ALSO.get(learner, []))]
    logged = set.union(*(logged_metrics(composer, learner, recording, setting) for setting in settings))
    assert logged
    told = told_metrics(page_of(learner))
    assert sorted(told) == sorted(logged)


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_page_names_the_configuration(learner: str) -> None:
    assert re.search(rf"`agent={learner}[` ]", page_of(learner).split("\n## ")[0])
