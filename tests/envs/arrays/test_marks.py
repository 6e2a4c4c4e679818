"""What is compiled is found again on disk by a mark that changes with everything that it depends on."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cases import IDS, made

from bbrl_exp.envs.arrays import compiling
from bbrl_exp.envs.arrays.marks import mark_of
from bbrl_exp.envs.arrays.numba_environments import NumbaEnvironments
from bbrl_exp.envs.arrays.task import ArrayTask
from bbrl_exp.envs.spec import LeafSpec
from bbrl_exp.workspace import Workspace


def closing_over(value: Any) -> Callable[..., Any]:
    return lambda x: x + value


def with_default(value: Any) -> Callable[..., Any]:
    def function(x: Any, y: Any = value) -> Any:
        return x + y

    return function


def written(source: str) -> Callable[[Any], Callable[..., Any]]:
    """A function from its source, in which the word VALUE is replaced, or is a global."""

    def make(value: Any) -> Callable[..., Any]:
        names: dict[str, Any] = {"value": value}
        exec(source.replace("VALUE", repr(value)), names)
        return names["f"]  # type: ignore[no-any-return]

    return make


def module_with(value: Any) -> types.ModuleType:
    module = types.ModuleType("constants")
    module.G = value  # type: ignore[attr-defined]
    return module


CASES: dict[str, Callable[[Any], Callable[..., Any]]] = {
    "a value that it closes over": closing_over,
    "a default": with_default,
    "a constant": written("def f(x): return x + VALUE"),
    "a constant in a comprehension": written("def f(x): return sum([each * VALUE for each in x])"),
    "a global": written("def f(x): return x + value"),
    "a global in a comprehension": written("def f(x): return sum([each * value for each in x])"),
    "a global array": lambda value: written("def f(x): return x + value[0]")(np.array([value])),
    "a constant of a module": lambda value: written("def f(x): return x + value.G")(module_with(value)),
    "one that is named by a string": lambda v: written("def f(x): return x + getattr(value, 'G')")(module_with(v)),
    "a function of a module": lambda value: written("def f(x): return value.G(x)")(module_with(closing_over(value))),
    "a function that it closes over": lambda value: closing_over(closing_over(value)),
    "a function that it calls": lambda value: written("def f(x): return value(x)")(with_default(value)),
}


@pytest.mark.parametrize("make", CASES.values(), ids=CASES.keys())
def test_the_mark_changes_with(make: Callable[[Any], Callable[..., Any]]) -> None:
    marks = [mark_of([make(value)]) for value in (1.0, 2.0, 1.0, 1, True)]
    assert None not in marks
    assert marks[0] == marks[2]
    assert len(set(marks)) == 4


def test_the_mark_changes_with_the_source_of_a_module_and_of_one_that_it_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    marks = []
    for constants, dynamics in (("", ""), ("# other", ""), ("", "# other"), ("", "")):
        (tmp_path / "marked_constants.py").write_text(f"G = 1.0\n{constants}")
        (tmp_path / "marked_dynamics.py").write_text(
            f"import marked_constants as constants\ndef f(x): return x * constants.G\n{dynamics}"
        )
        importlib.invalidate_caches()
        marks.append(mark_of([importlib.import_module("marked_dynamics").f]))
        for name in ("marked_constants", "marked_dynamics"):
            del sys.modules[name]
    assert marks[0] == marks[3]
    assert len(set(marks)) == 3
    assert None not in marks


def test_functions_that_call_each_other_have_a_mark() -> None:
    names: dict[str, Any] = {}
    exec("def f(x): return f(x - 1) + g(x)\ndef g(x): return f(x) + g(x)", names)
    assert mark_of([names["f"]]) not in (None, mark_of([names["g"]]))


def test_there_is_no_mark_where_something_is_not_known() -> None:
    assert mark_of([closing_over(object())]) is None
    assert mark_of([with_default({})]) is None
    assert mark_of([module_with(1.0)]) is None


def test_the_tasks_here_have_marks_of_their_own() -> None:
    kinds = [type(made("torch", env_id).task) for env_id in IDS]
    marks = {mark_of([kind.begin_row, kind.advance_row, kind.observe_row]) for kind in kinds}
    assert len(marks) == len(IDS)
    assert None not in marks


def moving_by(speed: float) -> ArrayTask:
    def begin(random: Any, parameters: Any, state: Any) -> None:
        state[0] = 0.0

    def advance(state: Any, action: Any, parameters: Any) -> tuple[float, bool]:
        state[0] += speed
        return 0.0, False

    def observe(state: Any, parameters: Any, observation: Any) -> None:
        observation[0] = state[0]

    class Moving(ArrayTask):
        env_id, n_state = "Moving", 1
        observation = LeafSpec.box("env/env_obs", (1,), -np.inf, np.inf)
        action = LeafSpec.discrete("action", 2)
        begin_row, advance_row, observe_row = staticmethod(begin), staticmethod(advance), staticmethod(observe)

    return Moving()


def place_after_one_step(task: ArrayTask) -> float:
    agent, workspace = NumbaEnvironments(task, 1), Workspace()
    agent(workspace, t=0)
    workspace.set("action", 0, torch.zeros(1, dtype=torch.int64))
    agent(workspace, t=1)
    return float(workspace["env/env_obs"][1])


def test_two_tasks_that_share_their_code_move_as_each_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert [place_after_one_step(moving_by(speed)) for speed in (1.0, 2.0)] == [1.0, 2.0]
    folder = tmp_path / "cache" / "bbrl_exp" / "numba"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(list(folder.rglob("*.nbi"))) == 2


@pytest.mark.parametrize("kind", ["*.nbi", "*.nbc"])
def test_code_that_cannot_be_read_is_compiled_again(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    task = moving_by(4.0)
    compiling._compiled.cache_clear()
    assert place_after_one_step(task) == 4.0
    (kept,) = tmp_path.rglob(kind)
    kept.write_bytes(kept.read_bytes()[:20])
    compiling._compiled.cache_clear()
    assert place_after_one_step(task) == 4.0
    (kept,) = tmp_path.rglob(kind)
    assert kept.stat().st_size > 20
    compiling._compiled.cache_clear()


def test_without_a_folder_or_a_mark_each_process_compiles_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    task = moving_by(3.0)
    compiling._compiled.cache_clear()
    for name, value in (("cache_folder", None), ("mark_of", None), ("why_not_ours", "somebody else's")):
        with monkeypatch.context() as patch:
            patch.setattr(compiling, name, lambda *_, value=value: value)
            loop = compiling.compiled_loop(task)
        assert type(loop._cache).__name__ == "NullCache"  # type: ignore[attr-defined]
        compiling._compiled.cache_clear()
