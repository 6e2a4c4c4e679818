"""Makes ``import bbrl`` find this package: modules by BBRL's names, whose attributes are loaded when they are used."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from bbrl_exp.compat.names import LEFT_OUT, MODULES
from bbrl_exp.errors import ConfigurationError

_PAGE = "docs/migration.md"


class LeftOutError(ConfigurationError, ImportError):
    """A name of BBRL that is left out; the message says what to use instead."""


class _Loader(importlib.abc.Loader):
    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        name, homes = module.__name__, MODULES[module.__name__]

        def load(attribute: str) -> Any:
            if attribute in homes:
                home, _, other_name = homes[attribute].partition(":")
                value = getattr(importlib.import_module(f"bbrl_exp.compat.{home}"), other_name or attribute)
                setattr(module, attribute, value)
                return value
            refuse_left_out(f"{name}.{attribute}")
            raise AttributeError(f"module '{name}' has no attribute '{attribute}' here; see {_PAGE}")

        module.__doc__ = f"BBRL's {name}, offered by bbrl_exp.compat."
        module.__dict__["__getattr__"] = load
        module.__dict__["__dir__"] = lambda: sorted(homes)
        module.__dict__["__all__"] = sorted(attribute for attribute in homes if not attribute.startswith("_"))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of a package of BBRL.

    Args:
        package: ``bbrl`` or ``bbrl_utils``.
    """

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] != self.package:
            return None
        if fullname in MODULES:
            is_package = any(name.startswith(f"{fullname}.") for name in MODULES)
            return importlib.machinery.ModuleSpec(fullname, _Loader(), origin="bbrl_exp.compat", is_package=is_package)
        refuse_left_out(fullname)
        return None


def refuse_left_out(name: str) -> None:
    """Refuses a name that is left out.

    Raises:
        LeftOutError: the name, and what to use instead.
    """
    if name in LEFT_OUT:
        raise LeftOutError(f"{name} is not in bbrl_exp.compat: {LEFT_OUT[name]}; see {_PAGE}")


def install() -> None:
    """Makes ``import bbrl`` and, unless it is installed, ``import bbrl_utils`` find this package.

    May be called again.

    Raises:
        ConfigurationError: BBRL itself has been imported.
    """
    loaded = sys.modules.get("bbrl")
    if loaded is not None and not _is_ours(loaded):
        where = getattr(loaded, "__file__", None) or "it"
        raise ConfigurationError(
            f"bbrl_exp.compat.install(): BBRL itself has been imported, from {where}; "
            "call install() before the first import of bbrl"
        )
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    # An installed bbrl is hidden, so that all parts of a program use the same one; an installed bbrl_utils is used.
    sys.meta_path.insert(0, _Finder("bbrl"))
    sys.meta_path.append(_Finder("bbrl_utils"))


def uninstall() -> None:
    """Undoes :func:`install`: later imports of ``bbrl`` find BBRL itself, or nothing."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]
    for name in [name for name, module in sys.modules.items() if _is_ours(module)]:
        del sys.modules[name]


def _is_ours(module: ModuleType) -> bool:
    spec = getattr(module, "__spec__", None)
    return spec is not None and isinstance(spec.loader, _Loader)
