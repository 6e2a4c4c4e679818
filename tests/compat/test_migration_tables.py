"""The migration page names every public name of BBRL 1.0.1 and of bbrl_utils 1.1.1, and so does the layer."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from bbrl_exp.compat.names import LEFT_OUT, MODULES

_SPEC = importlib.util.spec_from_file_location("migration_tables", Path(__file__).parent / "migration_tables.py")
tables = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(tables)
METHODS_LEFT_OUT = {"GymAgent.set_obs", "Agent.name"}  # the page says of the first why; the second is an attribute


@pytest.mark.parametrize("module", sorted(tables.NAMES))
def test_every_public_name_of_bbrl_is_here_or_is_left_out_with_a_reason(module: str) -> None:
    if module in LEFT_OUT:
        return
    for name in tables.NAMES[module]:
        top, _, method = name.partition(".")
        if f"{module}.{top}" in LEFT_OUT:
            continue
        assert top in MODULES[module], name
        if method and name not in METHODS_LEFT_OUT:
            assert hasattr(getattr(importlib.import_module(module), top), method), name


def test_the_tables_of_the_page_are_those_of_the_layer() -> None:
    text = tables.PAGE.read_text(encoding="utf-8")
    assert tables.with_tables(text) == text
    assert set(tables.DIFFERS) <= {f"{module}.{name}" for module, names in MODULES.items() for name in names}
