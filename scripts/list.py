"""Lists agents, environments, experiments, …: ``python scripts/list.py [group]``; ``agent ppo``: what PPO takes."""

import sys

from bbrl_exp.commands.list import main

if __name__ == "__main__":
    sys.exit(main())
