"""Classes named by ``_target_``: which may be named, and where they are.

A configuration may come from anywhere, so a target is a class of this project's agents, environments, policies and
networks, of ``torch.nn`` or ``torch.optim``, of the wrappers of ``gymnasium``, ``minigrid`` and ``popgym``, or of a
package that the user allows by ``BBRL_EXP_ALLOW=mypackage,other`` or ``[tool.bbrl_exp]``, and it is of the kind that is
needed there. Nothing is imported before every target of the whole configuration has been found to be allowed.
"""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import re
import types
from collections.abc import Sequence
from typing import Any, Literal

from bbrl_exp.config.project import FILE, TABLE, current_project
from bbrl_exp.errors import ConfigurationError, described, did_you_mean, ends_silently
from bbrl_exp.settings import shown

ALLOW_VARIABLE = "BBRL_EXP_ALLOW"
_OWN_PREFIXES = (
    *(f"bbrl_exp.{package}" for package in ("agents", "envs", "policies", "nn", "functional", "learners", "tracking")),
    "torch.nn",
    "torch.optim",
    "gymnasium.wrappers",
    "minigrid.wrappers",  # of the plug-ins whose environments need no permission either
    "popgym.wrappers",
)
_WITH_SIDE_EFFECTS = {"RecordVideo": "it writes files", "HumanRendering": "it opens windows"}
NodeKind = Literal[
    "member", "environment", "wrapper", "learner", "argument", "optimizer", "schedule", "network", "cell", "sink"
]
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def allowed_packages() -> tuple[str, ...]:
    """The user's packages: those of ``BBRL_EXP_ALLOW``, then those of the project in effect."""
    named = [name.strip() for name in os.environ.get(ALLOW_VARIABLE, "").split(",") if name.strip()]
    project = current_project()
    return tuple(dict.fromkeys([*named, *(project.allow if project else ())]))


def import_allowed_packages() -> None:
    """Imports the user's packages, so that the environments they register are known.

    Raises:
        ConfigurationError: one of them cannot be imported.
    """
    for package in allowed_packages():
        try:
            importlib.import_module(package)
        except BaseException as error:
            where = f"{_allowed_by(package)} names '{package}'"
            raise _import_refusal(error, f"{where}, which cannot be imported") from error


def _allowed_by(package: str) -> str:
    """Where the user allows a package."""
    project = current_project()
    return f"{FILE}: key '{TABLE}.allow'" if project and package in project.allow else ALLOW_VARIABLE


def check_prefix(target: object, key: str) -> tuple[str, ...]:
    """Refuses a target that is not of an allowed package; imports nothing. Gives the allowed packages.

    Raises:
        ConfigurationError: it is no dotted name, or is not allowed.
    """
    where = f"key '{key}' = {shown(target)}"
    if not isinstance(target, str) or _DOTTED.fullmatch(target) is None:
        raise ConfigurationError(f"{where}: must be the dotted name of a class")
    prefixes = (*_OWN_PREFIXES, *allowed_packages())
    if not _is_below(target, prefixes):
        raise ConfigurationError(
            f"{where}: not allowed; a target is a class below {', '.join(prefixes)}; "
            f"allow your own package by {ALLOW_VARIABLE}=<package>, or by allow in [{TABLE}] of {FILE}"
        )
    return prefixes


def find_target(target: object, key: str) -> type[Any]:
    """The class that ``target``, the value at ``key``, names.

    Raises:
        ConfigurationError: it is no class, is not there, or is not allowed.
    """
    where = f"key '{key}' = {shown(target)}"
    prefixes = check_prefix(target, key)
    assert isinstance(target, str)
    module, length = _import_start(target, where)
    found: object = module
    for name in target.split(".")[length:]:
        try:
            owner, found = found, None if name.startswith("_") else getattr(found, name, None)
        except ImportError as error:  # a name of BBRL, and what to use instead
            raise ConfigurationError(f"{where}: {error}") from None
        if found is None:
            raise ConfigurationError(f"{where}: there is no '{name}' there{did_you_mean(name, _public_names(owner))}")
    if not isinstance(found, type):
        raise ConfigurationError(f"{where}: must be a class, and is a {type(found).__name__}")
    if not _is_below(f"{found.__module__}.{found.__name__}", prefixes):
        raise ConfigurationError(f"{where}: not allowed; it is {found.__module__}.{found.__name__}")
    return found


