"""Directives that write what is read from the code at each build.

``{arguments} <agent>`` lists what the nodes of an option of the group ``agent`` take, ``{keys} <part>`` the keys of a
part of the configuration, ``{options} <group>`` what can be chosen in a group, ``{modules} <package>`` the docstrings
of a package's modules.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re
from collections.abc import Iterable, Sequence
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from bbrl_exp.commands.help import Key, keys_of_run, keys_of_search
from bbrl_exp.commands.list import first_comment
from bbrl_exp.config.agent_arguments import NodeArguments, composed_agent, nodes_of_agent
from bbrl_exp.config.compose import Composer, resolve
from bbrl_exp.config.options import default_config_dir, option_files
from bbrl_exp.errors import BbrlExpError

SEARCH = "hydra.sweeper"


class Generated(SphinxDirective):
    """A directive whose one argument says what to write, as Markdown."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Called by Sphinx."""
        try:
            return self.parse_text_to_nodes(self.markdown(self.arguments[0]), allow_section_headings=True)
        except (BbrlExpError, KeyError) as error:
            raise self.error(f"{self.name}: {error}") from error

    def markdown(self, asked: str) -> str:
        """What to write."""
        raise NotImplementedError


class Arguments(Generated):
    """What each node of an agent can be given."""

    def markdown(self, asked: str) -> str:
        """A table for the agent's own keys, and one for each node."""
        return "\n\n".join(map(_node, nodes_of_agent(composed_agent(asked))))


class Keys(Generated):
    """The keys of a part of the configuration: ``root``, ``agent``, ``env``, …, ``hydra.sweeper``."""

    def markdown(self, asked: str) -> str:
        """A table."""
        keys = keys_of_search() if asked == SEARCH else all_keys()["" if asked == "root" else asked]
        return table(("key", "default", "allowed", "meaning"), map(_key, keys))


class Options(Generated):
    """What can be chosen in a group."""

    def markdown(self, asked: str) -> str:
        """A table."""
        files = option_files([default_config_dir()], asked)
        rows = ((f"`{asked}={name}`", escaped(first_comment(path))) for name, path in files.items())
        return table(("option", "what it is"), rows)


class Modules(Generated):
    """The modules of a package, each below a heading."""

    def markdown(self, asked: str) -> str:
        """A heading and the docstrings of each."""
        found = pkgutil.iter_modules(importlib.import_module(asked).__path__, f"{asked}.")
        names = [module.name for module in found if not module.ispkg]
        return "\n\n".join(
            f"## {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n   :ignore-module-all:\n```" for name in names
        )


@functools.cache
def all_keys() -> dict[str, list[Key]]:
    """The keys of a run with the defaults of ``conf/config.yaml``."""
    with Composer(default_config_dir()) as composer:
        return keys_of_run(resolve(composer.compose([])))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def escaped(text: str) -> str:
    """Text in which nothing is Markdown but what is in backquotes."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(
        part.replace("|", r"\|") if part[:1] == "`" else re.sub(r"([|*_<>\[\]$])", r"\\\1", part) for part in parts
    )


def code(text: str) -> str:
    """Text as code in a cell of a table; nothing for nothing."""
    return f"`{text}`".replace("|", r"\|") if text else ""


def _key(key: Key) -> Sequence[str]:
    return f"`{key.name}`", code(key.default), escaped(key.allowed), escaped(key.help)


def _node(node: NodeArguments) -> str:
    heading = f"`{node.key}`" + (f": `{node.target}`. {escaped(node.summary)}" if node.target else "")
    rows = []
    for written, text in node.texts.items():
        name, _, value = written.partition("=")
        plus = "+" if name.startswith("+") else ""
        argument = name.removeprefix("+").removeprefix(f"{node.key}.")
        rows.append((f"`{plus}{argument}`", code(value), escaped(text)))
    return f"{heading}\n\n{table(('argument', 'value', 'meaning'), rows) if rows else 'No arguments.'}"


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_directive("arguments", Arguments)
    app.add_directive("keys", Keys)
    app.add_directive("options", Options)
    app.add_directive("modules", Modules)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
