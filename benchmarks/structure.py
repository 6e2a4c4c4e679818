"""What the layout of the source is like, in numbers: which part of a package's lines is repeated from file to file.

    python benchmarks/structure.py [--package learners] [--show 20]

A line is repeated where the same line, indentation aside, is in three or more files of the package. Blank lines,
comments, lines that are only the quotes of a docstring, and imports are not counted.
"""

from __future__ import annotations

import argparse
import ast
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "bbrl_exp"
IN_AS_MANY_FILES = 3


def counted_lines(text: str) -> list[str]:
    """The lines of a module without their indentation; no blank lines, comments, bare quotes of docstrings, imports."""
    imports = {
        number
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    lines = [line.strip() for number, line in enumerate(text.splitlines(), 1) if number not in imports]
    return [line for line in lines if line and not line.startswith("#") and line not in ('"""', "'''")]


def repeated_lines(files: Iterable[Path]) -> tuple[Counter[str], int]:
    """The repeated lines with the number of their occurrences, and the number of all lines that are counted."""
    of_files = [counted_lines(path.read_text(encoding="utf-8")) for path in files]
    n_files = Counter(line for lines in of_files for line in set(lines))
    occurrences = Counter(line for lines in of_files for line in lines)
    repeated = Counter({line: n for line, n in occurrences.items() if n_files[line] >= IN_AS_MANY_FILES})
    return repeated, occurrences.total()


def files_of(package: str) -> list[Path]:
    """The modules of a package of ``bbrl_exp``, with those of the packages inside it."""
    return sorted((SOURCE / package).rglob("*.py"))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--package", default="learners", help="a package of bbrl_exp")
    parser.add_argument("--show", type=int, default=0, help="how many of the most frequent repeated lines to print")
    arguments = parser.parse_args()
    files = files_of(arguments.package)
    n_lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files)
    repeated, n_counted = repeated_lines(files)
    print("| package | files | lines | counted | repeated | part |")
    print("|---|---|---|---|---|---|")
    print(
        f"| {arguments.package} | {len(files)} | {n_lines} | {n_counted} | {repeated.total()} "
        f"| {repeated.total() / max(n_counted, 1):.1%} |"
    )
    for line, n in repeated.most_common(arguments.show):
        print(f"{n:6d}  {line}")


if __name__ == "__main__":
    main()
