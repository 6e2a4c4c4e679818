"""What the layout of the source is like, in numbers.

    python benchmarks/structure.py packages                    # lines of each package, and its share
    python benchmarks/structure.py repeated [--package learners] [--show 20]
    python benchmarks/structure.py path [agent=ppo env=cartpole …] [--show]

``repeated``: a line is repeated where the same line, indentation aside, is in three or more files of the package. Blank
lines, comments, lines that are only the quotes of a docstring, and imports are not counted.

``path``: what a reader passes from the command to the first step of an optimiser: the files of bbrl_exp in which a
function runs, the functions, and their lines that run, each once. What runs while a module is imported is left out,
and so are comprehensions, generator expressions and lambdas, which are read where they are written.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

SOURCE = Path(__file__).parents[1] / "src" / "bbrl_exp"
IN_AS_MANY_FILES = 3
_OWN_SCOPE = 0x2  # a function's, and not a class body's (inspect.CO_NEWLOCALS)


def lines_of_packages() -> Counter[str]:
    """The lines of each package, and of each module beside them."""
    lines: Counter[str] = Counter()
    for path in SOURCE.rglob("*.py"):
        lines[path.relative_to(SOURCE).parts[0]] += len(path.read_text(encoding="utf-8").splitlines())
    return lines


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


class _Arrived(BaseException):
    """The optimiser is about to take its first step."""


class StepPath:
    """What runs between the command and the first step of an optimiser.

    Attributes:
        functions: file and qualified name of each function.
        lines: file and number of each line.
    """

    def __init__(self) -> None:
        self.functions: set[tuple[str, str]] = set()
        self.lines: set[tuple[str, int]] = set()

    @property
    def files(self) -> dict[str, int]:
        """The files, with the number of their functions."""
        return dict(Counter(file for file, _ in self.functions))

    def follow(self, overrides: list[str]) -> None:
        """Runs ``scripts/run.py`` with these overrides, up to the first step."""
        import torch

        from bbrl_exp.commands.run import main

        def arrive(*_: Any, **__: Any) -> None:
            sys.settrace(None)
            raise _Arrived

        for kind in (torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.SGD):
            kind.step = arrive  # type: ignore[method-assign]
        sys.settrace(self._entered)
        with contextlib.suppress(_Arrived):
            main(overrides)

    def _entered(self, frame: FrameType, event: str, argument: object) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(str(SOURCE)) or not code.co_flags & _OWN_SCOPE or _imports(frame):
            return None
        if not code.co_name.startswith("<"):
            self.functions.add((code.co_filename, code.co_qualname))
        self._ran(frame, "line", None)
        return self._ran

    def _ran(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "line":
            self.lines.add((frame.f_code.co_filename, frame.f_lineno))
        return self._ran


def _imports(frame: FrameType | None) -> bool:
    """Whether a frame runs because a module of bbrl_exp is being imported."""
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_code.co_filename.startswith(str(SOURCE)):
            return True
        frame = frame.f_back
    return False


def _show_packages(_: argparse.Namespace) -> Iterator[str]:
    lines = lines_of_packages()
    yield "| package | lines | share |"
    yield "|---|---|---|"
    for name, n in lines.most_common():
        yield f"| {name} | {n:,} | {n / lines.total():.1%} |"
    yield f"| all | {lines.total():,} | |"


def _show_repeated(arguments: argparse.Namespace) -> Iterator[str]:
    files = files_of(arguments.package)
    repeated, n_counted = repeated_lines(files)
    yield "| package | files | counted lines | repeated | share |"
    yield "|---|---|---|---|---|"
    share = repeated.total() / max(n_counted, 1)
    yield f"| {arguments.package} | {len(files)} | {n_counted:,} | {repeated.total():,} | {share:.1%} |"
    yield from (f"{n:6d}  {line}" for line, n in repeated.most_common(arguments.show))


def _show_path(arguments: argparse.Namespace) -> Iterator[str]:
    path = StepPath()
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        path.follow([*(arguments.overrides or ["agent=ppo", "env=cartpole"]), f"hydra.run.dir={folder}/run"])
    yield "| files | functions | lines that run |"
    yield "|---|---|---|"
    yield f"| {len(path.files)} | {len(path.functions)} | {len(path.lines):,} |"
    if arguments.show:
        for file, n in sorted(path.files.items()):
            yield f"{n:4d}  {Path(file).relative_to(SOURCE)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(required=True)
    packages = commands.add_parser("packages", help="lines of each package")
    packages.set_defaults(show_rows=_show_packages)
    repeated = commands.add_parser("repeated", help="lines that are in three or more files of a package")
    repeated.add_argument("--package", default="learners", help="a package of bbrl_exp")
    repeated.add_argument("--show", type=int, default=0, help="how many of the most frequent repeated lines to print")
    repeated.set_defaults(show_rows=_show_repeated)
    path = commands.add_parser("path", help="from the command to the first step of an optimiser")
    path.add_argument("overrides", nargs="*", help="of the run, agent=ppo env=cartpole if not given")
    path.add_argument("--show", action="store_true", help="list the files")
    path.set_defaults(show_rows=_show_path)
    arguments = parser.parse_args()
    for line in arguments.show_rows(arguments):
        print(line)


if __name__ == "__main__":
    main()
