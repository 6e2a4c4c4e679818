"""The results on the pages of ``docs/learners``: the rows of the table that are a learner's own, and the peer's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from learning_records import Record, env_of
from learning_table import rows

BEGIN, END = "<!-- results: written by benchmarks/learning.py -->", "<!-- end of results -->"
_PAGES = {"droq": "crossq", "discrete_sac": "sac"}


def page_of(pair: str) -> str:
    """The name of the page on which the agent of ``<agent>_<env>`` is described."""
    agent = pair.removesuffix(f"_{env_of(pair)}")
    return _PAGES.get(agent, agent)


def with_results(page: str, name: str, pairs: Sequence[str], records: Mapping[tuple[str, str, int], Record]) -> str:
    """A page with the newest results between the two marks; the text around them stays.

    Args:
        page: its text.
        name: the page's name, without ``.md``.
        pairs: all experiments.
        records: of everybody.

    Raises:
        ValueError: the marks are not there.
    """
    start, end = page.find(BEGIN), page.find(END)
    if start < 0 or end < start:
        raise ValueError(f"docs/learners/{name}.md: the marks {BEGIN} and {END} are not there")
    own = {key: record for key, record in records.items() if page_of(record.pair) == name and record.pair in pairs}
    of_page = [pair for pair in pairs if page_of(pair) == name]
    parts = [f"    OMP_NUM_THREADS=1 python benchmarks/learning.py {' '.join(of_page)}"]
    if own:
        parts += [rows(own), "The columns are explained below [the whole table](../../benchmarks/results/learning.md)."]
    missing = [pair.replace("_", " ") for pair in of_page if pair not in {record.pair for record in own.values()}]
    if missing:
        parts.append(f"Not measured yet: {', '.join(missing)}.")
    return "\n\n".join([f"{page[:start]}{BEGIN}", *parts, page[end:]])
