"""The task of docs/array_environments.md: trained by both backends, tested, filmed; several seeds in one batch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import prepared
import pytest
import torch
from pages import Page, finished, lines_of, run, summary

from bbrl_exp.envs.arrays.backends import ArrayBackend
from bbrl_exp.workspace import Workspace

PAGE = Page.read("array_environments.md")
TRAIN, OWN = PAGE.commands
SHORT = ("total_steps=2048", "batch_size=8", "eval.every=0", "eval.final_episodes=2", "tracking=none")

LONG = ("total_steps=16384", "batch_size=32", "agent.steps_per_chunk=64", "eval.every=0", "tracking=none")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reader")
    PAGE.write_files(folder)
    return folder


def test_the_page_s_first_command_trains(folder: Path) -> None:
    run(folder, TRAIN, *SHORT, "name=first")
    assert summary(folder, "first")["env_id"] == "CartPole-v1"


def test_both_forms_of_the_page_s_task_learn_keep_the_contract_and_are_filmed(folder: Path) -> None:
    assert len(PAGE.files) == 3
    environment = {**os.environ, "PYTHONPATH": ".", "BBRL_EXP_ALLOW": "my_package"}
    check = "import test_hovercraft; test_hovercraft.test_hovercrafts_keep_the_contract()"
    finished(prepared.run(["-W", "error", "-c", check], folder, environment))
    numba, tensors = lines_of(OWN)
    run(folder, numba, *LONG, "name=numba")
    found = summary(folder, "numba")
    assert found["eval_return_mean"] > -100  # who always does the same is carried away, for less than -500
    assert found["eval_success_rate"] > 0
    run(folder, tensors, *SHORT, "name=tensors", "tracking.animation_steps=4", "tracking.enabled=true")
    found = summary(folder, "tensors")
    assert found["env_id"] == "Hovercraft"
    assert found["eval_success_rate"] is not None


def test_several_seeds_share_a_batch_as_the_page_says() -> None:
    names: dict[str, Any] = {}
    exec(PAGE.snippets[0], names)
    rows = []
    for agent in (names["together"], ArrayBackend("CartPole-v1", 8, seed=1), names["evaluation"]):
        workspace = Workspace()
        agent(workspace, t=0)
        rows.append(workspace["env/env_obs"][0])
    assert torch.equal(rows[0][8:16], rows[1])
    assert torch.equal(rows[2][:2], rows[2][2:4])
    assert torch.equal(rows[2][:2], rows[2][4:])