def check_kind(target: type[Any], kind: NodeKind, where: str) -> None:
    """Refuses a class that is not of the kind that is needed.

    Raises:
        ConfigurationError: a class of another kind, a wrapper that shows or records, a network without a parameter
            ``input_shape``, a cell without a parameter ``n_inputs``, an argument that is neither a module of torch nor
            of the user's own package.
    """
    from torch import nn, optim

    from bbrl_exp.agents.agent import Agent
    from bbrl_exp.envs.environment_agent import EnvironmentAgent
    from bbrl_exp.functional.schedules import Schedule
    from bbrl_exp.learners.learner import Learner
    from bbrl_exp.nn.cell import Cell
    from bbrl_exp.tracking.sink import Sink

    bases: dict[NodeKind, tuple[type[Any], str]] = {
        "environment": (EnvironmentAgent, "an EnvironmentAgent"),
        "member": (Agent, "an Agent"),
        "learner": (Learner, "a Learner"),
        "optimizer": (optim.Optimizer, "a torch.optim.Optimizer"),
        "sink": (Sink, "a Sink"),
    }
    if kind == "wrapper":
        if not is_wrapper(target):
            raise ConfigurationError(f"{where}: must be a gymnasium.Wrapper")
        if target.__module__.startswith("gymnasium.") and target.__name__ in _WITH_SIDE_EFFECTS:
            raise ConfigurationError(f"{where}: not allowed, {_WITH_SIDE_EFFECTS[target.__name__]}")
    elif kind == "network":
        if not issubclass(target, nn.Module) or "input_shape" not in inspect.signature(target).parameters:
            raise ConfigurationError(f"{where}: must be a torch.nn.Module with a parameter input_shape")
    elif kind == "cell":
        if not issubclass(target, Cell) or "n_inputs" not in inspect.signature(target).parameters:
            raise ConfigurationError(f"{where}: must be a bbrl_exp.nn.cell.Cell with a parameter n_inputs")
    elif kind in bases:
        base, named = bases[kind]
        if not issubclass(target, base):
            raise ConfigurationError(f"{where}: must be {named}")
    elif kind == "schedule":
        if not issubclass(target, Schedule):
            raise ConfigurationError(f"{where}: must be a schedule, with a method value_at(env_steps, total_steps)")
    elif not issubclass(target, nn.Module) and not _is_below(f"{target.__module__}.", allowed_packages()):
        raise ConfigurationError(f"{where}: must be an Agent or a torch.nn.Module")


def is_wrapper(target: type[Any]) -> bool:
    """Whether ``target`` is a wrapper of gymnasium environments."""
    return any(base.__module__ == "gymnasium.core" and base.__name__ == "Wrapper" for base in target.__mro__)


def _is_below(name: str, prefixes: Sequence[str]) -> bool:
    return any(name.startswith(f"{prefix}.") for prefix in prefixes)


def _public_names(owner: object) -> list[str]:
    names = [name for name in dir(owner) if not name.startswith("_")]
    if isinstance(owner, types.ModuleType):
        names += [module.name for module in pkgutil.iter_modules(getattr(owner, "__path__", []))]
    return names


def _import_refusal(error: BaseException, what: str) -> BaseException:
    """The error of a module that cannot be imported, also where it ends the process; a real Ctrl-C stays what it is."""
    if not isinstance(error, Exception) and not ends_silently(error):
        return error
    return ConfigurationError(f"{what}: {described(error)}")


def _import_start(target: str, where: str) -> tuple[types.ModuleType, int]:
    """Imports the longest start of ``target`` that is a module; gives it and the number of its names."""
    parts = target.split(".")
    module: types.ModuleType | None = None
    for length in range(1, len(parts)):
        name = ".".join(parts[:length])
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise ConfigurationError(f"{where}: {name} needs the package '{error.name}', not installed") from error
            if module is None:
                raise ConfigurationError(f"{where}: there is no package '{name}'") from error
            return module, length - 1
        except BaseException as error:
            raise _import_refusal(error, f"{where}: {name} cannot be imported") from error
    assert module is not None
    return module, len(parts) - 1
