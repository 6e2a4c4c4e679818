"""Pages that load nothing from other hosts: formulas are MathML, and a picture from elsewhere is its text."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

# What the translation to MathML does not know, in its words.
_WORDS = (
    (r"\\[bB]ig(?![a-z])", ""),
    (r"\\dots(?![a-z])", r"\\ldots"),
    (r"\\tfrac(?![a-z])", r"\\frac"),
)
_TAG = re.compile(r"\\tag\{([^}]*)\}")


def formula(node: nodes.math | nodes.math_block, text: str, *, as_block: bool = False) -> str:
    """A formula as MathML; a warning where it cannot be translated."""
    for pattern, words in _WORDS:
        text = re.sub(pattern, words, text)
    try:
        return str(tex2mathml(text, as_block=as_block))
    except MathError as error:
        logging.getLogger(__name__).warning("formula %r: %s", text, error, location=node)
        return text


def write_formula(translator: HTML5Translator, node: nodes.math) -> None:
    """Writes a formula within a line."""
    translator.body.append(formula(node, node.astext()))
    raise nodes.SkipNode


def write_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    r"""Writes a formula between lines, with its number, or that of ``\tag{…}``, at the right margin."""
    text = node.astext()
    tag = _TAG.search(text)
    number = tag[1] if tag else node["number"]
    translator.body.append('<div class="math">')
    if number:
        translator.body.append(f'<span class="eqno">({number})</span>')
    translator.body.append(f"{formula(node, _TAG.sub('', text), as_block=True)}</div>")
    raise nodes.SkipNode


def name_remote_pictures(app: Sphinx, doctree: nodes.document) -> None:
    """Replaces pictures of other hosts, such as badges, by their texts."""
    for node in list(doctree.findall(nodes.image)):
        if "://" in node["uri"]:
            node.replace_self(nodes.Text(node.get("alt", node["uri"])))


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (write_formula, None), (write_block, None))
    app.connect("doctree-read", name_remote_pictures, priority=100)  # before pictures are collected
    return {"parallel_read_safe": True, "parallel_write_safe": True}
