"""Every command and snippet of the pages is run by a test; those of pages without a test of their own are run here."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import ROOT, Page, lines_of, run

# What no test runs, and why. A line that begins so is left out.
NOT_RUN = {
    "python3 -m venv": ".ci/run sets up as the README says",
    ".venv/bin/pip": ".ci/run sets up as the README says",
    ".venv/bin/ruff": ".ci/run runs it",
    ".venv/bin/python -m sphinx": ".ci/run builds the site",
    "BBRL_EXP_SCREENSHOTS": "tests/browser run without it too",
    "pip install": "installs packages",
    "source ": "changes the reader's shell",
    "eval ": "changes the reader's shell; tests/runs/test_command_line.py does it",
    "tensorboard ": "does not end; tests/browser open its pages",
    "srun ": "needs Slurm",
    "if [ $? -eq 138 ]": "needs Slurm",
}
SLURM = "launcher=slurm"  # tests/runs/test_slurm.py
# What makes a command short. A list of seeds is cut to one seed.
SHORT = ("total_steps=64", "eval.every=0", "eval.final_episodes=1", "agent.steps_per_chunk=8")
SEARCH_OF_TWO = ("total_steps=256", "eval.every=64", "hydra.sweeper.n_trials=2", "hydra.sweeper.seeds=[1]")
SHORT_SEARCH = (*SEARCH_OF_TWO, "eval.episodes=1", "eval.final_episodes=1", "agent.steps_per_chunk=8")
# Pages whose commands are run as those of another page where that has them too.
AS_ON = {"../README.md": "report.md"}
SEEDS = re.compile(r"'seed=range\([^)]*\)'|seed=\d+(,\d+)+")
# What a page needs beside its own commands: a command that is run first, or a module without which it is skipped.
BEFORE = {"command_line.md": ["bbrl-exp run agent=ppo env=cartpole name=ppo"]}
NEEDS = {"learners/images.md": ("Box2D", "cv2"), "find_settings.md": ("optuna",)}


def names() -> list[str]:
    """All pages, relative to ``docs/``."""
    inside = [path.relative_to(ROOT / "docs").as_posix() for path in sorted(ROOT.glob("docs/**/*.md"))]
    return [*inside, "../README.md", "../CONTRIBUTING.md"]


def modules_of_pages() -> Iterator[tuple[str, ast.Module]]:
    """The pages that a test module reads by ``PAGE = Page.read("<page>")``, and the module."""
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.Assign) and ast.unparse(node).startswith("PAGE = Page.read("):
                yield ast.literal_eval(node.value.args[0]), tree  # type: ignore[attr-defined]


OWNED = dict(modules_of_pages())
# Pages that one module reads in turn; it takes their commands by number, so that none is forgotten.
_EXAMPLES = Path(__file__).with_name("test_examples.py")
EXAMPLES = (
    {f"examples/{name}" for name in re.findall(r'"(\w+\.md)"', _EXAMPLES.read_text())} if _EXAMPLES.exists() else set()
)


def used(tree: ast.Module, n_commands: int) -> set[int]:
    """The commands of a page, by number, that a test module uses."""
    loads = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    found: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("PAGE.commands"):
            targets = node.targets[0].elts if isinstance(node.targets[0], ast.Tuple) else []
            found |= {index for index, target in enumerate(targets) if ast.unparse(target) in loads}
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "PAGE.commands":
            index = node.slice
            if isinstance(index, ast.Constant):
                found.add(index.value)
            elif isinstance(index, ast.Name):  # one of a list of numbers
                found |= set(range(n_commands))
    return found


def is_run(line: str) -> bool:
    return not line.startswith(tuple(NOT_RUN)) and SLURM not in line


LEFT = [name for name in names() if name not in {*OWNED, *EXAMPLES} and Page.read(name).commands]


def commands_of(name: str) -> list[str]:
    return [line for block in Page.read(name).commands for line in lines_of(block)]


def as_installed(line: str) -> str:
    """A command as that of the installed program, without its comment."""
    return re.sub(r"^python scripts/(\w+)\.py", r"bbrl-exp \1", line).partition("#")[0].strip()


@pytest.mark.parametrize("name", [name for name in names() if name in OWNED])
def test_every_command_of_a_page_is_in_its_test(name: str) -> None:
    page = Page.read(name)
    in_test = used(OWNED[name], len(page.commands))
    left = [block for index, block in enumerate(page.commands) if index not in in_test]
    assert [line for block in left for line in lines_of(block) if is_run(line)] == []
    assert not page.files or "PAGE.write_files" in ast.unparse(OWNED[name])


@pytest.mark.parametrize("name", LEFT)
def test_every_command_of_a_page_runs(name: str, tmp_path: Path) -> None:
    for module in NEEDS.get(name, ()):
        pytest.importorskip(module)
    page = Page.read(name)
    page.write_files(tmp_path)
    elsewhere = set(map(as_installed, commands_of(AS_ON[name]))) if name in AS_ON else set()
    for line in [*BEFORE.get(name, ()), *commands_of(name)]:
        if is_run(line) and as_installed(line) not in elsewhere:
            run_short(tmp_path, line)


@pytest.mark.parametrize("name", [name for name in names() if Page.read(name).dialogues])
def test_a_command_prints_what_its_page_shows(name: str, tmp_path: Path) -> None:
    for line in BEFORE.get(name, ()):
        run_short(tmp_path, line)
    for dialogue in Page.read(name).dialogues:
        command, *shown = dialogue.removeprefix("$ ").splitlines()
        code = 2 if shown[0].startswith("error: ") else 1 if any("failed: " in line for line in shown) else 0
        ended = run_short(tmp_path, command, exit_code=code)
        printed = (ended.stderr if code == 2 else ended.stdout).splitlines()
        for line in shown[:1] if code == 1 else shown:  # the rest of a sweep's table has speeds
            start = line.partition("…")[0]
            assert any(each.startswith(start) for each in printed), start


def run_short(folder: Path, line: str, exit_code: int = 0) -> subprocess.CompletedProcess[str]:
    """Runs a command of a page in ``folder``, a run with a small budget."""
    line = SEEDS.sub("seed=1", line).replace("launcher=joblib", "")
    words = line.split()
    program = next((word for word in words if "=" not in word), "")
    if program not in ("python", "bbrl-exp"):
        subprocess.run(["sh", "-c", line], cwd=folder, check=True)
        return subprocess.CompletedProcess([], 0, "", "")
    options: tuple[str, ...] = ()
    if words[words.index(program) + 1] in ("run", "scripts/run.py") and not {"--cfg", "--help"} & set(words):
        is_search = "search=" in line or "sweeper=optuna" in line
        options = SHORT_SEARCH if is_search else SHORT if "tracking" in line else (*SHORT, "tracking=none")
    return run(folder, line, *options, exit_code=exit_code)
