"""The folder ``.hydra`` of a run: its configuration, as Hydra writes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from bbrl_exp.errors import BbrlExpError

FOLDER_NAME = ".hydra"


def write_hydra_files(
    folder: Path, config: Mapping[str, Any], hydra: Mapping[str, Any], overrides: Sequence[str]
) -> None:
    """Writes ``config.yaml``, ``hydra.yaml`` and ``overrides.yaml`` in the folder ``.hydra`` of a run.

    Args:
        folder: of the run.
        config: its configuration as composed, interpolations as they are written.
        hydra: the node ``hydra`` of it.
        overrides: those of the run.

    Raises:
        BbrlExpError: the disk refuses.
    """
    contents: dict[str, dict[str, Any] | list[str]] = {
        "config": dict(config),
        "hydra": {"hydra": dict(hydra)},
        "overrides": list(overrides),
    }
    place = folder / FOLDER_NAME
    try:
        place.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            (place / f"{name}.yaml").write_text(OmegaConf.to_yaml(content), encoding="utf-8")
    except OSError as error:
        raise BbrlExpError(f"cannot write '{place}': {error.strerror or error}") from error
