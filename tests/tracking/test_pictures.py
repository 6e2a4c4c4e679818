"""Pictures for TensorBoard's IMAGES page, and the texts and pictures that describe a run."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bbrl_exp.agents.graph_check import VariableFacts
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.runs.run import run
from bbrl_exp.tracking.summaries import graph_picture, png

WRITES, READS = (0xD9, 0x5F, 0x02), (0x1F, 0x77, 0xB4)


def n_pixels(picture: Image.Image, colour: tuple[int, int, int]) -> int:
    return int((np.asarray(picture) == colour).all(axis=-1).sum())


def variable(name: str, writers: tuple[str, ...], readers: tuple[str, ...] = ()) -> VariableFacts:
    return VariableFacts(name, (1,), torch.float32, writers, readers)


def test_each_writer_is_a_disc_and_each_reader_a_ring():
    one = graph_picture([variable("x", ("env",))])
    disc = n_pixels(one, WRITES)
    assert disc > 50
    assert n_pixels(one, READS) == 0
    more = graph_picture([variable("x", ("env",), ("policy", "critic")), variable("y", ("env", "policy"))])
    assert n_pixels(more, WRITES) == 3 * disc
    assert n_pixels(more, READS) > 100


def test_a_picture_grows_with_its_variables_and_agents_and_is_small_as_a_file():
    small = graph_picture([variable("x", ("env",))])
    variables = [variable(f"a/long/name/{index}", (f"agent{index}",)) for index in range(30)]
    large = graph_picture(variables)
    assert large.width > small.width
    assert large.height > small.height
    data = png(large)
    assert Image.open(io.BytesIO(data)).size == large.size
    assert len(data) < 100_000


def test_a_graph_without_variables_has_a_picture_too():
    assert graph_picture([]).width > 0


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder)).Reload()


def text(found: EventAccumulator, tag: str) -> str:
    (event,) = found.Tensors(tag)
    return str(event.tensor_proto.string_val[0].decode())


@pytest.mark.parametrize("stepping", ["auto", "vectorized"])
def test_a_run_describes_itself_as_texts_and_a_picture_and_films_its_last_policy(folder: Path, stepping: str):
    short = ["total_steps=64", "agent.steps_per_chunk=8", "tracking.animation_steps=5"]
    result = run(["agent=random", f"env.stepping={stepping}", *short])
    found = events(result.folder)
    assert sorted(found.Tags()["images"]) == ["last_policy", "variables"]
    (film,) = found.Images("last_policy")
    moving = Image.open(io.BytesIO(film.encoded_image_string))
    assert (moving.size, (film.width, film.height)) == ((600, 400), (600, 400))
    assert sum(frame.info["duration"] for frame in ImageSequence.Iterator(moving)) == 5 * 1000 // 50
    assert film.step == 64
    assert "AutoResetGymAgent 'env'" in text(found, "graph")
    assert "| env/env_obs | [T, 8, 4] | float32 | env | - |" in text(found, "workspace").splitlines()
    assert "| environment steps | 64 |" in text(found, "plan").splitlines()
    assert str(folder) not in text(found, "plan")


def test_filming_changes_nothing_that_is_measured(folder: Path):
    asked = ["agent=mlp", "total_steps=64", "agent.steps_per_chunk=8", "eval.every=32", "eval.final_episodes=2"]
    results = [run([*asked, f"tracking.animation_steps={steps}", f"name=film{steps}"]).summary for steps in (0, 3)]
    assert results[0].eval_returns == results[1].eval_returns
    assert results[0].return_mean == results[1].return_mean


def test_an_environment_that_shows_no_pictures_is_refused_before_anything_is_made(folder: Path):
    with pytest.raises(ConfigurationError, match=r"cannot be animated: it shows no pictures"):
        run(["env=probe_constant_reward", "tracking.animation_steps=5", "name=mine"])
    assert not (folder / "outputs").exists()
