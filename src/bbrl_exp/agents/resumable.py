"""What a part of a graph carries from one step to the next beyond parameters and buffers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import nn

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.attributes import AttributeState
from bbrl_exp.agents.restored_attributes import restore_attributes

_OF_AGENTS = frozenset(vars(Agent()))


@runtime_checkable
class Resumable(Protocol):
    """A module with its own random streams, environments or counters.

    Its state is not part of a policy: it belongs to the run. It consists of tensors and plain Python, and is bitwise
    identical between equal runs.
    """

    def run_state(self) -> dict[str, Any]:
        """What a run needs, beyond the ``state_dict``, to resume as if it had never stopped."""

    def load_run_state(self, state: Mapping[str, Any]) -> None:
        """Takes over what :meth:`run_state` gave, in a module that is built alike."""


@runtime_checkable
class SpeaksForItsParts(Resumable, Protocol):
    """A module whose own state holds that of the modules inside it, because they live elsewhere, say."""

    speaks_for_parts: ClassVar[bool]

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """The module itself and those inside it."""


def run_state(graph: nn.Module) -> dict[str, dict[str, Any]]:
    """The state of every resumable module of ``graph``, by its path.

    A module of the user's that does not say what it carries has the state of its attributes, as learners have: numbers,
    texts, tensors, arrays, random generators, and containers of them. Other objects need a ``run_state``.
    """
    state = {path: module.run_state() for path, module in _resumable_modules(graph)}
    for path, other in _modules_of_users(graph):
        if saved := AttributeState.of(other, _OF_AGENTS, skips=True).saved:
            state[path] = saved
    return state


def load_run_state(graph: nn.Module, state: Mapping[str, Mapping[str, Any]]) -> None:
    """Takes over what :func:`run_state` gave, here or in version 0.1.0, in a graph that is built alike."""
    for path, module in _resumable_modules(graph):
        module.load_run_state(state[path] if path in state else _of_version_0_1_0(graph, path, state))
    for path, other in _modules_of_users(graph):
        restore_attributes(other, state.get(path, {}), adds=True)


def _of_version_0_1_0(graph: nn.Module, path: str, state: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """The state of the random streams at ``path``, which was saved with that of the module that has them."""
    owner, _, name = path.rpartition(".")
    saved = state[owner]
    if "n_drawn" in saved:
        return {**saved[name.removesuffix("_stream")], "n_drawn": saved["n_drawn"]}
    draws = saved["draws"]
    if isinstance(draws, list):  # of an agent that knew its batch size
        draws = {graph.get_submodule(owner).env_spec.batch_size: draws} if draws else {}  # type: ignore[union-attr]
    return {"seed": saved["seed"], "n_drawn": 0, "draws": draws}


def _resumable_modules(graph: nn.Module) -> Iterator[tuple[str, Resumable]]:
    for path, module in _modules(graph):
        if isinstance(module, Resumable):
            yield path, module


def _modules_of_users(graph: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules of other packages than torch and this one that do not say what they carry."""
    for path, module in _modules(graph):
        is_ours = type(module).__module__.split(".")[0] in ("bbrl_exp", "torch")
        if not is_ours and not isinstance(module, Resumable) and not _has_extra_state(module):
            yield path, module


def _has_extra_state(module: nn.Module) -> bool:
    return type(module).get_extra_state is not nn.Module.get_extra_state


def _modules(graph: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    spoken_for: set[nn.Module] = set()
    for path, module in graph.named_modules():
        if module in spoken_for:
            continue
        if isinstance(module, SpeaksForItsParts):
            spoken_for.update(part for _, part in module.named_modules())
        yield path, module
