"""Lists the public names of a package from its source, as JSON: how ``names_of_bbrl.json`` was made.

python list_public_names.py <site-packages>/bbrl <site-packages>/bbrl_utils > names_of_bbrl.json
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path


def public_names(package: Path) -> dict[str, list[str]]:
    """Module → its public names; a method as ``Class.method``. What a package's ``__init__`` imports counts, too."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if not parts[-1].startswith("_version"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found[module] = sorted(set(_names(tree, is_init=path.name == "__init__.py")))
    return found


def _names(tree: ast.Module, *, is_init: bool) -> Iterator[str]:
    # Names that are defined in a branch, such as after a failed import, count as well; loop variables do not.
    for node in [*tree.body, *(part for each in tree.body if isinstance(each, ast.Try) for part in each.body)]:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name
            if isinstance(node, ast.ClassDef):
                yield from _methods(node)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name) and not target.id.startswith("_"):
                    yield target.id
        elif isinstance(node, ast.ImportFrom) and is_init:
            yield from (alias.asname or alias.name for alias in node.names if not alias.name.startswith("_"))


def _methods(node: ast.ClassDef) -> Iterator[str]:
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and not part.name.startswith("_"):
            yield f"{node.name}.{part.name}"


if __name__ == "__main__":
    names: dict[str, list[str]] = {}
    for package in sys.argv[1:]:
        names |= public_names(Path(package))
    sys.stdout.write(json.dumps(names, indent=1) + "\n")
