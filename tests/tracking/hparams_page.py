"""What TensorBoard's own server, in this process, gives its HPARAMS page about the runs below a folder."""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins.base_plugin import TBContext
from werkzeug.test import Client

with warnings.catch_warnings():  # its copy of html5lib warns that it is outdated
    warnings.simplefilter("ignore", DeprecationWarning)
    from tensorboard.plugins.hparams.hparams_plugin import HParamsPlugin

_STATUSES = ("STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING")


@dataclass(frozen=True)
class Row:
    """One row of the page.

    Attributes:
        name: of the setting.
        parameters: its columns.
        metrics: the means over its trials.
        trials: run → status.
    """

    name: str
    parameters: dict[str, Any]
    metrics: dict[str, float]
    trials: dict[str, str]


@dataclass(frozen=True)
class Page:
    """The page: its columns, its metrics in their order, and its rows."""

    columns: list[str]
    metrics: list[str]
    rows: list[Row]

    @property
    def row(self) -> Row:
        """The only row."""
        (row,) = self.rows
        return row


def hparams_page(folder: Path) -> Page:
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(folder)).Reload()
    context = TBContext(data_provider=MultiplexerDataProvider(multiplexer, str(folder)), multiplexer=multiplexer)
    pages = HParamsPlugin(context).get_plugin_apps()
    experiment = _asked(pages["/experiment"], {"experimentName": ""})
    groups = _asked(
        pages["/session_groups"],
        {"startIndex": 0, "sliceSize": 100, "colParams": [], "allowedStatuses": _STATUSES},
    )
    return Page(
        [info["name"] for info in experiment.get("hparamInfos", [])],
        [info["name"]["tag"] for info in experiment.get("metricInfos", [])],
        [_row(group) for group in groups.get("sessionGroups", [])],
    )


def _asked(application: Any, question: dict[str, Any]) -> dict[str, Any]:
    response = Client(application).post("/", json=question)
    assert response.status_code == 200, response.data
    answer: dict[str, Any] = json.loads(response.data)
    return answer


def _row(group: dict[str, Any]) -> Row:
    return Row(
        group["name"],
        group["hparams"],
        {metric["name"]["tag"]: metric["value"] for metric in group.get("metricValues", [])},
        {trial["name"]: trial.get("status", "STATUS_UNKNOWN") for trial in group["sessions"]},
    )
