"""Evaluates the policy of a finished run: ``python scripts/evaluate.py outputs/mine --animation mine.gif``."""

import sys

from bbrl_exp.commands.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
