"""Docstrings as they are written in this project, on the site.

Indented lines after a paragraph are formulas, shown as they are; ``|`` is no mark; a class may be named by its last
name wherever it is documented; of an annotated type the type is shown.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode
from torch import nn

_SECTION = re.compile(r"(Args|Arguments|Attributes|Returns|Raises|Yields|Example|Examples|Note|Notes):$")
_ANNOTATED = re.compile(r"(?:typing\.)?Annotated\[(.+?), ~?bbrl_exp\.arguments\..*?\)\]")
_SPAN = re.compile(r"(``.*?``|`[^`]*`)")


def mark_formulas(app: Sphinx, what: str, name: str, documented: object, options: object, lines: list[str]) -> None:
    """Marks indented blocks as literal, before sections are read; changes ``lines``.

    What constructors without a docstring inherit from PyTorch is left out: the class says what they take.
    """
    if lines[:1] == [nn.Module.__init__.__doc__]:
        lines.clear()
    marked: list[str] = []
    paragraph, is_literal, in_section = "", False, False
    for line in lines:
        if line and not line.startswith(" "):
            paragraph, is_literal, in_section = line, False, _SECTION.match(line) is not None
        elif line and not in_section and not is_literal and paragraph and marked and not marked[-1]:
            is_literal = True
            marked += ["::", ""]
        marked.append(line if is_literal else _without_marks(line))
    lines[:] = marked


def _without_marks(line: str) -> str:
    parts = _SPAN.split(line)
    return "".join(part if index % 2 else part.replace("|", r"\|") for index, part in enumerate(parts))


def show_types_only(app: Sphinx, domain: str, kind: str, content: nodes.Element) -> None:
    """Takes the marks out of annotated types that autodoc has recorded, before it writes them below the arguments."""
    for types in app.env.current_document.autodoc_annotations.values():
        for name, written in types.items():
            types[name] = _ANNOTATED.sub(r"\1", written)


def find_by_last_name(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, shown: nodes.Element
) -> nodes.Element | None:
    """A link to what has the last name (of a method: the last two) that is asked for; the type of an annotated one."""
    if node.get("refdomain") != "py":
        return None
    if _ANNOTATED.search(node["reftarget"]):
        return nodes.inline("", _ANNOTATED.sub(r"\1", node["reftarget"]))
    parts = node["reftarget"].split(".")
    tail = ".".join(parts[-2:] if node["reftype"] in ("meth", "attr") else parts[-1:])
    objects = env.domains.python_domain.objects
    found = sorted((name for name in objects if f".{name}".endswith(f".{tail}")), key=len)
    if not found:
        return None
    entry = objects[found[0]]
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, shown, found[0])


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", mark_formulas, priority=100)  # napoleon is later
    app.connect("object-description-transform", show_types_only, priority=100)  # autodoc is later
    app.connect("missing-reference", find_by_last_name)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
