"""Every test here imports ``bbrl``, which is found in ``bbrl_exp.compat``."""

from bbrl_exp import compat

compat.install()
