"""Records what the policy of a finished run does: ``python scripts/record.py outputs/mine --out mine.pt``."""

import sys

from bbrl_exp.commands.record import main

if __name__ == "__main__":
    sys.exit(main())
