"""The one step of a build that ``pyproject.toml`` cannot say: a wheel carries ``conf/`` as ``bbrl_exp/conf/``.

An editable install uses the folder of the checkout.
"""

import shutil
from pathlib import Path
from typing import ClassVar

from setuptools import Command, setup
from setuptools.command.build import build


class BuildConf(Command):
    """Copies the configuration into the package that is built."""

    description = "copy conf/ into the package"
    editable_mode = False

    def initialize_options(self) -> None:
        self.build_lib: str | None = None

    def finalize_options(self) -> None:
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))

    def run(self) -> None:
        if not self.editable_mode:
            shutil.rmtree(f"{self.build_lib}/bbrl_exp/conf", ignore_errors=True)  # what an earlier build left
            for target, source in self.get_output_mapping().items():
                self.mkpath(str(Path(target).parent))
                self.copy_file(source, target)

    def get_source_files(self) -> list[str]:
        return sorted(path.as_posix() for path in Path("conf").rglob("*.yaml"))

    def get_outputs(self) -> list[str]:
        return list(self.get_output_mapping())

    def get_output_mapping(self) -> dict[str, str]:
        return {f"{self.build_lib}/bbrl_exp/{source}": source for source in self.get_source_files()}


class Build(build):
    """The usual build, and the configuration."""

    sub_commands: ClassVar = [*build.sub_commands, ("build_conf", None)]


setup(cmdclass={"build": Build, "build_conf": BuildConf})
