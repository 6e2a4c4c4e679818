"""Packages that only some features need: what is said where one is not installed."""

from __future__ import annotations

import importlib
from typing import Any

from bbrl_exp.errors import ConfigurationError


def module_of_extra(module: str, extra: str, what: str) -> Any:
    """Imports a module of a package that an extra installs.

    Args:
        module: its dotted name.
        extra: of bbrl_exp.
        what: what needs it, for the message.

    Raises:
        ConfigurationError: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise ConfigurationError(
            f"{what} needs the extra '{extra}', which is not installed: pip install \"bbrl_exp[{extra}]\""
        ) from error
