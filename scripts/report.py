"""Compares the settings of sweeps and runs: ``python scripts/report.py outputs/multirun/mine``."""

import sys

from bbrl_exp.reports.command import main

if __name__ == "__main__":
    sys.exit(main())
