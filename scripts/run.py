"""Runs one experiment, or with ``-m`` a sweep: ``python scripts/run.py agent=random env=cartpole``."""

import sys

from bbrl_exp.commands.run import main

if __name__ == "__main__":
    sys.exit(main())
