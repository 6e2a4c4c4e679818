"""The file format of exported policies: tensors as safetensors, and beside them in its metadata a card, as JSON.

Nothing in such a file is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bbrl_exp.errors import ConfigurationError, described
from bbrl_exp.extras import module_of_extra
from bbrl_exp.records.files import strict_json

SUFFIX = ".safetensors"
FORMAT = 1
CARD = "bbrl_exp"  # the key of the card in the metadata, here and in ONNX files


@dataclass(frozen=True)
class PolicyFile:
    """The contents of a file.

    Attributes:
        card: what is to be known of the policy; ``config`` is the configuration that it is built from.
        state: the ``state_dict`` of its graph.
    """

    card: Mapping[str, Any]
    state: Mapping[str, Any]

    @property
    def env_steps(self) -> int | None:
        """Environment steps after which it was this policy; None where the card does not say."""
        run = self.card.get("run")
        return run.get("env_steps") if isinstance(run, dict) else None

    def as_bytes(self) -> bytes:
        """The file.

        Raises:
            ConfigurationError: the extra is missing, or a module keeps something else than tensors and plain JSON.
        """
        from torch import Tensor  # what only looks for files does without it

        safetensors = module_of_extra("safetensors.torch", "export", f"a file {SUFFIX}")
        tensors = {name: value for name, value in self.state.items() if isinstance(value, Tensor)}
        rest = {name: value for name, value in self.state.items() if name not in tensors}
        for name, value in rest.items():
            if not _is_plain(value):
                kind = type(value).__name__
                raise ConfigurationError(f"state '{name}' cannot be exported: it is {kind}, not a tensor or plain JSON")
        card = strict_json({"format": FORMAT, **self.card, "plain_state": rest})
        # Two names of one tensor are two tensors in the file, which knows no sharing.
        copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        contents: bytes = safetensors.save(copies, {"format": "pt", CARD: card})
        return contents

    @classmethod
    def read(cls, path: Path) -> PolicyFile:
        """Reads a file.

        Raises:
            ConfigurationError: the extra is missing, or it is no such file, or a damaged one.
        """
        safetensors = module_of_extra("safetensors", "export", f"'{path}'")
        try:
            with safetensors.safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                state: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            card = json.loads(metadata[CARD]) if CARD in metadata else None
        except (OSError, safetensors.SafetensorError, ValueError, RecursionError) as error:
            raise ConfigurationError(f"'{path}' cannot be read: {described(error)}") from error
        if not isinstance(card, dict) or not isinstance(card.get("config"), dict):
            raise ConfigurationError(f"'{path}' holds no policy of bbrl_exp, only tensors; export makes such files")
        if card.get("format") != FORMAT:
            raise ConfigurationError(f"'{path}' has the format {card.get('format')!r}; this version reads {FORMAT}")
        plain = card.pop("plain_state", {})
        if not isinstance(plain, dict) or any(name in state or not name.endswith("_extra_state") for name in plain):
            raise ConfigurationError(f"'{path}' is damaged: its plain state does not fit")
        return cls(card, {**state, **plain})


def _is_plain(value: object) -> bool:
    """Whether a value is the same after it was written as JSON."""
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError, RecursionError):
        return False
