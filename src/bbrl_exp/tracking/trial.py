"""What TensorBoard's HPARAMS page needs to know of a run before it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Parameter = bool | int | float | str


@dataclass(frozen=True)
class Trial:
    """A run as one trial of a setting.

    Attributes:
        parameters: what the run was asked, flat: one column of the page each.
        setting: equal for runs that differ in their seed alone: the page shows the mean of these in one row.
    """

    parameters: Mapping[str, Parameter]
    setting: str
