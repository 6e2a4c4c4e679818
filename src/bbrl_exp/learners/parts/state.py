"""What a learner remembers apart from parameters and buffers, found among its attributes."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import nn

from bbrl_exp.agents.attributes import AttributeState, hidden_parts
from bbrl_exp.agents.object_state import HasState
from bbrl_exp.agents.restored_attributes import restore_attributes
from bbrl_exp.data.replay import ReplayBuffer
from bbrl_exp.errors import BbrlExpError, ConfigurationError


@runtime_checkable
class HasReplay(HasState, Protocol):
    """Something that fills a replay buffer."""

    buffer: ReplayBuffer


class SavesAttributes(nn.Module):
    """A module whose ``state_dict`` has the state of its attributes beside parameters and buffers.

    Attributes:
        not_saved: names of attributes that the constructor makes and nobody changes, so that they are not saved; those
            of the classes it inherits from count too.
    """

    not_saved: ClassVar[tuple[str, ...]] = ()
    _at_start: AttributeState | None = None
    _parts_at_start: frozenset[str] | None = None

    def get_extra_state(self) -> dict[str, Any]:
        """The state of the attributes: tensors and plain Python; of replay buffers all but the rows."""
        return attribute_state(self)

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Takes over what :meth:`get_extra_state` gave."""
        restore_attributes(self, state)


def attribute_state(module: nn.Module) -> dict[str, Any]:
    """The state of the attributes of ``module``, by name; rows of replay buffers are left out.

    Raises:
        BbrlExpError: there is something that cannot be saved, or could not be restored.
    """
    found = _state_of(module)
    start = getattr(module, "_at_start", None)
    if start is not None and (problem := found.changed_since(start)) is not None:
        raise BbrlExpError(f"{type(module).__name__}.{problem}")
    parts = getattr(module, "_parts_at_start", None)
    if parts is not None and (changed := sorted(parts ^ _parts_of(module))):
        verb = "is no longer there" if changed[0] in parts else "was not there when the run began"
        raise BbrlExpError(
            f"{type(module).__name__}.{changed[0]} {verb}; make modules and parameters in the constructor"
        )
    return found.saved


def prepare_state(learner: nn.Module) -> None:
    """Makes sure that all that a learner remembers will be saved; a run begins with it.

    Raises:
        ConfigurationError: an attribute cannot be saved.
    """
    for path, module in learner.named_modules():
        if isinstance(module, SavesAttributes):
            try:
                module._at_start = _state_of(module)
                module._parts_at_start = _parts_of(module)
            except BbrlExpError as error:
                raise ConfigurationError(f"{path}.{error}" if path else str(error)) from error


def adopt_hidden_modules(learner: nn.Module) -> None:
    """Makes modules in lists, tuples and dictionaries among the attributes modules of the learner: ``critics[0]``."""
    known = set(map(id, learner.modules()))
    for path, module in list(hidden_parts(learner, nn.Module)):
        if id(module) not in known:
            learner.add_module(path.replace(".", "_"), module)
            known.update(map(id, module.modules()))


def replay_buffers(module: nn.Module) -> dict[str, ReplayBuffer]:
    """The replay buffers among the attributes of ``module``, also in containers, by name."""
    found = {
        re.sub(r"\W+", "_", path).strip("_"): value for path, value in hidden_parts(module, ReplayBuffer | HasReplay)
    }
    return {name: value if isinstance(value, ReplayBuffer) else value.buffer for name, value in found.items()}


def _state_of(module: nn.Module) -> AttributeState:
    named = {name for kind in type(module).__mro__ for name in vars(kind).get("not_saved", ())}
    return AttributeState.of(module, ("_at_start", "_parts_at_start", "_scheduled", *named))


def _parts_of(module: nn.Module) -> frozenset[str]:
    """The paths of the modules, parameters and saved buffers in ``module``: those that its ``state_dict`` needs."""
    paths = set()
    for path, part in module.named_modules():
        for name, value in (*part._modules.items(), *part._parameters.items(), *part._buffers.items()):
            if value is not None and name not in part._non_persistent_buffers_set:
                paths.add(f"{path}.{name}" if path else name)
    return frozenset(paths)
