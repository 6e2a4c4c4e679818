"""``[tool.bbrl_exp]`` is read from the working directory alone, and what cannot be used is one line."""

import dataclasses
import os
import sys
from pathlib import Path

import pytest

from bbrl_exp.config.project import VARIABLE, Project, current_project, own_config_dir, project_of, read_project
from bbrl_exp.config.targets import allowed_packages, find_target, import_allowed_packages
from bbrl_exp.errors import ConfigurationError

WHOLE = '[tool.bbrl_exp]\nallow = ["of_project", "other.part"]\npath = ["src", "."]\nconfig_dir = "conf"\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder with all that ``WHOLE`` names."""
    monkeypatch.delenv("BBRL_EXP_ALLOW", raising=False)
    monkeypatch.delenv(VARIABLE, raising=False)
    (tmp_path / "src").mkdir()
    (tmp_path / "conf").mkdir()
    (tmp_path / "pyproject.toml").write_text(WHOLE)
    return tmp_path


def test_a_project_says_which_packages_are_allowed_and_where_modules_and_options_are(folder: Path) -> None:
    project = read_project(folder)
    assert project == Project(
        file=str(folder / "pyproject.toml"),
        allow=("of_project", "other.part"),
        path=(str(folder / "src"), str(folder)),
        config_dir=str(folder / "conf"),
    )
    assert project.in_words == "pyproject.toml: allow of_project, other.part; path src, .; config_dir conf"


@pytest.mark.parametrize("text", ["", "[project]\nname = 'x'\n", "[tool.other]\nallow = ['x']\n", "tool = 3\n"])
def test_a_file_without_the_table_says_nothing(folder: Path, text: str) -> None:
    (folder / "pyproject.toml").write_text(text)
    assert read_project(folder) is None


def test_an_empty_table_is_a_project_that_adds_nothing(folder: Path) -> None:
    (folder / "pyproject.toml").write_text("[tool.bbrl_exp]\n")
    project = read_project(folder)
    assert project == Project(str(folder / "pyproject.toml"))
    assert project.in_words == "pyproject.toml: nothing"


def test_the_file_of_a_folder_above_is_not_read(folder: Path) -> None:
    assert read_project(folder / "src") is None


@pytest.mark.parametrize("mark", ["summary.json", ".hydra", "multirun.yaml", "sweep.json", "search.json"])
def test_the_file_in_the_folder_of_a_run_or_a_sweep_is_not_read_and_the_user_is_told(
    folder: Path, mark: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / mark).touch()
    assert read_project(folder) is None
    said = f"note: [tool.bbrl_exp] in pyproject.toml is not read in the folder of a run (it holds {mark})\n"
    assert capsys.readouterr().err == said
    (folder / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert read_project(folder) is None
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[tool.bbrl_exp]\nalow = []\n",
            "pyproject.toml: key 'tool.bbrl_exp.alow' is not known; did you mean 'allow'? "
            "allowed: allow, path, config_dir",
        ),
        (
            "[tool.bbrl_exp]\nfile = 'x'\n",
            "pyproject.toml: key 'tool.bbrl_exp.file' is not known; allowed: allow, path, config_dir",
        ),
        (
            "[tool.bbrl_exp]\nallow = 'mine'\n",
            "pyproject.toml: key 'tool.bbrl_exp.allow' = 'mine': must be a list of packages, such as [\"my_package\"]",
        ),
        (
            "[tool.bbrl_exp]\nallow = ['a,b']\n",
            "pyproject.toml: key 'tool.bbrl_exp.allow' = ['a,b']: must be a list of packages, such as [\"my_package\"]",
        ),
        (
            "[tool.bbrl_exp]\npath = 'src'\n",
            "pyproject.toml: key 'tool.bbrl_exp.path' = 'src': must be a list of folders, such as [\"src\"]",
        ),
        (
            "[tool.bbrl_exp]\npath = ['src', 'scr']\n",
            "pyproject.toml: key 'tool.bbrl_exp.path' = ['src', 'scr']: must be a list of folders that exist; "
            "'scr' does not",
        ),
        (
            "[tool.bbrl_exp]\nconfig_dir = ['conf']\n",
            "pyproject.toml: key 'tool.bbrl_exp.config_dir' = ['conf']: must be a folder that exists",
        ),
        (
            "[tool.bbrl_exp]\nconfig_dir = 'cnf'\n",
            "pyproject.toml: key 'tool.bbrl_exp.config_dir' = 'cnf': must be a folder that exists",
        ),
        ("[tool]\nbbrl_exp = true\n", "pyproject.toml: key 'tool.bbrl_exp' = true: must be a table"),
        (
            "[tool.bbrl_exp]\nallow = [\n",
            "pyproject.toml cannot be read: Invalid value (at end of document)",
        ),
    ],
)
def test_what_cannot_be_used_names_file_and_key(folder: Path, text: str, said: str) -> None:
    (folder / "pyproject.toml").write_text(text)
    with pytest.raises(ConfigurationError) as refused:
        read_project(folder)
    assert str(refused.value) == said


