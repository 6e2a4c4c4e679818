"""The sinks of a run, built from the nodes below ``tracking.sinks``."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bbrl_exp.config.check import CheckedRun
from bbrl_exp.config.graph import SINKS_KEY, with_written_key
from bbrl_exp.config.nodes import build
from bbrl_exp.config.targets import find_target
from bbrl_exp.errors import BbrlExpError, ConfigurationError
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
    sinks: dict[str, Sink] = {}
    for name, node in run.tracking.active_sinks.items():
        try:
            sinks[name] = _build_sink(node, f"{SINKS_KEY}.{name}")
        except ConfigurationError as error:
            raise with_written_key(error, run.written_key) from error
    return sinks


def _build_sink(node: Mapping[str, Any], key: str) -> Sink:
    from bbrl_exp.tracking.background import UnavailableSink, built_in_time
    from bbrl_exp.tracking.sink import LocalSink

    construct = functools.partial(build, node, key, lambda target: {})
    if issubclass(find_target(node["_target_"], f"{key}._target_"), LocalSink):
        sink: Sink = construct()
        return sink
    try:
        with untouched_global_generators():
            sink = built_in_time(construct)
            try:
                _ = sink.wants_workspace  # may be a property
            except Exception as error:
                return UnavailableSink(error)
            return sink
    except BbrlExpError as error:
        cause = error.__cause__ or error
        if isinstance(error, ConfigurationError) and isinstance(cause, (ConfigurationError, TypeError, ValueError)):
            raise
        return UnavailableSink(cause)
