"""BBRL's logger: what TensorBoard reads, and the files beside it."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from bbrl import instantiate_class
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bbrl_exp.errors import ConfigurationError


def logger_in(folder: Path, **options: object) -> object:
    settings = {"classname": "bbrl.utils.logger.TFLogger", "log_dir": str(folder / "logs"), "cache_size": 10000}
    return instantiate_class({**settings, "every_n_seconds": 10, "verbose": False, **options})


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder / "logs")).Reload()


def test_numbers_are_read_by_tensorboard_and_are_in_a_table(tmp_path: Path) -> None:
    logger = logger_in(tmp_path, modulo=10)
    logger.add_scalar("loss", 0.5, 11)
    logger.add_scalar("loss", 7.0, 19)
    logger.add_scalar("loss", torch.tensor(0.25), 20)
    logger.add_scalar("early", 1.5, -20)
    logger.add_scalars("reward", {"mean": 1, "max": np.float64(2)}, 20)
    logger.get_logger("eval/").get_logger("late/").add_scalar("reward", 3.0, 30)
    logger.close()
    events = read(tmp_path)
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(10, 0.5), (20, 0.25)]
    assert (events.Scalars("early")[0].step, events.Scalars("early")[0].value) == (-20, 1.5)
    assert set(events.Tags()["scalars"]) == {"loss", "early", "reward/mean", "reward/max", "eval/late/reward"}
    with (tmp_path / "logs" / "scalars.csv").open(encoding="utf-8") as file:
        assert list(csv.reader(file))[:3] == [
            ["name", "iteration", "value"],
            ["loss", "10", "0.5"],
            ["loss", "20", "0.25"],
        ]
    assert (tmp_path / "logs" / "done").exists()
    assert not list((tmp_path / "logs").glob("*pickle*"))


def test_hyperparameters_texts_and_histograms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logger = logger_in(tmp_path)
    logger.save_hps(OmegaConf.create({"algorithm": {"seed": 1, "sizes": [64, 64]}}))
    logger.add_text("note", "hello")
    logger.add_histogram("returns", torch.arange(10.0), 3)
    logger.close()
    assert json.loads((tmp_path / "logs" / "params.json").read_text())["algorithm"]["seed"] == 1
    assert '"seed": 1' in capsys.readouterr().out
    events = read(tmp_path)
    assert events.Histograms("returns")[0].histogram_value.num == 10
    assert len(events.Tags()["tensors"]) == 2


def test_pictures_and_videos(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    logger = logger_in(tmp_path)
    figure = Figure(figsize=(2, 1), dpi=50)
    figure.subplots().plot([1, 2])
    logger.add_figure("curve", figure, 1)
    logger.add_images("two", torch.rand(2, 3, 8, 6), 1)
    logger.add_image("grey", torch.zeros(1, 8, 6, dtype=torch.uint8), 1)
    logger.add_video("film", torch.zeros(1, 4, 3, 8, 6, dtype=torch.uint8), 1)
    logger.close()
    events = read(tmp_path)
    sizes = {tag: (events.Images(tag)[0].width, events.Images(tag)[0].height) for tag in events.Tags()["images"]}
    assert sizes == {"curve": (100, 50), "two": (12, 8), "grey": (6, 8), "film": (6, 8)}
    assert events.Images("film")[0].encoded_image_string.startswith(b"GIF8")


def test_numbers_are_sent_to_weights_and_biases(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def called(name: str) -> object:
        return lambda *args, **kwargs: calls.append((name, args, kwargs))

    run = SimpleNamespace(config=SimpleNamespace(update=called("config")), log=called("log"), finish=called("finish"))
    fake = SimpleNamespace(init=lambda **kwargs: calls.append(("init", (), kwargs)) or run)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    settings = {"classname": "bbrl.utils.logger.WandbLogger", "project": "labs", "tags": "dqn_1", "log_dir": "unused"}
    logger = instantiate_class(settings)
    logger.save_hps(OmegaConf.create({"seed": 1}), verbose=False)
    logger.get_logger("eval/").add_scalar("loss", 0.5, 3)
    logger.close()
    assert calls == [
        ("init", (), {"project": "labs", "group": None, "job_type": None, "tags": ["dqn", "1"]}),
        ("config", ({"seed": 1},), {}),
        ("log", ({"loss": 0.5, "iteration": 3},), {"commit": True}),
        ("finish", (), {"exit_code": 0}),
    ]


def test_two_loggers_may_share_a_folder(tmp_path: Path) -> None:
    for step in range(2):
        logger = logger_in(tmp_path, hps={"a": 1})
        logger.add_scalar("loss", 1.0, step)
        logger.message("hello")
        logger.close()
    assert len(list((tmp_path / "logs").glob("events.*"))) == 2


def test_without_tensorboard_only_the_table_is_written(tmp_path: Path) -> None:
    logger = logger_in(tmp_path, save_tensorboard=False)
    logger.add_scalar("loss", 1.0, 0)
    logger.close()
    assert not list((tmp_path / "logs").glob("events.*"))


def test_what_is_not_one_number_is_refused(tmp_path: Path) -> None:
    logger = logger_in(tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        logger.add_scalar("loss", torch.ones(2), 0)
    logger.close()
    assert str(caught.value) == "add_scalar('loss'): expected one number, found Tensor [2]"
