"""Runs a run again from the configuration in its folder: ``python scripts/rerun.py outputs/mine seed=1``."""

import sys

from bbrl_exp.commands.rerun import main

if __name__ == "__main__":
    sys.exit(main())
