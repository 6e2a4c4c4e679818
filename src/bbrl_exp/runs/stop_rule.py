"""When a run ends before ``total_steps``, as ``stop_when`` says: a matter of its evaluations and its time alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bbrl_exp.config.schema import ACTING, BOTH, StopSettings

if TYPE_CHECKING:
    from bbrl_exp.config.check import CheckedRun

_SECONDS = 60.0


@dataclass(frozen=True)
class StopRule:
    """The keys below ``stop_when``; any of them ends the run.

    Attributes:
        settings: the keys.
        measures_both: whether the evaluations are by the most likely actions and by drawn ones.
    """

    settings: StopSettings
    measures_both: bool = False

    @classmethod
    def of(cls, run: CheckedRun) -> StopRule:
        """The rule of a run."""
        return cls(StopSettings(**(run.root.stop_when or {})), run.root.eval["policy"] == BOTH)

    @property
    def most_seconds(self) -> float | None:
        """How long the run may take, None for no limit."""
        minutes = self.settings.wall_minutes
        return None if minutes is None else _SECONDS * minutes

    @property
    def in_words(self) -> str | None:
        """When the run ends before its end, None where it does not."""
        stop, parts = self.settings, []
        if stop.at_least is not None:
            often = f" in {stop.evaluations:,} evaluations in a row" if stop.evaluations > 1 else ""
            parts.append(f"{stop.metric} is at least {stop.at_least:g}{often}")
        if stop.no_improvement is not None:
            parts.append(f"{stop.metric} has not improved in {_evaluations(stop.no_improvement)}")
        if stop.wall_minutes is not None:
            parts.append(f"{_minutes(stop.wall_minutes)} over")
        return " or ".join(parts) or None

    def reason(self, evaluations: Sequence[Mapping[str, Any]], wall_seconds: float) -> str | None:
        """Why a run ends that was evaluated so and has taken so long; None where it does not.

        Args:
            evaluations: those along the run, as in ``summary.json``.
            wall_seconds: of all its sessions.
        """
        found = self._reason(evaluations, wall_seconds)
        return None if found is None else f"{found} (stop_when)"

    def _reason(self, evaluations: Sequence[Mapping[str, Any]], wall_seconds: float) -> str | None:
        stop = self.settings
        measured = [each for each in evaluations if each.get(self._key) is not None]
        values = [float(each[self._key]) for each in measured]
        newest = values[-stop.evaluations :]
        if stop.at_least is not None and len(newest) == stop.evaluations and min(newest) >= stop.at_least:
            if stop.evaluations == 1:
                return f"{stop.metric} of {newest[0]:.4g} is at least {stop.at_least:g}"
            return f"{stop.metric} was at least {stop.at_least:g} in {stop.evaluations:,} evaluations in a row"
        if stop.no_improvement is not None and values:
            best = values.index(max(values))
            if len(values) - 1 - best >= stop.no_improvement:
                return (
                    f"{stop.metric} has not improved in {_evaluations(stop.no_improvement)}: the best was "
                    f"{values[best]:.4g} at {measured[best]['env_steps']:,} environment steps"
                )
        if stop.wall_minutes is not None and wall_seconds >= _SECONDS * stop.wall_minutes:
            return f"{_minutes(stop.wall_minutes)} over"
        return None

    @property
    def _key(self) -> str:
        """The metric in an evaluation's entry, which names a way of acting only where there are two."""
        key = self.settings.metric.removeprefix("eval_")
        if self.measures_both:
            return key
        return next((key.removeprefix(f"{each}_") for each in ACTING if key.startswith(f"{each}_")), key)


def _evaluations(count: int) -> str:
    return f"{count:,} evaluation{'s' if count > 1 else ''}"


def _minutes(count: float) -> str:
    return f"{count:g} minute is" if count == 1 else f"{count:g} minutes are"
