"""The file format of checkpoints: ``{"state": …, "meta": …}`` of tensors and plain Python, replaced as a whole.

``state`` is bitwise identical between equal runs; what differs between them is in ``meta``. A file ``<name>.sha256``
beside it holds its checksum.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bbrl_exp.errors import BbrlExpError, ConfigurationError, described
from bbrl_exp.records.files import replace_file

_EXTRA_STATE = "_extra_state"


def policy_state(graph: nn.Module, learner: nn.Module | None) -> dict[str, dict[str, Any]]:
    """A copy on the CPU of what a policy is: the graph's state, and the learner's parameters and buffers beside it.

    The rest of the learner's state (optimizers, a replay buffer) is not part of a policy.
    """
    return {
        "graph": {name: _copied(value) for name, value in graph.state_dict().items()},
        "learner": {name: _copied(tensor) for name, tensor in _own_tensors(learner, graph).items()},
    }


def load_graph(graph: nn.Module, state: dict[str, dict[str, Any]], where: str) -> None:
    """Loads the graph's part of a policy into a graph that is built alike; an error begins with ``where``.

    Raises:
        ConfigurationError: the graph has other parameters.
    """
    saved = {name: value for name, value in state["graph"].items() if not name.endswith(_EXTRA_STATE)}
    own = {name: value for name, value in graph.state_dict().items() if not name.endswith(_EXTRA_STATE)}
    problems = [f"'{name}' is missing there" for name in own if name not in saved]
    problems += [f"'{name}' is not known here" for name in saved if name not in own]
    problems += [
        f"'{name}' is {list(saved[name].shape)} there and {list(value.shape)} here"
        for name, value in own.items()
        if name in saved and saved[name].shape != value.shape
    ]
    if problems:
        raise ConfigurationError(f"{where}: its parameters do not fit: {problems[0]} ({len(problems)} differ)")
    try:
        graph.load_state_dict(state["graph"], strict=False)
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise ConfigurationError(f"{where}: its state does not fit: {described(error)}") from error


@torch.no_grad()
def load_fitting(learner: nn.Module, graph: nn.Module, state: dict[str, dict[str, Any]]) -> tuple[str, ...]:
    """Loads those attributes of a learner, outside ``graph``, that fit: a critic as a whole or not at all.

    An attribute fits where names, shapes and dtypes of all its parameters and buffers are those that were saved.

    Returns:
        The attributes with parameters that do not fit.
    """
    own = _by_attribute(_own_tensors(learner, graph))
    saved = _by_attribute(state["learner"])
    not_loaded: list[str] = []
    for attribute, tensors in own.items():
        there = saved.get(attribute, {})
        if _facts(tensors) == _facts(there):
            for name, tensor in tensors.items():
                tensor.copy_(there[name])
        elif any(isinstance(tensor, nn.Parameter) for tensor in tensors.values()):
            not_loaded.append(attribute)
    return tuple(not_loaded)


def _by_attribute(tensors: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    groups: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        groups.setdefault(name.split(".")[0], {})[name] = tensor
    return groups


def _facts(tensors: dict[str, torch.Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}


def _own_tensors(learner: nn.Module | None, graph: nn.Module) -> dict[str, torch.Tensor]:
    """The learner's parameters and persistent buffers that are not the graph's."""
    if learner is None:
        return {}
    shared = {id(tensor) for tensor in (*graph.parameters(), *graph.buffers())}
    passing = {
        f"{path}.{name}" if path else name
        for path, module in learner.named_modules()
        for name in module._non_persistent_buffers_set
    }
    buffers = {name: buffer for name, buffer in learner.named_buffers() if name not in passing}
    own = {**dict(learner.named_parameters()), **buffers}
    return {name: tensor for name, tensor in own.items() if id(tensor) not in shared}


def _copied(value: Any) -> Any:
    return value.detach().cpu().clone() if isinstance(value, torch.Tensor) else value


def write_checkpoint(path: Path, state: dict[str, Any], meta: dict[str, Any]) -> str:
    """Writes a checkpoint and its checksum; at every moment the old or the new one is there, whole and with its sum.

    Returns:
        The checksum, SHA-256.

    Raises:
        BbrlExpError: the disk refuses; the message names the file.
    """
    contents = io.BytesIO()
    torch.save({"state": state, "meta": meta}, contents)
    digest = hashlib.sha256(contents.getbuffer()).hexdigest()
    sums = _sums_path(path)
    try:
        path.parent.mkdir(exist_ok=True)
        before = _digests(sums) if path.exists() else []
        # While the file is replaced both sums hold, and after a kill in between both of them again.
        replace_file(sums, "".join(f"{known}  {path.name}\n" for known in (*before, digest)).encode())
        replace_file(path, contents.getbuffer())
        if before:
            replace_file(sums, f"{digest}  {path.name}\n".encode())
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise BbrlExpError(f"cannot write '{path}': {error.strerror or error}") from error
    return digest


def remove_checkpoint(path: Path) -> None:
    """Removes a checkpoint, and then its checksum."""
    path.unlink(missing_ok=True)
    _sums_path(path).unlink(missing_ok=True)


def read_checkpoint(path: Path, digest: str | None = None) -> dict[str, Any]:
    """The ``{"state": …, "meta": …}`` of a file, on the CPU, checked against ``digest`` or the checksum beside it.

    Raises:
        ConfigurationError: it is not there, or is damaged.
    """
    try:
        # Read before and after: a running run may replace the file in between.
        before = [digest] if digest is not None else _digests(_sums_path(path))
        contents = path.read_bytes()
        digests = [digest] if digest is not None else [*before, *_digests(_sums_path(path))]
    except OSError as error:
        raise ConfigurationError(f"no checkpoint '{path}': {error.strerror or error}") from error
    if hashlib.sha256(contents).hexdigest() not in digests:
        raise ConfigurationError(f"checkpoint '{path}' is damaged: it does not have the checksum that was noted for it")
    try:
        found: dict[str, Any] = torch.load(io.BytesIO(contents), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ConfigurationError(f"checkpoint '{path}' holds more than tensors and plain Python") from error
    return found


def _sums_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _digests(path: Path) -> list[str]:
    return [line.split()[0] for line in path.read_text(encoding="ascii").splitlines()] if path.exists() else []
