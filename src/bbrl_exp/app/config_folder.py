"""Where the configuration lies."""

from __future__ import annotations

from pathlib import Path

from bbrl_exp.errors import ConfigurationError


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
