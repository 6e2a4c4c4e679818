"""In which keys two configurations differ, as a user would type them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bbrl_exp.config.compose import written_key
from bbrl_exp.settings import value_at

_ABSENT = object()


def typed_keys(
    keys: Iterable[str],
    one: Mapping[str, Any],
    other: Mapping[str, Any],
    groups: Iterable[str] = (),
) -> list[str]:
    """The keys from which the differences of two configurations follow, short ones first.

    ``agent.members.env.batch_size`` becomes ``batch_size``; a key whose value is computed from others, such as
    ``env.agent._target_``, is left out, as those others are among the keys.

    Args:
        keys: dotted, at which the configurations differ once they are resolved.
        one: a configuration as it is written, see :func:`~bbrl_exp.config.compose.written`.
        other: likewise.
        groups: those of which the configurations have different options: what is below them is named by the group.
    """
    found: dict[str, None] = {}
    for key in keys:
        places = [(each, written_key(each, key)) for each in (one, other)]
        place = next((place for each, place in places if value_at(each, place, _ABSENT) is not _ABSENT), key)
        if value_at(one, place, _ABSENT) != value_at(other, place, _ABSENT):
            group = place.partition(".")[0]
            found[group if group in groups else place] = None
    return sorted(found, key=lambda key: key.count(".")) or list(keys)
