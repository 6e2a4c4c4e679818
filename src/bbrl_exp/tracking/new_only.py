"""Which records a tracker does not have yet, by counting those of each name at each step."""

from __future__ import annotations

from array import array
from bisect import bisect_right, insort
from collections.abc import Iterable


class NewOnly:
    """Leaves out what a tracker has already; whatever is missing, in the middle too, is new.

    The records of one name come in the order of their steps, and always in the same order at one step. So the number
    of records that the tracker has of a name at a step says which of them are new. A record takes 8 bytes.
    """

    def __init__(self) -> None:
        self._known: dict[str, array[int]] = {}  # name -> the steps of its records, in ascending order
        self._met: dict[str, tuple[int, int]] = {}  # name -> the last step, and the number of records met there

    def add(self, env_steps: int, names: Iterable[str]) -> None:
        """Notes records that the tracker has."""
        for name in names:
            steps = self._steps_of(name)
            if not steps or env_steps >= steps[-1]:
                steps.append(env_steps)
            else:
                insort(steps, env_steps)

    def is_new(self, env_steps: int, name: str) -> bool:
        """Whether a record is new, which it no longer is after the call."""
        last, count = self._met.get(name, (-1, 0))
        count = count + 1 if env_steps == last else 1
        self._met[name] = env_steps, count
        steps = self._steps_of(name)
        end = bisect_right(steps, env_steps)
        if end >= count and steps[end - count] == env_steps:
            return False
        steps.insert(end, env_steps)
        return True

    def restart(self) -> None:
        """The records will come again, from any step on."""
        self._met.clear()

    def _steps_of(self, name: str) -> array[int]:
        steps = self._known.get(name)
        if steps is None:
            steps = self._known[name] = array("q")
        return steps
