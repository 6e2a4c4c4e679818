"""The check of a composed configuration: keys, values and targets. Nothing is built and nothing is made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bbrl_exp.config.compose import folder_of, is_named, resolve, written, written_key
from bbrl_exp.config.graph import check_nodes
from bbrl_exp.config.identity import hparams_of, identity, task_overrides
from bbrl_exp.config.inherited import without_inherited
from bbrl_exp.config.options import check_memory, other_experiment
from bbrl_exp.config.run_size import RunSize, chunks_per_recording
from bbrl_exp.config.schema import RootSettings, check_group_keys, check_keys, read_root, with_defaults
from bbrl_exp.config.switched_off import switched_off, without_switched_off
from bbrl_exp.config.targets import import_allowed_packages
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.records.config import load_config
from bbrl_exp.records.layout import CONFIG, UnreadableError
from bbrl_exp.records.provenance import config_hash
from bbrl_exp.settings import bad_value
from bbrl_exp.text import one_line

if TYPE_CHECKING:
    from bbrl_exp.tracking.hparams import HparamsEntry
    from bbrl_exp.tracking.settings import TrackingSettings

_DEBUG_RECORDINGS = 2
_CHECKPOINTS_OF_A_LEARNER, _CHECKPOINTS_OF_OTHERS = 10, 2
_GROUPS = ("agent", "memory", "env", "tracking", "experiment", "launcher")


@dataclass(frozen=True)
class CheckedRun:
    """A configuration whose keys, values and targets are in order: plain values, which another process can be given.

    Attributes:
        config: the root, resolved.
        written: the root as it was composed, interpolations as they are written.
        hydra: the node of Hydra, as it was composed.
        overrides: those of the run, not Hydra's own.
        choices: option of each group, ``{"agent": "random", …}``.
        folders: of the options.
        root: the typed root of ``config``.
        tracking: what is recorded.
        device: where networks live, ``"cpu"``, ``"cuda:0"``, …
        size: steps, chunks and memory of the run.
        identity: the part of ``config`` that makes it the same run as another.
        config_hash: of ``identity``.
        hparams: the run on TensorBoard's HPARAMS page.
        run_dir: the run's folder, unless it resumes in another one.
        is_named: whether the user chose that folder.
        note: what the user may not have meant; None for nothing.
    """

    config: dict[str, Any]
    written: dict[str, Any]
    hydra: dict[str, Any]
    overrides: tuple[str, ...]
    choices: dict[str, str | None]
    folders: tuple[Path, ...]
    root: RootSettings
    tracking: TrackingSettings
    device: str
    size: RunSize
    identity: dict[str, Any]
    config_hash: str
    hparams: HparamsEntry
    run_dir: Path
    is_named: bool
    note: str | None = None

    def written_key(self, key: str) -> str:
        """Where the user writes what is found at ``key``."""
        return written_key(self.written, key)

    @property
    def shown_hparams(self) -> HparamsEntry | None:
        """The run on the HPARAMS page; None where nothing is written for TensorBoard."""
        return self.hparams if self.tracking.writes_events else None

    @property
    def checkpoint_every(self) -> int:
        """Environment steps between two checkpoints, 0 for none at all."""
        every = self.root.checkpoint["every"]
        if every is not None:
            return int(every)
        learns = self.root.agent["learner"] is not None
        return math.ceil(self.size.total_steps / (_CHECKPOINTS_OF_A_LEARNER if learns else _CHECKPOINTS_OF_OTHERS))


def check(config: DictConfig) -> CheckedRun:
    """Checks a composed configuration.

    Raises:
        ConfigurationError: something cannot be used; the message names key, value and what is allowed.
    """
    from bbrl_exp.tracking.settings import STANDARD_SINKS, TrackingSettings

    config, left_out = without_inherited(config)
    as_written = written(config)
    choices = {group: config.hydra.runtime.choices.get(group) for group in _GROUPS}
    folders = tuple(Path(each.path) for each in config.hydra.runtime.config_sources if each.schema == "file")
    off = tuple(switched_off(as_written))
    note = _notes(other_experiment(choices, folders), off, left_out)
    check_memory(as_written, choices, folders)
    try:
        plain = with_defaults(resolve(config))
    except ConfigurationError as error:
        raise with_note(error, _notes(None, (), left_out)) from error
    root = read_root(plain)
    check_group_keys(as_written, task_overrides(config.hydra))
    check_keys(root.tracking, [field.name for field in fields(TrackingSettings)], "tracking")
    tracking = TrackingSettings(**root.tracking)
    for name in STANDARD_SINKS:
        if getattr(tracking, name) and f"tracking.sinks.{name}" in off:
            raise bad_value(f"tracking.{name}", True, f"null or false with tracking.sinks.{name}=null")
    device = resolve_device(root.device)
    import_allowed_packages()
    try:
        check_nodes(plain, lambda key: written_key(as_written, key), tracking.active_sinks)
    except ConfigurationError as error:
        raise with_note(error, note) from error
    same = identity(config)
    return CheckedRun(
        config=plain,
        written=as_written,
        hydra=OmegaConf.to_container(config.hydra, resolve=False),  # type: ignore[arg-type]
        overrides=task_overrides(config.hydra),
        choices=choices,
        folders=folders,
        root=root,
        tracking=tracking,
        device=device,
        size=_size(root),
        identity=same,
        config_hash=config_hash(same),
        hparams=hparams_of(config, plain),
        run_dir=folder_of(config, "run"),
        is_named=is_named(config, "run"),
        note=note,
    )


def check_saved(folder: Path) -> dict[str, Any]:
    """The configuration of the run in a folder, resolved and checked.

    Raises:
        ConfigurationError: it cannot be read, or cannot be used here.
    """
    path = folder / CONFIG
    try:
        contents = OmegaConf.to_container(load_config(path), resolve=True, throw_on_missing=True)
    except UnreadableError as error:
        raise ConfigurationError(f"{folder} is not a run folder: {error}") from error
    except OmegaConfBaseException as error:
        raise ConfigurationError(f"{path} cannot be read: {one_line(error)}") from error
    return check_contents(contents if isinstance(contents, dict) else {}, str(path))  # type: ignore[arg-type]


def check_contents(contents: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A resolved configuration that was read from somewhere, checked.

    Args:
        contents: the configuration.
        where: it was read, for messages.

    Raises:
        ConfigurationError: it cannot be used here.
    """
    config = with_defaults(contents)
    import_allowed_packages()
    try:
        config = without_switched_off(config)
        read_root(config)
        check_nodes(config)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error}") from error
    return config


