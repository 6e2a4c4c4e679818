"""Makes ``remote_toys`` importable, also in other processes, which get this process's ``sys.path``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
