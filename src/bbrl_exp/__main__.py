"""``python -m bbrl_exp <command>``: the same as ``bbrl-exp <command>``."""

import os
import sys

if __name__ == "__main__":
    if sys.path[:1] == [os.getcwd()]:  # added by -m: a module there is imported only if the user asks for it
        del sys.path[0]
    from bbrl_exp.commands.main import main

    sys.exit(main())
