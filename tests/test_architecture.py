"""The floors of the house: imports go down only, siblings do not know each other, heavy libraries have one room."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "bbrl_exp"

# From the ground up; rooms on one floor are siblings.
FLOORS = [
    {"errors"},
    {"seeding", "processes", "arguments", "command_line", "memory"},
    {"variable"},
    {"workspace"},
    {"functional", "nn"},
    {"agents"},
    {"data", "envs"},
    {"policies"},
    {"learners"},
    {"training", "tracking", "reports"},
    {"app"},
]
HEIGHT = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}

# BBRL programs import the environment agents from bbrl.agents.gyma.
EXCEPTIONS = {("agents/gyma.py", "envs")}

ONLY_IN = {
    "hydra": {"app"},
    "omegaconf": {"app"},
    "tensorboard": {"tracking"},
    "gymnasium": {"envs"},
}

FILES = sorted(path for path in PACKAGE.rglob("*.py"))


def imported_modules(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        return
    for module in imported_modules(path):
        parts = module.split(".")
        assert module != "bbrl_exp", f"{path.name} imports the package's own public names"
        if parts[0] != "bbrl_exp" or parts[1] not in HEIGHT:
            continue
        other = parts[1]
        if other != room and (str(path.relative_to(PACKAGE).as_posix()), other) not in EXCEPTIONS:
            assert HEIGHT[other] < HEIGHT[room], f"{path.name} in {room} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_libraries_stay_in_their_rooms(path: Path) -> None:
    for module in imported_modules(path):
        allowed = ONLY_IN.get(module.split(".")[0])
        assert allowed is None or room_of(path) in allowed, f"{path.relative_to(PACKAGE)} imports {module}"


def test_every_room_has_a_floor() -> None:
    rooms = {room_of(path) for path in FILES} - {"__init__"}
    assert rooms <= set(HEIGHT)
