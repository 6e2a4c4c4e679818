"""BBRL's names on this project's core: after :func:`install`, programs written for BBRL run here.

    from bbrl_exp import compat

    compat.install()
    from bbrl.agents import Agents, TemporalAgent      # and everything else that docs/migration.md lists

``bbrl_utils``, the helpers of BBRL's notebooks, is offered too, unless the package itself is installed: it runs
unmodified. Nothing in this project imports this package.
"""

from bbrl_exp.compat.imports import install, uninstall

__all__ = ["install", "uninstall"]
