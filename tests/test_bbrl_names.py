"""An import of a name that BBRL has, and this package has not, says what to use instead."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys

import pytest

import bbrl_exp
from bbrl_exp import bbrl_names
from bbrl_exp.config.targets import find_target
from bbrl_exp.errors import ConfigurationError

HELP = (
    "docs/migration.md lists what became of each name of BBRL; after bbrl_exp.compat.install() programs that import "
    "bbrl run as they are"
)
TF_LOGGER = "the sinks of a run (docs/trackers.md), or SummaryWriter from torch.utils.tensorboard"


def error_of(statement: str) -> str:
    with pytest.raises(ImportError) as error:
        exec(statement, {})
    return str(error.value)


def is_possible(statement: str) -> bool:
    try:
        exec(statement, {})
    except ImportError:
        return False
    return True


@pytest.mark.parametrize(
    ("module", "name", "instead"),
    [
        ("bbrl_exp", "get_class", "a YAML node with _target_ in place of classname"),
        ("bbrl_exp.agents", "SeedableAgent", "bbrl_exp.Agent, which has seed(), and whose state_dict() is saved"),
        ("bbrl_exp.agents", "NRemoteAgent", "bbrl_exp.agents.remote"),
        ("bbrl_exp.agents.agent", "KWAgentWrapper", "KWAgentWrapper from bbrl_exp.agents"),
        ("bbrl_exp.agents.gyma", "GymAgent", "AutoResetGymAgent or NoAutoResetGymAgent from bbrl_exp"),
        ("bbrl_exp.workspace", "SlicedTemporalTensor", "the methods of bbrl_exp.Workspace"),
    ],
)
def test_a_name_that_a_module_lacks_names_the_replacement(module: str, name: str, instead: str) -> None:
    assert error_of(f"from {module} import {name}") == (
        f"cannot import name '{name}' from '{module}', which BBRL has: use {instead}; {HELP}"
    )


def test_a_module_that_is_missing_names_the_replacements_of_its_names() -> None:
    chrono = f"No module named 'bbrl_exp.utils.chrono', which BBRL has. Use for Chrono: time.perf_counter; {HELP}"
    for statement in (
        "from bbrl_exp.utils.chrono import Chrono",
        "import bbrl_exp.utils.chrono",
        "from bbrl_exp.utils import chrono",
    ):
        assert error_of(statement) == chrono
    plots = "Use for plot_critic, plot_discrete_q: matplotlib;"
    assert plots in error_of("from bbrl_exp.visu.plot_critics import plot_critic")
    assert f"for TFLogger: {TF_LOGGER}; " in error_of("from bbrl_exp.utils.logger import TFLogger")
    assert "for EpisodesDone: EpisodesDone from bbrl_exp.agents; " in error_of("import bbrl_exp.agents.utils")
    assert "No module named 'bbrl_exp.utils.gymnasium.dist" in error_of("import bbrl_exp.utils.gymnasium.distributions")


def test_what_bbrl_traces_with_is_explained() -> None:
    assert "which BBRL has: use PrintAgent from bbrl_exp.agents; " in error_of("from bbrl_exp import trace")
    assert "Use for debug_transitions: the method get_transitions" in error_of("import bbrl_exp.test_transition")


def test_other_names_and_modules_are_missing_as_ever() -> None:
    assert error_of("from bbrl_exp.agents import Agnet").startswith("cannot import name 'Agnet' from 'bbrl_exp.agents'")
    assert error_of("import bbrl_exp.agents.agnet") == "No module named 'bbrl_exp.agents.agnet'"
    assert not hasattr(bbrl_exp, "nonsense")
    with pytest.raises(AttributeError, match=r"module 'bbrl_exp.workspace' has no attribute 'nonsense'"):
        importlib.import_module("bbrl_exp.workspace").nonsense  # noqa: B018


def test_a_target_that_bbrl_has_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigurationError) as error:
        find_target("bbrl_exp.agents.gyma.GymAgent", "env.agent._target_")
    assert str(error.value) == (
        "key 'env.agent._target_' = 'bbrl_exp.agents.gyma.GymAgent': cannot import name 'GymAgent' from "
        f"'bbrl_exp.agents.gyma', which BBRL has: use AutoResetGymAgent or NoAutoResetGymAgent from bbrl_exp; {HELP}"
    )


@pytest.mark.parametrize("module", [name for name, names in bbrl_names._MODULES.items() if names])
def test_no_name_that_is_here_counts_as_missing_and_what_is_named_instead_is_here(module: str) -> None:
    ours = f"bbrl_exp.{module}".rstrip(".")
    for name, instead in bbrl_names._MODULES[module].items():
        statement = f"from {ours} import {name}"
        assert HELP in error_of(statement), statement
        words = instead.replace(",", " ").split()
        for path in (word for word in words if word.startswith("bbrl_exp.")):
            owner, _, last = path.rpartition(".")
            assert importlib.util.find_spec(path) or hasattr(importlib.import_module(owner), last), instead
        if " from bbrl_exp" in instead:
            found = [word for word in words[: words.index("from")] if word != "or"]
            assert all(hasattr(importlib.import_module(words[words.index("from") + 1]), each) for each in found), (
                instead
            )


def test_every_name_of_the_compatible_package_is_here_or_explained() -> None:
    names = pytest.importorskip("bbrl_exp.compat.names")
    for module, found in names.MODULES.items():
        root, _, rest = module.partition(".")
        if root != "bbrl":
            continue
        for name in found:
            if name.startswith("__") or (rest == "" and name == "Agent"):
                continue
            statement = f"from {f'bbrl_exp.{rest}'.rstrip('.')} import {name}"
            if not is_possible(statement):
                assert HELP in error_of(statement), statement


def test_explaining_loads_no_torch() -> None:
    code = (
        "import sys, bbrl_exp\ntry: import bbrl_exp.visu.common\nexcept ImportError: assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
