"""What an agent writes at a step, in the form that :meth:`bbrl_exp.agents.agent.Agent.write_rows` takes."""

from __future__ import annotations

from collections.abc import Mapping

from bbrl_exp.workspace import RowFacts

Facts = Mapping[str, tuple[tuple[int, ...], str]]


class RowsByBatchSize(dict[tuple[str, int], RowFacts]):
    """Shapes and dtypes of rows, ``rows[prefix, batch_size]``: the same object for the same agent and batch size.

    Args:
        facts: variable → (shape of one environment's value, numpy name of its dtype).
    """

    def __init__(self, facts: Facts) -> None:
        super().__init__()
        self._facts = facts

    def __missing__(self, key: tuple[str, int]) -> RowFacts:
        prefix, batch_size = key
        rows = {prefix + name: ((batch_size, *shape), dtype) for name, (shape, dtype) in self._facts.items()}
        self[key] = rows
        return rows