def _notes(experiment: str | None, off: Sequence[str], left_out: Sequence[str]) -> str | None:
    notes = [] if experiment is None else [experiment]
    notes += [f"switched off: {', '.join(off)}"] if off else []
    for node in dict.fromkeys(key.rpartition(".")[0] for key in left_out):
        names = [key.removeprefix(f"{node}.") for key in left_out if key.rpartition(".")[0] == node]
        notes.append(f"not taken by the class of {node}, and left out: {', '.join(names)}")
    return "; ".join(notes) or None


def with_note(error: ConfigurationError, note: str | None) -> ConfigurationError:
    """The error, followed by what the user may not have meant, where there is such a thing."""
    return error if note is None else type(error)(f"{error}; {note}")


def resolve_device(device: str) -> str:
    """The device to use: ``auto`` becomes an accelerator if the machine has one, else ``cpu``.

    Raises:
        ConfigurationError: the device does not exist here.
    """
    if device == "cpu":
        return device
    import torch

    n_cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    has_mps = torch.backends.mps.is_available()
    if device == "auto":
        return "cuda" if n_cuda else "mps" if has_mps else "cpu"
    there = ["cpu", *(f"cuda:{index}" for index in range(n_cuda)), *(["mps"] if has_mps else [])]
    if device not in there and not (device == "cuda" and n_cuda):
        raise ConfigurationError(
            f"key 'device' = '{device}': no such device found; available: {', '.join(there)}, auto"
        )
    return device


def _size(root: RootSettings) -> RunSize:
    steps_per_chunk = root.agent["steps_per_chunk"]
    chunks = chunks_per_recording(steps_per_chunk, learns=root.agent["learner"] is not None)
    total_steps = root.total_steps
    if root.debug:
        total_steps = min(total_steps, _DEBUG_RECORDINGS * chunks * steps_per_chunk * root.batch_size)
    return RunSize(
        total_steps, root.batch_size, steps_per_chunk, chunks, bytes_per_time_step=0, asked_schedule=root.schedule_steps
    )
