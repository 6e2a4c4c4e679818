"""The sinks of a run, built from the nodes below ``tracking.sinks``."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from bbrl_exp.config.check import CheckedRun
from bbrl_exp.config.graph import SINKS_KEY, with_written_key
from bbrl_exp.config.nodes import build
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.seeding import untouched_global_generators

if TYPE_CHECKING:
    from bbrl_exp.tracking.sink import Sink


def build_sinks(run: CheckedRun) -> dict[str, Sink]:
    """The sinks that are on, by name.

    A constructor that fails otherwise than by refusing its arguments, or takes too long, makes a sink that fails when
    it starts: a run does not depend on a network or a login.

    Raises:
        ConfigurationError: a sink refuses its arguments.
    """
    from bbrl_exp.tracking.background import UnavailableSink, built_in_time

    sinks: dict[str, Sink] = {}
    for name, node in run.tracking.active_sinks.items():
        key = f"{SINKS_KEY}.{name}"
        try:
            with untouched_global_generators():
                sinks[name] = built_in_time(functools.partial(build, node, key, lambda target: {}))
        except ConfigurationError as error:
            cause = error.__cause__
            if cause is not None and not isinstance(cause, ConfigurationError | TypeError | ValueError):
                sinks[name] = UnavailableSink(cause)
            else:
                raise with_written_key(error, run.written_key) from error
        except Exception as error:  # of the tree of this project, but no refusal
            sinks[name] = UnavailableSink(error)
    return sinks
