"""What a tracker holds of a run, read from its own files, to be compared with ``metrics.csv``."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bbrl_exp.tracking.wandb_files import records

Point = tuple[int, str, float]


@dataclass
class RemoteRecords:
    """A run in a tracker: numbers as a multiset, names of pictures, and what the tracker was told of the run."""

    points: Counter[Point] = field(default_factory=Counter)
    pictures: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    about: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)


def local(folder: Path) -> Counter[Point]:
    """The numbers in ``metrics.csv``."""
    with (folder / "metrics.csv").open(newline="") as file:
        return Counter((int(row["env_steps"]), row["name"], float(row["value"])) for row in csv.DictReader(file))


def of_wandb(place: Path) -> RemoteRecords:
    """The offline files of one run below the folder ``wandb`` of ``place``, all sessions together."""
    found = RemoteRecords()
    steps = []
    for path in sorted(place.glob("wandb/offline-run-*/run-*.wandb")):
        for record in records(path.read_bytes()):
            if record.HasField("run"):
                run = record.run
                found.ids.add(run.run_id)
                config = {item.key: json.loads(item.value_json) for item in run.config.update}
                found.about = {"name": run.display_name, "group": run.run_group, "project": run.project}
                found.about |= {"tags": list(run.tags), "config": config}
            elif record.HasField("history"):
                row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
                steps.append(row["_step"])
                for name, value in row.items():
                    if name == "variables":
                        assert list(path.parent.glob("files/media/images/variables_*.png"))
                        found.pictures.append(name)
                    elif name != "env_steps" and not name.startswith("_"):
                        found.points[row["env_steps"], name, float(value)] += 1
            elif record.HasField("summary"):
                values = record.summary.update
                found.summary |= {each.key or each.nested_key[0]: json.loads(each.value_json) for each in values}
    assert steps == list(range(len(steps)))
    return found


def of_trackio(place: Path, run_id: str | None = None, project: str = "bbrl_exp") -> RemoteRecords:
    """A run in the database in ``place``, the only one unless its id is given."""
    found = RemoteRecords()
    connection = sqlite3.connect(place / f"{project}.db")
    try:
        rows = connection.execute("SELECT run_id, run_name, step, metrics FROM metrics ORDER BY id").fetchall()
        configs = dict(connection.execute("SELECT run_id, config FROM configs").fetchall())
    finally:
        connection.close()
    for of, name, step, metrics in rows:
        if run_id not in (None, of):
            continue
        found.ids.add(of)
        config = json.loads(configs[of])
        found.about = {"name": name, "group": config["_Group"], "project": project}
        found.about |= {"tags": config["tags"], "config": config}
        for key, value in json.loads(metrics).items():
            if isinstance(value, dict):
                assert (place / "media" / value["file_path"]).read_bytes()[:4] == b"\x89PNG"
                found.pictures.append(key)
            elif key.startswith("final/"):
                assert key not in found.summary
                found.summary[key.removeprefix("final/")] = value
            else:
                found.points[step, key, float(value)] += 1
    return found
