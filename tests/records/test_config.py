"""The configuration in a run's folder, whole and damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from bbrl_exp.records.config import load_config, overridden, read_resolved, read_texts
from bbrl_exp.records.layout import CONFIG, HYDRA, UnreadableError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / HYDRA).mkdir()
    OmegaConf.save(
        OmegaConf.create(
            {"a": {"b": 0.001, "c": [1, "x"], "d": {}, "e": None}, "f": True, "g": "${a.b}", "h": "2026-01-01"}
        ),
        tmp_path / CONFIG,
    )
    return tmp_path / CONFIG


def test_overrides_are_read_as_hydra_writes_them() -> None:
    assert overridden(["a.b=1", "++c=x=y", "~d", "~e=1", "f@g=h"]) == {"a.b": "1", "c": "x=y", "f@g": "h"}


def test_a_configuration_is_dotted_keys_and_texts(path: Path, tmp_path: Path) -> None:
    assert read_texts(tmp_path) == {
        "a.b": "0.001",
        "a.c": '[1, "x"]',
        "a.d": "{}",
        "a.e": "null",
        "f": "true",
        "g": "${a.b}",
        "h": "2026-01-01",
    }


def test_what_is_switched_off_is_left_out(path: Path, tmp_path: Path) -> None:
    path.write_text(
        "env:\n  wrappers: {a: null}\nagent:\n  members: {b: null, c: {_target_: d, e: null}}\n  learner: null\n"
    )
    assert read_texts(tmp_path) == {
        "agent.members.c._target_": "d",
        "agent.members.c.e": "null",
        "agent.learner": "null",
    }


def test_keys_and_values_of_other_types_are_texts_too(path: Path, tmp_path: Path) -> None:
    path.write_text(path.read_text().replace("'2026-01-01'", "2026-01-01").replace("f:", "1:"))
    assert (read_texts(tmp_path)["h"], read_texts(tmp_path)["1"]) == ('"2026-01-01"', "true")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"- 1", b"- [1", "is not YAML"),
        (b"a:", b"\xff\xfe\xfa:", "is not YAML"),
        (b"f: true", b"f: &x [1]\ni: *x", "holds aliases, or is nested too deeply"),
        (b"true", b"[" * 60, "holds aliases, or is nested too deeply"),
        (b"true", b"!!python/object/apply:os.getcwd []", "is not YAML"),
        (b"f: true", b"? [1]\n: 2\n? {a: 1}\n: 3", "is not YAML"),
        (b"true", b"2026-13-01", "is not YAML"),
        (b"true", b"[{1: 2, b: 3}]", "is not YAML"),
        (b"f: true", b"#" * 1_000_001, "has more than 1,000,000 bytes"),
    ],
)
def test_a_damaged_configuration_is_named(path: Path, tmp_path: Path, old: bytes, new: bytes, words: str) -> None:
    damaged = path.read_bytes().replace(old, new, 1)
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)
    with pytest.raises(UnreadableError) as error:
        read_texts(tmp_path)
    assert str(error.value) == f".hydra/config.yaml {words}"


@pytest.mark.parametrize("contents", [[1], {}])
def test_what_is_not_a_mapping_is_named(path: Path, tmp_path: Path, contents: object) -> None:
    OmegaConf.save(OmegaConf.create(contents), path)
    if contents == {}:
        path.write_bytes(b"")
    with pytest.raises(UnreadableError, match=r"^\.hydra/config\.yaml is not a mapping$"):
        read_texts(tmp_path)


def test_hydras_reader_leaves_interpolations_and_names_what_it_cannot_read(path: Path) -> None:
    assert OmegaConf.to_container(load_config(path))["g"] == "${a.b}"
    path.write_text(path.read_text().replace("- 1", "- [1"))
    with pytest.raises(UnreadableError, match=r"config\.yaml cannot be read: while parsing"):
        load_config(path)
    path.unlink()
    with pytest.raises(UnreadableError, match=r"config\.yaml cannot be read: No such file or directory$"):
        load_config(path)


def test_a_configuration_is_resolved_but_for_what_calls_a_function(path: Path, tmp_path: Path) -> None:
    assert read_resolved(tmp_path)["g"] == 0.001
    path.write_text("a: ${b}\nb: 2\nc: ${oc.env:HOME}\nd: [{e: '${c}1'}, '\\${b}', '\\${oc.env:HOME}']\n")
    call = "${oc.env:HOME}"
    assert read_resolved(tmp_path) == {"a": 2, "b": 2, "c": call, "d": [{"e": f"{call}1"}, "${b}", f"\\{call}"]}
    path.write_text("a: ${nowhere}\n")
    with pytest.raises(UnreadableError, match=r"config\.yaml cannot be read: Interpolation key 'nowhere' not found"):
        read_resolved(tmp_path)
    path.write_text("[1, 2]\n")
    with pytest.raises(UnreadableError, match=r"config\.yaml is not a mapping"):
        read_resolved(tmp_path)
