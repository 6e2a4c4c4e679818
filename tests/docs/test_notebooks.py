"""The notebooks keep their format, and the build of the site executes them."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from pages import ROOT

FOLDER = ROOT / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SITE = ROOT / "docs" / "conf.py"
BADGE = "https://colab.research.google.com/github/{repository}/blob/main/docs/notebooks/{name}"
EXERCISE = ("exercise", "check", "solution")


def hidden(what: str, *tags: str) -> dict[str, Any]:
    """The metadata of a cell whose source is collapsed: on Colab, in JupyterLab and, with its label, on the site."""
    labels = {"code_prompt_show": f"Show {what}", "code_prompt_hide": f"Hide {what}"}
    return {"cellView": "form", "jupyter": {"source_hidden": True}, "mystnb": labels, "tags": list(tags)}


METADATA = {
    "setup": hidden("the installation", "setup", "hide-cell"),
    "exercise": {"tags": ["exercise"]},
    "check": hidden("the check", "check", "hide-input"),
    "solution": hidden("the solution", "solution", "hide-input"),
}

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=nbformat.NO_CONVERT)


def kind_of(cell: Any) -> str:
    return next((tag for tag in cell.metadata.get("tags", []) if tag in METADATA), "")


def test_there_are_six_notebooks() -> None:
    assert [path.name[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05", "06"]


@each_notebook
def test_a_notebook_is_stored_without_outputs_and_without_metadata_of_an_editor(path: Path) -> None:
    notebook = read(path)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 4)  # cells have no ids
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        assert cell.metadata == METADATA.get(kind_of(cell), {}), cell.source
        assert cell.cell_type == "markdown" or (cell.outputs, cell.execution_count) == ([], None), cell.source


@each_notebook
def test_a_notebook_opens_on_colab_and_installs_the_package_only_where_it_is_missing(path: Path) -> None:
    title, setup = read(path).cells[:2]
    assert title.source.startswith(f"# {int(path.name[:2])}. ")
    assert kind_of(setup) == "setup"
    (repository,) = re.findall(r'^REPOSITORY = "https://github\.com/([\w.-]+/[\w.-]+)"', setup.source, re.MULTILINE)
    assert BADGE.format(repository=repository, name=path.name) in title.source
    first = read(NOTEBOOKS[0]).cells[1]
    assert setup.source == first.source
    namespace: dict[str, Any] = {}
    exec(setup.source.replace("%pip", "raise AssertionError #"), namespace)  # the package is here: nothing is installed
    missing = setup.source.replace('"bbrl_exp")', '"bbrl_exp_that_is_missing")').replace("%pip install", "pass #")
    if "OWNER" in repository:
        with pytest.raises(RuntimeError, match=r"^bbrl_exp is not installed: replace OWNER in REPOSITORY"):
            exec(missing, namespace)
    else:
        exec(missing, namespace)


@each_notebook
def test_each_of_three_to_five_exercises_has_a_check_and_a_solution(path: Path) -> None:
    cells = read(path).cells
    kinds = [kind_of(cell) for cell in cells]
    exercises = [position for position, kind in enumerate(kinds) if kind == "exercise"]
    assert 3 <= len(exercises) <= 5
    assert kinds.count("check") == kinds.count("solution") == len(exercises)
    for number, position in enumerate(exercises, 1):
        assert tuple(kinds[position : position + 3]) == EXERCISE
        assert f"### Exercise {number}: " in cells[position - 1].source
        stub, check, solution = (cell.source for cell in cells[position : position + 3])
        assert check.startswith("# @title Check\n")
        assert solution.startswith("# @title Solution\n")
        names = {node.name for node in ast.parse(stub).body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        solved = {node.name for node in ast.parse(solution).body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        suffix = "Solution" if any(name[0].isupper() for name in names) else "_solution"
        assert {f"{name}{suffix}" for name in names} == solved
        assert re.search(r"^is_done = check_\w+\(", check, re.MULTILINE)
        assert re.search(r"^assert check_\w+\(.*olution.*\)\nif not is_done:\n", solution, re.MULTILINE)
        assert "To do: " in check


@each_notebook
def test_links_between_notebooks_lead_somewhere(path: Path) -> None:
    for cell in read(path).cells:
        for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", cell.source if cell.cell_type == "markdown" else ""):
            assert (FOLDER / target).exists(), target


@each_notebook
@pytest.mark.skipif(
    SITE.exists() and not os.environ.get("BBRL_EXP_EXECUTE_NOTEBOOKS"),
    reason="the build of the site executes the notebooks; BBRL_EXP_EXECUTE_NOTEBOOKS=1 executes them here",
)
def test_a_notebook_runs_from_top_to_bottom(path: Path) -> None:
    notebook = read(path)
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": FOLDER}}).execute()


@pytest.mark.skipif(not SITE.exists(), reason="there is no site yet")
def test_the_build_of_the_site_executes_the_notebooks_and_fails_where_one_fails() -> None:
    found = {
        target.id: ast.literal_eval(node.value)
        for node in ast.parse(SITE.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id.startswith("nb_execution_")
    }
    assert found.get("nb_execution_mode") in ("force", "cache", "auto")
    assert found.get("nb_execution_raise_on_error") is True
    assert found.get("nb_execution_excludepatterns", []) == []
