"""``python -m bbrl_exp.compat <program> [arguments]``: runs a program written for BBRL, unchanged."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from bbrl_exp.compat.imports import install
from bbrl_exp.errors import ConfigurationError


def main(arguments: list[str]) -> None:
    """Runs the program that the first argument names, with the others, as ``python <program>`` would."""
    if not arguments or not Path(arguments[0]).is_file():
        found = f"'{arguments[0]}': no such file" if arguments else "no program given"
        sys.exit(_refusal(f"{found}; usage: python -m bbrl_exp.compat <program> [arguments]"))
    try:
        install()
    except ConfigurationError as error:
        sys.exit(_refusal(str(error)))
    sys.argv[:] = arguments
    sys.path.insert(0, str(Path(arguments[0]).resolve().parent))
    runpy.run_path(arguments[0], run_name="__main__")


def _refusal(message: str) -> int:
    sys.stderr.write(f"{message}\n")
    return ConfigurationError.exit_code


if __name__ == "__main__":
    main(sys.argv[1:])
