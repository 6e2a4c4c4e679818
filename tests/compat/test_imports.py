"""``import bbrl`` finds the compatibility layer: its modules, its names, and what it says of names that it lacks."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from bbrl_exp import compat
from bbrl_exp.compat.names import LEFT_OUT, MODULES
from bbrl_exp.errors import ConfigurationError


@pytest.mark.parametrize("module", sorted(MODULES))
def test_every_name_of_a_module_is_found(module: str) -> None:
    loaded = importlib.import_module(module)
    for name in MODULES[module]:
        assert getattr(loaded, name) is not None
    assert set(MODULES[module]) == set(dir(loaded))


@pytest.mark.parametrize("name", sorted(LEFT_OUT))
def test_a_name_that_is_left_out_says_what_to_use_instead(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    is_module = name in ("bbrl.test_transition", "bbrl.visu.play")
    code = f"import {name}" if is_module else f"from {module} import {attribute}"
    with pytest.raises(ImportError) as caught:
        exec(code, {})
    assert str(caught.value) == f"{name} is not in bbrl_exp.compat: {LEFT_OUT[name]}; see docs/migration.md"


def test_a_name_that_bbrl_never_had_is_an_ordinary_error() -> None:
    import bbrl.agents

    with pytest.raises(AttributeError) as caught:
        _ = bbrl.agents.TemporaryAgent
    assert str(caught.value) == "module 'bbrl.agents' has no attribute 'TemporaryAgent' here; see docs/migration.md"
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'bbrl\.nothing'"):
        importlib.import_module("bbrl.nothing")


def test_the_names_of_a_module_can_all_be_imported_at_once() -> None:
    names: dict[str, object] = {}
    exec("from bbrl.agents import *", names)
    assert {"Agent", "Agents", "TemporalAgent", "NRemoteAgent"} <= names.keys()


def test_install_may_be_called_again_and_undone() -> None:
    import bbrl

    finders = list(sys.meta_path)
    compat.install()
    assert sys.meta_path == finders
    compat.uninstall()
    try:
        assert "bbrl" not in sys.modules
        assert importlib.util.find_spec("bbrl_utils") is None
    finally:
        compat.install()
    assert importlib.import_module("bbrl").Agent is bbrl.Agent


def test_bbrl_itself_must_not_have_been_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    real = ModuleType("bbrl")
    real.__file__ = "/lib/bbrl/__init__.py"
    monkeypatch.setitem(sys.modules, "bbrl", real)
    with pytest.raises(ConfigurationError) as caught:
        compat.install()
    assert str(caught.value) == (
        "bbrl_exp.compat.install(): BBRL itself has been imported, from /lib/bbrl/__init__.py; "
        "call install() before the first import of bbrl"
    )


def test_an_installed_bbrl_is_hidden_and_an_installed_bbrl_utils_is_used(tmp_path: Path) -> None:
    for name in ("bbrl", "bbrl_utils"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("IS_REAL = True\n")
    code = """
import sys
from bbrl_exp import compat
compat.install()
import bbrl, bbrl_utils, bbrl.agents
print(hasattr(bbrl, "IS_REAL"), bbrl_utils.IS_REAL, {"torch", "gymnasium", "hydra", "matplotlib"} & sys.modules.keys())
"""
    found = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=tmp_path)
    assert found == "False True set()\n"
