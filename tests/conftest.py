"""Every test begins with the same random streams, whichever others ran before it in its process, and on one thread.

As runs do by default: where several processes test at once, threads that wait for each other take most of the time.
"""

import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent / "prepared"))

import prepared

prepared.fork_children()
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _same_streams() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
