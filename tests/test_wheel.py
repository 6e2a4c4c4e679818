"""An installed wheel is complete: the program, the configuration and the page of reports, and it runs from anywhere."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from bbrl_exp.config.options import default_config_dir

ROOT = Path(__file__).parents[1]
BUILD = (
    "import json, sys; from setuptools import build_meta; what, folder, settings = sys.argv[1:]; "
    "print(getattr(build_meta, f'build_{what}')(folder, json.loads(settings)))"
)
SHORT = ["agent=random", "env=cartpole", "total_steps=192", "agent.steps_per_chunk=8"]


def built(what: str, source: Path, folder: Path, settings: Mapping[str, str] | None = None) -> Path:
    """Builds ``what``, a wheel or an sdist or what pip installs of an editable one, as pip does without isolation."""
    command = [sys.executable, "-c", BUILD, what, str(folder), json.dumps(settings or {})]
    ended = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return folder / ended.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a build needs of this repository, outside it."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in ("src", "conf"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("wheel", source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which the wheel, in a folder of its own, comes before this repository."""
    folder = tmp_path_factory.mktemp("installed")
    install = ["pip", "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", "--target"]
    subprocess.run([sys.executable, "-m", *install, str(folder), str(wheel)], check=True)
    programs = [str(folder / "bin"), os.path.dirname(sys.executable), os.environ["PATH"]]
    return {**os.environ, "PYTHONPATH": str(folder), "PATH": os.pathsep.join(programs)}


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as file:
        return {name for name in file.namelist() if ".dist-info/" not in name}


def test_a_wheel_holds_every_file_of_the_package_and_of_the_configuration(source: Path, wheel: Path) -> None:
    package = source / "src"
    files = {path.relative_to(package).as_posix() for path in package.glob("bbrl_exp/**/*") if path.is_file()}
    conf = {f"bbrl_exp/{path.relative_to(source).as_posix()}" for path in source.glob("conf/**/*.yaml")}
    assert {"bbrl_exp/py.typed", "bbrl_exp/reports/page.html"} <= files
    assert {"bbrl_exp/conf/config.yaml", "bbrl_exp/conf/agent/ppo.yaml"} <= conf
    assert names_in(wheel) == {name for name in files if "__pycache__" not in name} | conf


def test_the_wheel_of_a_source_distribution_is_the_same(source: Path, wheel: Path, tmp_path: Path) -> None:
    archive = built("sdist", source, tmp_path)
    shutil.unpack_archive(archive, tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    again = built("wheel", unpacked, tmp_path)
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
        assert names_in(wheel) == names_in(again)
        assert all(one.read(name) == other.read(name) for name in names_in(wheel))


def test_the_installed_program_runs_in_an_empty_folder_and_resumes_by_what_it_prints(
    installed: dict[str, str], tmp_path: Path
) -> None:
    def call(command: str) -> str:
        ended = subprocess.run(
            ["sh", "-c", command], cwd=tmp_path, env=installed, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    out = call(f"bbrl-exp run {' '.join(SHORT)} pause_after=64")
    (line,) = (line for line in out.splitlines() if line.startswith("to resume: "))
    assert " bbrl-exp run agent=random " in line
    assert "resumes after 64 environment steps" in call(line.removeprefix("to resume: "))
    assert call("bbrl-exp run agent=random env=cartpole total_steps=64 name=a").splitlines()[-1].endswith("outputs/a")
    call("bbrl-exp rerun outputs/a seed=1 name=b && bbrl-exp report outputs && python -m bbrl_exp list agent ppo")
    assert (tmp_path / "outputs" / "report" / "index.html").is_file()
    code = "from bbrl_exp.config.options import default_config_dir; print(default_config_dir())"
    assert call(f'python -P -c "{code}"').strip() == f"{installed['PYTHONPATH']}/bbrl_exp/conf"


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_the_installed_program(installed: dict[str, str], tmp_path: Path) -> None:
    line = "bbrl-exp run experiment=ppo_cart"
    program = f"""
    eval "$(bbrl-exp -sc install=bash)"
    COMP_LINE={shlex.quote(line)} COMP_POINT={len(line)} COMP_WORDS=({line}) COMP_CWORD=2
    hydra_bash_completion
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    ended = subprocess.run(
        ["bash", "-c", program], cwd=tmp_path, env=installed, capture_output=True, text=True, check=False
    )
    assert ended.stdout.split() == ["experiment=ppo_cartpole"], ended.stderr


def test_a_checkout_uses_its_own_configuration() -> None:
    assert default_config_dir() == ROOT / "conf"


@pytest.mark.parametrize("mode", ["lenient", "strict"])
def test_an_editable_install_uses_the_configuration_of_the_checkout(mode: str, source: Path, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    shutil.copytree(source, checkout, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    with zipfile.ZipFile(built("editable", checkout, tmp_path, {"editable_mode": mode})) as file:
        file.extractall(tmp_path / "site")
    code = (
        f"import site, sys; site.addsitedir({str(tmp_path / 'site')!r}); "
        f"sys.path.sort(key=lambda entry: not entry.startswith({str(tmp_path)!r})); "
        "from bbrl_exp.config.options import default_config_dir; print(default_config_dir())"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    folder = Path(found.stdout.strip())
    assert folder.is_relative_to(checkout)
    assert (folder / "agent" / "ppo.yaml").resolve() == checkout / "conf" / "agent" / "ppo.yaml"
