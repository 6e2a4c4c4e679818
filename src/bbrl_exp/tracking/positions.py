"""Where the records of a run are at a checkpoint."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bbrl_exp.records.layout import METRICS


def new_run_id() -> str:
    """Sixteen hexadecimal digits, of the system's own generator: no random stream of the run is touched."""
    return secrets.token_hex(8)


@dataclass(frozen=True)
class Positions:
    """Where the sinks are, and what the clock shows.

    Attributes:
        sinks: the position of each by its name; None for one that has none.
        run_id: of the run, kept when it resumes.
        seconds: on the clock, at the last measurement of speed.
    """

    sinks: Mapping[str, Any] = field(default_factory=dict)
    run_id: str = field(default_factory=new_run_id)
    seconds: float = 0.0

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> Positions:
        """What :meth:`saved` gave, also in a checkpoint of version 0.1.0."""
        if "sinks" in saved:
            return cls(**saved)
        there = {} if saved["csv"] is None else {"csv": (METRICS, saved["csv"])}
        there |= {} if saved["events"] is None else {"tensorboard": tuple(saved["events"])}
        return cls(there, seconds=saved["seconds_at_last_speed"])

    def saved(self) -> dict[str, Any]:
        """As plain Python."""
        return {"sinks": dict(self.sinks), "run_id": self.run_id, "seconds": self.seconds}

    @property
    def files(self) -> set[str]:
        """The names of the files that the positions are in: a file's position is its name and its length."""
        pairs = (position for position in self.sinks.values() if isinstance(position, tuple) and len(position) == 2)
        return {name for name, length in pairs if isinstance(name, str)}
