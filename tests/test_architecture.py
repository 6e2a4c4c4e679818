"""The order of the packages: imports point down only, and heavy libraries stay in the packages that own them."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "bbrl_exp"

# From the ground up: a package imports only from those above it in this list.
PACKAGES = [
    "bbrl_names",
    "errors",
    "extras",
    "arguments",
    "settings",
    "text",
    "memory",
    "seeding",
    "processes",
    "compilation",
    "functional",
    "records",
    "nn",
    "workspace",
    "agents",
    "data",
    "reports",
    "tracking",
    "envs",
    "policies",
    "learners",
    "training",
    "stacked",
    "compat",
    "config",
    "runs",
    "export",
    "testing",
    "sweeps",
    "search",
    "commands",
    "__main__",
]
HEIGHT = {package: height for height, package in enumerate(PACKAGES)}

# BBRL programs import the environment agents from bbrl.agents.gyma.
EXCEPTIONS = {("agents/gyma.py", "envs")}

ONLY_IN = {
    "hydra": {"config", "commands"},
    "omegaconf": {"records", "config", "sweeps", "search", "compat"},
    "tensorboard": {"records", "tracking", "compat"},
    "gymnasium": {"envs", "compat"},
    "wandb": {"tracking"},
    "trackio": {"tracking"},
}

# What the other packages ask environments for; how they are stepped is nobody else's business.
OF_ENVIRONMENTS = {"environment_agent", "spec", "values", "checks", "registered", "told_warnings"}
# BBRL programs and users name the environment agents; the others name a package: to start, to allow, to record it.
MAY_SAY_GYM_AGENT = {"__init__.py", "agents/gyma.py", "bbrl_names.py"}
MAY_SAY_GYMNASIUM = {
    "commands/help.py",
    "config/targets.py",
    "records/provenance.py",
    "records/summary.py",
    "runs/job_host.py",
}

FILES = sorted(path for path in PACKAGE.rglob("*.py"))


@functools.cache
def imported_modules(path: Path) -> list[str]:
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            found += (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
    return found


def package_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    package = package_of(path)
    if package == "__init__":
        return
    for module in imported_modules(path):
        parts = module.split(".")
        assert module != "bbrl_exp", f"{path.name} imports the package's own public names"
        if parts[0] != "bbrl_exp" or parts[1] not in HEIGHT:
            continue
        other = parts[1]
        if other != package and (str(path.relative_to(PACKAGE).as_posix()), other) not in EXCEPTIONS:
            assert HEIGHT[other] < HEIGHT[package], f"{path.name} in {package} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_libraries_stay_in_their_packages(path: Path) -> None:
    for module in imported_modules(path):
        allowed = ONLY_IN.get(module.split(".")[0])
        assert allowed is None or package_of(path) in allowed, f"{path.relative_to(PACKAGE)} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_environments_are_asked_for_as_environment_agents(path: Path) -> None:
    name = path.relative_to(PACKAGE).as_posix()
    if package_of(path) in ("envs", "compat") or name in MAY_SAY_GYM_AGENT:
        return
    text = path.read_text(encoding="utf-8")
    assert "GymAgent" not in text
    assert "gymnasium" not in text.lower() or name in MAY_SAY_GYMNASIUM
    for module in imported_modules(path):
        if module.startswith("bbrl_exp.envs."):
            assert module.split(".")[2] in OF_ENVIRONMENTS, f"{name} imports {module}"


def test_nothing_imports_the_compatibility_layer() -> None:
    importers = {
        package_of(path) for path in FILES for module in imported_modules(path) if module.startswith("bbrl_exp.compat")
    }
    assert importers == {"compat"}


def test_every_package_has_a_place_in_the_order() -> None:
    packages = {package_of(path) for path in FILES} - {"__init__"}
    assert packages <= set(HEIGHT)


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_when_loaded(path: Path, modules: set[str]) -> set[str]:
    """The modules of ours that a module imports while it is loaded: not for annotations, not inside a function."""
    found: set[str] = set()
    waiting: list[ast.AST] = list(ast.parse(path.read_text(encoding="utf-8")).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= imported_by(node, modules)
        waiting += ast.iter_child_nodes(node)
    return found & modules


def test_no_modules_import_each_other_in_a_circle() -> None:
    modules = {module_of(path) for path in FILES}
    left = {module_of(path): imported_when_loaded(path, modules) - {module_of(path)} for path in FILES}
    while ready := [module for module, needs in left.items() if not needs & left.keys()]:
        for module in ready:
            del left[module]
    assert not left, f"in a circle, or above one: {sorted(left)}"


def test_no_package_is_above_a_sixth_of_the_source() -> None:
    lines: dict[str, int] = {}
    for path in FILES:
        package = package_of(path)
        lines[package] = lines.get(package, 0) + len(path.read_text(encoding="utf-8").splitlines())
    largest = max(lines, key=lambda package: lines[package])
    assert lines[largest] <= sum(lines.values()) / 6, largest


def imported_by(node: ast.ImportFrom, modules: set[str]) -> set[str]:
    """What ``from a.b import c`` imports: the module ``a.b.c`` if there is one, else ``a.b``."""
    names = {f"{node.module}.{alias.name}" for alias in node.names}
    return {str(node.module)} if names - modules else names


def test_nothing_imports_the_init_of_its_own_package() -> None:
    modules = {module_of(path) for path in FILES}
    for path in FILES:
        own = module_of(path).rpartition(".")[0]
        nodes = [
            node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom)
        ]
        if path.name != "__init__.py" and own != "bbrl_exp":
            assert all(own not in imported_by(node, modules) for node in nodes), path.relative_to(PACKAGE)