def test_a_file_that_is_no_text_is_refused(folder: Path) -> None:
    (folder / "pyproject.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match=r"^pyproject\.toml cannot be read: 'utf-8' codec can't decode"):
        read_project(folder)


def test_a_folder_or_a_link_to_nothing_in_place_of_the_file_is_an_error(folder: Path) -> None:
    file = folder / "pyproject.toml"
    file.unlink()
    file.mkdir()
    with pytest.raises(ConfigurationError, match=r"^pyproject\.toml cannot be read: Is a directory$"):
        read_project(folder)
    file.rmdir()
    file.symlink_to("missing.toml")
    with pytest.raises(ConfigurationError, match=r"^pyproject\.toml cannot be read: No such file or directory$"):
        read_project(folder)


def test_packages_of_the_project_are_allowed_besides_those_of_the_environment_variable(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BBRL_EXP_ALLOW", "mine,of_project")
    with project_of(folder):
        assert allowed_packages() == ("mine", "of_project", "other.part")
    assert allowed_packages() == ("mine", "of_project")


def test_modules_of_the_project_are_found_after_pythonpath_and_the_standard_library_and_before_installed_ones(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    standard = os.path.dirname(os.__file__)
    before = ["/script", "/pythonpath", standard, f"{standard}/lib-dynload", "/site-packages"]
    monkeypatch.setattr(sys, "path", before[:])
    with project_of(folder):
        assert sys.path == [*before[:4], str(folder / "src"), str(folder), "/site-packages"]
    assert sys.path == before


def test_classes_of_the_project_are_found_while_it_is_in_effect(folder: Path) -> None:
    (folder / "src" / "of_project.py").write_text("class Mine: ...\n")
    (folder / "pyproject.toml").write_text('[tool.bbrl_exp]\nallow = ["of_project"]\npath = ["src"]\n')
    with project_of(folder):
        assert find_target("of_project.Mine", "key").__name__ == "Mine"
    with pytest.raises(ConfigurationError, match=r"not allowed; .* or by allow in \[tool\.bbrl_exp\] of pyproject"):
        find_target("of_project.Mine", "key")


def test_an_allowed_package_that_cannot_be_imported_is_named_with_the_file(folder: Path) -> None:
    (folder / "pyproject.toml").write_text('[tool.bbrl_exp]\nallow = ["not_there"]\n')
    said = r"^pyproject\.toml: key 'tool\.bbrl_exp\.allow' names 'not_there', which cannot be imported: ModuleNotFound"
    with project_of(folder), pytest.raises(ConfigurationError, match=said):
        import_allowed_packages()


def test_a_typed_folder_of_options_takes_the_place_of_the_projects(folder: Path) -> None:
    assert own_config_dir(None) is None
    with project_of(folder):
        assert own_config_dir(None) == folder / "conf"
        assert own_config_dir(Path("typed")) == Path("typed")


def test_what_another_command_left_in_the_environment_is_no_project(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with project_of(folder):
        text, project = os.environ[VARIABLE], current_project()
    assert project is not None
    assert set(dataclasses.asdict(project)) == {"file", "allow", "path", "config_dir"}
    monkeypatch.setenv(VARIABLE, text)
    with project_of(folder / "src"):
        assert current_project() is None
