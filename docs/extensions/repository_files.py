"""Links of pages to files of the repository: each file that one leads to is a page of the site too, as it is.

Some are part of written pages: the first page is the README's, ``measurements`` has the results of benchmarks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_for_filename
from sphinx import addnodes
from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
PAGES = {"README.md": "index.html", "CHANGELOG.md": "changelog.html", "CONTRIBUTING.md": "contributing.html"}
RESULTS = "benchmarks/results/"
_LINK = re.compile(r"\]\((\.\.?/[^)#\s]+)")


def page_of(path: str) -> str:
    """The page of the site that shows a file.

    Args:
        path: relative to the repository.
    """
    if path in PAGES:
        return PAGES[path]
    if path.startswith(RESULTS) and path.endswith(".md"):
        return f"measurements.html#{Path(path).stem}"
    return f"files/{path}.html"


def lead_into_the_site(app: Sphinx, doctree: nodes.document) -> None:
    """Turns what would be downloads and pages outside ``docs/`` into links to pages of the site."""
    folder = Path(app.env.doc2path(app.env.docname)).parent
    here = Path(app.builder.get_target_uri(app.env.docname)).parent
    for node in list(doctree.findall(addnodes.download_reference)) + list(doctree.findall(addnodes.pending_xref)):
        if node.get("reftype") != "myst":
            continue
        path = Path(os.path.normpath(folder / node["reftarget"]))
        if isinstance(node, addnodes.pending_xref):
            path = path.with_name(f"{path.name}.md")  # taken for a page of the site, and named without its suffix
        if path.is_relative_to(app.srcdir) or not path.is_file():
            continue
        uri = os.path.relpath(page_of(path.relative_to(ROOT).as_posix()), here)
        link = nodes.reference("", "", *node.children, refuri=uri, internal=True)
        node.replace_self(link)


def linked_files(folder: Path) -> set[Path]:
    """The files outside a folder to which links of its pages lead, without those that are part of written pages."""
    found = set()
    for page in [*folder.rglob("*.md"), *folder.rglob("*.ipynb")]:
        for target in _LINK.findall(page.read_text(encoding="utf-8")):
            path = Path(os.path.normpath(page.parent / target))
            if path.is_file() and not path.is_relative_to(folder):
                found.add(path.relative_to(ROOT))
    return {path for path in found if page_of(path.as_posix()).startswith("files/")}


def pages_of_files(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """A page for each of these files."""
    formatter = HtmlFormatter(linenos="table", wrapcode=True)
    for path in sorted(linked_files(Path(app.srcdir))):
        code = (ROOT / path).read_text(encoding="utf-8")
        body = highlight(code, get_lexer_for_filename(path.name), formatter)
        yield f"files/{path.as_posix()}", {"title": path.as_posix(), "body": f"<h1>{path}</h1>{body}"}, "page.html"


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("doctree-read", lead_into_the_site, priority=100)  # before downloads are collected
    app.connect("html-collect-pages", pages_of_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
