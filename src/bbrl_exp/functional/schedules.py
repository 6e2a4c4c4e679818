"""Values that change during a run, by the fraction of it that is done."""

from __future__ import annotations


def linear(start: float, end: float, fraction: float) -> float:
    """From ``start`` at 0 to ``end`` at 1; constant outside.

    Args:
        start: first value.
        end: last value.
        fraction: the fraction of the run that is done.
    """
    done = min(max(fraction, 0.0), 1.0)
    return (1.0 - done) * start + done * end


def linear_until(start: float, end: float, fraction: float, until: float) -> float:
    """From ``start`` at 0 to ``end`` when the fraction ``until`` of the run is done, and ``end`` from then on.

    Args:
        start: first value.
        end: last value.
        fraction: the fraction of the run that is done.
        until: the fraction of the run in which the value changes; 0 for ``end`` from the beginning.
    """
    return end if fraction >= until else linear(start, end, fraction / until)


def completes_period(number: int, period: float) -> bool:
    """Whether an event is the first one at or after a multiple of ``period``.

    Args:
        number: which of the events it is, counted from 1.
        period: in events, not necessarily whole; at most 1 makes it true of all.
    """
    return number // period > (number - 1) // period
