"""Equations as MathML, which browsers draw themselves: the pages load nothing from other hosts."""

from __future__ import annotations

import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

_TAG = re.compile(r"\\tag\{([^}]*)\}")


def write_inline(translator: HTML5Translator, node: nodes.math) -> None:
    """Writes an equation within a line."""
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def write_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    r"""Writes a displayed equation, with its number, or that of ``\tag{…}``, at the right margin."""
    latex = node.astext()
    tag = _TAG.search(latex)
    number = tag[1] if tag else node["number"]
    translator.body.append('<div class="math">')
    if number:
        translator.body.append(f'<span class="eqno">({number})</span>')
    translator.body.append(f"{convert(_TAG.sub('', latex), display='block')}</div>")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the renderer ``mathml``."""
    app.add_html_math_renderer("mathml", (write_inline, None), (write_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
