"""Every test begins with the same random streams, whichever others ran before it in its process."""

import random

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def _same_streams() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
