"""Runs one experiment, or with ``-m`` a sweep: ``python scripts/run.py agent=random env=cartpole``."""

import sys

from bbrl_exp.app.run import main

if __name__ == "__main__":
    sys.exit(main())
