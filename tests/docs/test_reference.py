"""The reference has every public name, every agent's arguments, every part of a configuration and every group."""

from __future__ import annotations

import re

import pytest
from pages import ROOT

import bbrl_exp
from bbrl_exp.commands.help import keys_of_run
from bbrl_exp.commands.list import GROUPS
from bbrl_exp.config.options import default_config_dir, option_files

REFERENCE = ROOT / "docs" / "reference"


def directives(name: str, *pages: str) -> list[str]:
    """What the directives of a kind on these pages are asked for."""
    texts = [path.read_text(encoding="utf-8") for page in pages for path in sorted((ROOT / "docs").glob(page))]
    return re.findall(rf"^```{{{name}}} (\S+)$", "\n".join(texts), re.MULTILINE)


@pytest.mark.parametrize("name", bbrl_exp.__all__)
def test_every_public_name_is_in_the_reference(name: str) -> None:
    text = (REFERENCE / "api.md").read_text(encoding="utf-8")
    found = getattr(bbrl_exp, name)
    is_error = isinstance(found, type) and issubclass(found, Exception)
    shown = rf":: {re.escape(found.__module__)}$" if is_error else rf":: bbrl_exp\.{name}$"
    assert re.search(shown, text, re.MULTILINE)


def test_every_learner_has_its_arguments_on_its_page() -> None:
    agents = option_files([default_config_dir()], "agent")
    learning = [name for name, path in agents.items() if "\nlearner:\n" in path.read_text(encoding="utf-8")]
    assert sorted(directives("arguments", "learners/*.md")) == sorted(learning)


def test_every_key_and_every_group_is_in_the_reference() -> None:
    parts = [part or "root" for part in keys_of_run({})]
    assert sorted(directives("keys", "reference/configuration.md")) == sorted([*parts, "hydra.sweeper"])
    assert sorted(directives("options", "reference/options.md")) == sorted(GROUPS)
