"""Pages of the documentation as a reader uses them: their files in a folder outside the repository, their commands."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import prepared
from browser import Browser, programs

ROOT = Path(__file__).parents[2]
_FILE = re.compile(r"^`(\S+)`:\n\n```\w+\n(.*?)```", re.DOTALL | re.MULTILINE)
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Page:
    """A page of ``docs/``.

    Attributes:
        files: the contents of each file that the page shows below a line that is its name in backquotes and a colon.
        commands: its blocks of shell commands.
        snippets: its blocks of Python that are no files.
        dialogues: its blocks that show a command after ``$`` and what it prints.
    """

    files: dict[str, str]
    commands: list[str]
    snippets: list[str]
    dialogues: list[str]

    @classmethod
    def read(cls, name: str) -> Page:
        """The page ``docs/<name>``."""
        text = (ROOT / "docs" / name).read_text(encoding="utf-8")
        files, blocks = dict(_FILE.findall(text)), _BLOCK.findall(text)
        return cls(
            files,
            commands=[block for language, block in blocks if language == "sh"],
            snippets=[block for language, block in blocks if language == "python" and block not in files.values()],
            dialogues=[block for language, block in blocks if language == "text" and block.startswith("$ ")],
        )

    def write_files(self, folder: Path) -> None:
        """Writes the page's files into a folder."""
        for name, contents in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(contents, encoding="utf-8")


def run(folder: Path, command: str, *options: str, exit_code: int = 0) -> subprocess.CompletedProcess[str]:
    """Runs a command of a page in ``folder``, ``NAME=value … python <script> …`` or ``bbrl-exp …``, with more options.

    The script is one of the repository's, or a file of the page. The process begins as a new one, but for its imports.
    """
    words, variables = words_of(command, *options)
    return finished(prepared.run(words, folder, {**os.environ, **variables}), exit_code)


def lines_of(block: str) -> list[str]:
    """The commands of a block, one each, without comments."""
    lines = block.replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def words_of(command: str, *options: str) -> tuple[list[str], dict[str, str]]:
    """What follows ``python`` in a command of a page, with more options, and the variables that it sets."""
    words = shlex.split(command.replace("\\\n", " "), comments=True)
    program = next(index for index, word in enumerate(words) if word in ("python", "bbrl-exp"))
    variables = dict(word.split("=", 1) for word in words[:program])
    called, arguments = prepared.MODULE, words[program + 1 :]
    if words[program] == "python":
        script, *arguments = arguments
        called = [str(ROOT / script) if script.startswith("scripts/") else script]
    return [*called, *arguments, *options], variables


def finished(process: prepared.Process, exit_code: int = 0) -> subprocess.CompletedProcess[str]:
    """Waits for a process, which must end with an exit code, and gives what it has printed."""
    code = process.wait()
    assert code == exit_code, f"{process.stdout}\n{process.stderr}"
    return subprocess.CompletedProcess([], code, process.stdout, process.stderr)


def summary(folder: Path, name: str) -> dict[str, Any]:
    """The summary of the run ``name`` below ``folder``."""
    found: dict[str, Any] = json.loads((folder / "outputs" / name / "summary.json").read_text(encoding="utf-8"))
    return found


def job_summaries(folder: Path, name: str) -> list[dict[str, Any]]:
    """The summaries of the jobs of the sweep ``name`` below ``folder``, by the names of their folders."""
    paths = sorted((folder / "outputs" / "multirun" / name).glob("*/summary.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def picture(page: Path, anchor: str, name: str, height: int) -> None:
    """Puts a picture of a part of an HTML page into the folder BBRL_EXP_SCREENSHOTS, where that is set.

    Args:
        page: the HTML file.
        anchor: the heading with which the picture begins.
        name: of the picture, without ``.png``.
        height: of the picture, in pixels.
    """
    found = programs()
    if (pictures := os.environ.get("BBRL_EXP_SCREENSHOTS")) and found:
        browser = Browser(*found, ROOT / pictures)
        try:
            browser.open(f"{page.as_uri()}#{anchor}", width=1000, height=height)
            browser.screenshot(name)
        finally:
            browser.close()
