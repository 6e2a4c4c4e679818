"""Where the configuration lies, and the files of its options."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from bbrl_exp.errors import ConfigurationError

if TYPE_CHECKING:
    from omegaconf import DictConfig


def default_config_dir() -> Path:
    """The folder ``conf`` of the checkout that this package lies in, else the one of the current directory.

    Raises:
        ConfigurationError: neither is there.
    """
    places = [Path(__file__).resolve().parents[3] / "conf", Path.cwd() / "conf"]
    for place in places:
        if (place / "config.yaml").is_file():
            return place
    raise ConfigurationError(f"no configuration folder found; looked at {', '.join(map(str, places))}")


def option_files(folders: Iterable[Path], group: str) -> dict[str, Path]:
    """The files of a group's options, by name; of files of the same name the first counts.

    Args:
        folders: of configuration, as ``conf``.
        group: ``"agent"``, …
    """
    files: dict[str, Path] = {}
    for folder in folders:
        for path in sorted((folder / group).glob("*.yaml")):
            files.setdefault(path.stem, path)
    return files


def folders_of(config: DictConfig) -> list[Path]:
    """The folders that a configuration was composed from.

    Args:
        config: composed, with its ``hydra`` node.
    """
    return [Path(source.path) for source in config.hydra.runtime.config_sources if source.schema == "file"]
