"""Compares the settings of sweeps and runs: ``python scripts/report.py outputs/multirun/mine``."""

import sys

from bbrl_exp.commands.report import main

if __name__ == "__main__":
    sys.exit(main())
