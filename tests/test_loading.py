"""Nothing is loaded from a file that could run code."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for folder in ("src", "scripts") for path in (ROOT / folder).rglob("*.py"))
# What these take comes over a socket pair from a process of the same run, and never from a file.
TALK_WITH_OWN_PROCESSES = {
    "src/bbrl_exp/agents/remote/copies.py",
    "src/bbrl_exp/agents/remote/memory.py",  # an unpickler with tensors in shared memory
    "src/bbrl_exp/agents/remote/process.py",
    "src/bbrl_exp/agents/remote/state.py",
    "src/bbrl_exp/compat/remote.py",
    "src/bbrl_exp/runs/evaluation_process.py",
    "src/bbrl_exp/runs/evaluation_worker.py",
    "src/bbrl_exp/config/carried.py",  # by joblib, Ray and submitit too: docs/security.md
    "src/bbrl_exp/runs/job_host.py",
    "src/bbrl_exp/envs/worker.py",
    "src/bbrl_exp/envs/workers.py",
    "src/bbrl_exp/processes/child.py",
    "src/bbrl_exp/processes/parent.py",
}
UNSAFE = {
    "eval",
    "exec",
    "pickle.load",
    "pickle.Unpickler",
    "marshal.load",
    "marshal.loads",
    "shelve.open",
    "dill.load",
}
UNSAFE |= {"cloudpickle.load", "cloudpickle.loads", "joblib.load", "yaml.unsafe_load", "yaml.full_load"}
SAFE_LOADERS = ("yaml.SafeLoader", "yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader")
UNSAFE |= {"os.system", "os.popen", "torch.jit.load", "torch.hub.load", "pandas.read_pickle"}


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def said(call: ast.Call, name: str) -> object:
    return next((ast.literal_eval(word.value) for word in call.keywords if word.arg == name), None)


def loader_of(call: ast.Call, tree: ast.AST) -> set[str]:
    """What the argument ``Loader`` may be: what is written there, or all that the file assigns to that name."""
    written = next((ast.unparse(word.value) for word in call.keywords if word.arg == "Loader"), "")
    assignments = [node for node in ast.walk(tree) if isinstance(node, ast.Assign)]
    assigned = {ast.unparse(node.value) for node in assignments if ast.unparse(node.targets[0]) == written}
    return assigned or {written}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_loads_data_only(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for function, call in calls(tree):
        assert function not in UNSAFE, ast.unparse(call)
        if function == "torch.load":
            assert said(call, "weights_only") is True
        if function == "yaml.load":
            assert loader_of(call, tree) <= set(SAFE_LOADERS)
        if function in ("np.load", "numpy.load"):
            assert said(call, "allow_pickle") in (None, False)
        if function == "pickle.loads":
            assert str(path.relative_to(ROOT)) in TALK_WITH_OWN_PROCESSES
        if function.startswith("subprocess."):
            assert said(call, "shell") in (None, False)
