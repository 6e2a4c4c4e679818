"""Compiled code is kept where nobody else can write, and read from nowhere else."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from bbrl_exp.compilation.cache import cache_folder, delete_temporary, use_cache, why_not_ours
from bbrl_exp.compilation.compiler import Compiler


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for variable in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        monkeypatch.setenv(variable, "elsewhere")
    found = cache_folder("compile")
    assert found is not None
    return found


def test_the_folder_is_below_the_cache_home_of_the_user(tmp_path: Path) -> None:
    assert cache_folder("numba", {"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "bbrl_exp" / "numba"
    assert cache_folder("compile", {}) == Path.home() / ".cache" / "bbrl_exp" / "compile"
    assert cache_folder("compile", {"XDG_CACHE_HOME": "relative"}) == cache_folder("compile", {})


def test_a_user_without_a_home_gets_a_temporary_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    assert cache_folder("compile") == folder
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder("compile") is None
    assert use_cache(None) == "there is no home folder (set XDG_CACHE_HOME)"
    temporary = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).parent
    assert temporary.stat().st_mode & 0o777 == 0o700
    delete_temporary()
    assert not temporary.exists()


def test_the_folder_is_made_for_the_user_alone_and_the_compiler_uses_it(folder: Path) -> None:
    assert use_cache(folder) is None
    assert [each.stat().st_mode & 0o777 for each in (folder, folder.parent)] == [0o700, 0o700]
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(folder / "inductor")
    assert os.environ["TRITON_CACHE_DIR"] == str(folder / "triton")
    folder.chmod(0o755)
    assert why_not_ours(folder) is None
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["compile", "bbrl_exp"])
def test_a_folder_that_others_can_write_to_is_not_used(folder: Path, name: str) -> None:
    folder.mkdir(parents=True)
    shared = folder if name == "compile" else folder.parent
    shared.chmod(0o777)
    assert why_not_ours(folder) == f"others can write to {shared} (chmod 700 {shared})"
    assert use_cache(folder) is not None
    used = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).parent
    assert used.stat().st_mode & 0o777 == 0o700
    assert folder not in used.parents


def test_a_cache_home_that_others_can_write_to_is_not_used(folder: Path) -> None:
    home = folder.parent.parent
    home.mkdir()
    home.chmod(0o777)
    assert why_not_ours(folder) == f"others can write to {home}"
    home.chmod(0o1777)  # where only the owner of a folder can rename it
    assert why_not_ours(folder) is None


def test_a_folder_of_somebody_else_is_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(parents=True, mode=0o700)
    folder.parent.chmod(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert why_not_ours(folder) == f"{folder.parent} belongs to another user"


def test_a_link_and_a_file_are_not_used(folder: Path, tmp_path: Path) -> None:
    folder.parent.mkdir(parents=True, mode=0o700)
    (tmp_path / "other").mkdir()
    folder.symlink_to(tmp_path / "other")
    assert why_not_ours(folder) == f"{folder} is not a folder"
    folder.unlink()
    folder.write_text("")
    assert why_not_ours(folder) == f"{folder}: File exists"


class FailsOnce(Compiler):
    """Compiles no graph in the folder that is kept."""

    def compile(self, graph: torch.fx.GraphModule, examples: Sequence[Tensor], *, trusts_processor: bool = True) -> Any:
        if trusts_processor:
            raise OSError("no space left")
        return graph


def test_where_the_folder_fails_a_graph_is_compiled_in_a_temporary_one(folder: Path) -> None:
    compiler = FailsOnce("cpu")
    example = torch.ones(2)
    compiled = compiler(lambda: (make_fx(torch.exp)(example), [example]))
    assert torch.equal(compiled(example), example.exp())  # type: ignore[arg-type]
    assert compiler.complaints() == [
        f"compile: a graph could not be compiled in {folder} (OSError), so that no more code is kept in this run; if "
        "this comes again, delete that folder"
    ]
    temporary = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).parent
    assert temporary.is_dir()
    assert temporary != folder
    delete_temporary()
    assert not temporary.exists()
