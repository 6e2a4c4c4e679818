"""A configuration from anywhere runs no code but that of allowed classes, and writes nowhere but in the run's folder.

Every attack would make ``owned`` in the current folder. It is refused in one line, exit code 2, and nothing is made.
"""

import hashlib
import os
import pickle
from pathlib import Path

import pytest

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.runs.policy import load_policy
from bbrl_exp.runs.run import run

from .conftest import CommandLine

MKDIR = "{_target_: os.mkdir, path: owned}"
TRAP = "{_target_: booby_trap.Agent}"
HANDLERS = "handlers: {a: {(): os.mkdir, path: owned}}"


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module on the path that makes ``owned`` when somebody imports it; gives the current folder."""
    path = tmp_path / "path"
    path.mkdir()
    (path / "booby_trap").mkdir()
    (path / "booby_trap" / "__init__.py").write_text(
        "import pathlib, gymnasium\n"
        "from bbrl_exp.agents.agent import Agent\n"
        "pathlib.Path('owned').mkdir()\n"
        "gymnasium.register('Trap-v0', lambda: None)\n"
    )
    (path / "booby_trap" / "config.yaml").write_text("seed: 1\n")
    monkeypatch.syspath_prepend(path)
    monkeypatch.delenv("BBRL_EXP_ALLOW", raising=False)
    return tmp_path


def assert_refused(command_line: CommandLine, folder: Path, arguments: list[str], parts: list[str]) -> None:
    there = set(folder.iterdir())
    ended = command_line(*arguments)
    assert (ended.code, ended.err.count("\n")) == (2, 1), ended.out + ended.err
    assert ended.err.startswith("error: ")
    for part in parts:
        assert part in ended.err
    assert set(folder.iterdir()) == there


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        # Targets wherever a configuration has room for one.
        (["agent.members.policy={_target_: os.mkdir}"], ["'agent.members.policy._target_' = 'os.mkdir'", "allowed"]),
        ([f"agent.members.policy.seed={MKDIR}"], ["'agent.members.policy.seed._target_'", "not allowed"]),
        ([f"+agent.members.policy.x=[[{{a: {MKDIR}}}]]"], ["policy.x.0.0.a._target_' = 'os.mkdir'"]),
        ([f"+agent.extra={MKDIR}"], ["'agent.extra'"]),
        ([f"agent.learner={MKDIR}"], ["'agent.learner._target_' = 'os.mkdir'"]),
        ([f"+env.kwargs.x={MKDIR}"], ["'env.kwargs.x._target_' = 'os.mkdir'"]),
        ([f"+env.wrappers.w={MKDIR}"], ["'env.wrappers.w._target_' = 'os.mkdir'"]),
        ([f"env.id={MKDIR}"], ["'env.id._target_' = 'os.mkdir'"]),
        ([f"env.info_keys={MKDIR}"], ["'env.info_keys._target_' = 'os.mkdir'"]),
        ([f"seed={MKDIR}"], ["'seed'"]),
        ([f"eval.episodes={MKDIR}"], ["'eval.episodes'"]),
        ([f"tracking.csv={MKDIR}"], ["'tracking.csv'"]),
        ([f"+new={MKDIR}"], ["'new' is not known"]),
        (["graph={_target_: os.mkdir}"], ["'graph._target_' = 'os.mkdir'"]),
        (["graph.agent={_target_: os.mkdir}"], ["'graph.agent._target_' = 'os.mkdir'"]),
        # Targets put together by interpolations, and one that only importing would make bad.
        (["agent.members.policy._target_=${name}", "name=os.mkdir"], ["'os.mkdir'", "not allowed"]),
        (["agent.members.policy._target_=os.${oc.decode:mkdir}"], ["'os.mkdir'", "not allowed"]),
        ([f"agent.members.policy={TRAP}"], ["'booby_trap.Agent'", "not allowed"]),
        (
            ["agent.members.policy={_target_: bbrl_exp.agents.agent.nn.Module}"],
            ["must be an Agent"],
        ),
        (
            ["agent.members.policy={_target_: bbrl_exp.commands.run.run}"],
            ["'bbrl_exp.commands.run.run'", "not allowed"],
        ),
        (["agent.members.policy={_target_: torch.nn.modules.module.torch.load}"], ["must be a class"]),
        (["agent.members.policy={_target_: torch.nn.os.mkdir}"], ["'torch.nn.os.mkdir'"]),
        (["agent.members.policy={_target_: bbrl_exp.envs.make.EnvRecipe.__call__}"], ["'__call__'"]),
        (["agent.members.policy={_target_: bbrl_exp.agents.agent.Agent.__subclasses__}"], ["'__subclasses__'"]),
        # Hydra's own keys of a node.
        (["+agent.members.policy._args_=[1]"], ["_args_' is not supported"]),
        (["+agent.members.policy._partial_=true"], ["_partial_' is not supported"]),
        (["+agent.members.policy._convert_=all"], ["_convert_' is not supported"]),
        (["+agent.members.policy._recursive_=false"], ["_recursive_' is not supported"]),
        # Environments.
        (["env.id=booby_trap:Trap-v0"], ["'env.id' = 'booby_trap:Trap-v0'", "refused"]),
        (["env.agent.env=booby_trap:Trap-v0"], ["booby_trap:Trap-v0", "refused"]),
        (["env=gym", "env.id=CartPole-v1", "+env.kwargs.id=booby_trap:Trap-v0"], ["cannot be made"]),
        (["env=gym", "env.id=CartPole-v1", "+env.kwargs.entry_point=booby_trap:Agent"], ["cannot be made"]),
        (["env=gym", "env.id=GymV26Environment-v0", "+env.kwargs.env_id=booby_trap:Trap-v0"], ["GymV26Environment"]),
        (["+env.wrappers.w={_target_: gymnasium.wrappers.RecordVideo, video_folder: owned}"], ["it writes files"]),
        (
            ["+env.wrappers.w={_target_: gymnasium.wrappers.rendering.RecordVideo, video_folder: owned}"],
            ["it writes files"],
        ),
        (
            ["+env.wrappers.w={_target_: gymnasium.wrappers.TransformReward, func: os.mkdir}"],
            ["'env.wrappers.w.func' = 'os.mkdir'"],
        ),
        ([f"+env.wrappers.w={{_target_: gymnasium.wrappers.TransformReward, func: {MKDIR}}}"], ["func._target_'"]),
        # What Hydra would call, set or write.
        ([f"+hydra.callbacks.x={MKDIR}"], ["'hydra.callbacks'"]),
        (["-m", "hydra.launcher._target_=os.getcwd"], ["'hydra.launcher._target_'"]),
        (["-m", "launcher=joblib", "hydra.launcher.temp_folder=owned"], ["'hydra.launcher.temp_folder' = 'owned'"]),
        (["-m", "launcher=joblib", "hydra.launcher.pre_dispatch=print"], ["'hydra.launcher.pre_dispatch'"]),
        (["hydra/sweeper=basic", "hydra.sweeper._target_=os.getcwd"], ["'hydra.sweeper._target_'"]),
        (["+hydra.job.env_set.BBRL_EXP_ALLOW=booby_trap"], ["'hydra.job.env_set'"]),
        (["-m", "+hydra.job.env_set.BBRL_EXP_ALLOW=booby_trap"], ["'hydra.job.env_set'"]),
        (["+hydra.job.env_set.PYTHONPATH=."], ["'hydra.job.env_set'"]),
        (["hydra.output_subdir=../../owned"], ["'hydra.output_subdir'"]),
        (["hydra.output_subdir=null"], ["'hydra.output_subdir'"]),
        (["hydra.job_logging.root={handlers: [a]}"], ["'hydra/job_logging'"]),
        (["-m", "hydra.sweep.subdir=../../owned"], ["'hydra.sweep.subdir'"]),
        (["hydra.searchpath=[pkg://booby_trap]"], ["'hydra.searchpath'", "pkg://booby_trap"]),
        (["-m", "hydra.searchpath=[pkg://booby_trap]"], ["'hydra.searchpath'"]),
        (["--cfg", "job", "hydra.searchpath=[pkg://booby_trap]"], ["'hydra.searchpath'"]),
        (["--info", "searchpath", "hydra.searchpath=[pkg://booby_trap]"], ["'hydra.searchpath'"]),
        (["name=../owned"], ["'name' = '../owned'"]),
        (["name=owned/x"], ["'name' = 'owned/x'"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_an_attack_on_the_command_line_is_refused(
    arguments: list[str], parts: list[str], trap: Path, command_line: CommandLine
) -> None:
    assert_refused(command_line, trap, arguments, parts)


@pytest.mark.parametrize("multirun", [[], ["-m"]], ids=["run", "sweep"])
@pytest.mark.parametrize(
    ("yaml", "part"),
    [
        ("hydra: {job: {env_set: {BBRL_EXP_ALLOW: booby_trap}}}", "'hydra.job.env_set'"),
        ("hydra: {output_subdir: ../../owned}", "'hydra.output_subdir'"),
        # Nothing when it is looked at, a number once the job has one.
        (f"hydra: {{job_logging: {{root: '${{oc.select:hydra.job.num}}', {HANDLERS}}}}}", "'hydra/job_logging'"),
        (f"hydra: {{hydra_logging: {{root: '${{oc.select:hydra.job.num}}', {HANDLERS}}}}}", "'hydra/hydra_logging'"),
        (f"hydra: {{job_logging: {{{HANDLERS}}}}}", "'hydra/job_logging'"),
        ("hydra: {callbacks: '${oc.select:hydra.job.num}'}", "hydra.callbacks"),
        ("hydra: {launcher: {_target_: '${oc.env:WHERE,os.getcwd}'}}", "'hydra.launcher._target_'"),
        (f"seed: {MKDIR}", "'seed'"),
        ("seed: !!python/object/apply:os.mkdir [owned]", "python/object"),
        (f"agent: {{members: {{extra: {TRAP}}}}}", "'agent.members.extra._target_'"),
        ("agent: {members: {extra: {_target_: '${target}'}}}\ntarget: os.mkdir", "'target' is not known"),
    ],
)
def test_an_attack_in_yaml_is_refused(
    yaml: str, part: str, multirun: list[str], trap: Path, command_line: CommandLine
) -> None:
    (trap / "mine" / "experiment").mkdir(parents=True)
    (trap / "mine" / "experiment" / "evil.yaml").write_text(f"# @package _global_\n{yaml}\n")
    assert_refused(command_line, trap, [*multirun, "--config-dir", "mine", "experiment=evil"], [part])


@pytest.mark.parametrize("places", ["[pkg://booby_trap]", "['${scheme}://booby_trap']"])
@pytest.mark.parametrize("arguments", [[], ["-m"], ["--cfg", "job"], ["--info", "searchpath"]], ids=" ".join)
def test_a_root_file_that_searches_a_package_is_refused(
    arguments: list[str], places: str, trap: Path, command_line: CommandLine
) -> None:
    (trap / "mine").mkdir()
    (trap / "mine" / "evil.yaml").write_text(
        f"defaults: [config, _self_]\nhydra: {{searchpath: {places}}}\nscheme: pkg\n"
    )
    assert_refused(
        command_line, trap, [*arguments, "--config-dir", "mine", "--config-name", "evil"], ["'hydra.searchpath'"]
    )


def test_a_class_that_an_allowed_package_only_imports_is_refused(
    trap: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (trap / "path" / "allowed.py").write_text("from subprocess import Popen\nfrom os import mkdir\nimport os\n")
    monkeypatch.setenv("BBRL_EXP_ALLOW", "allowed")
    for target in ("allowed.Popen", "allowed.mkdir", "allowed.os.mkdir"):
        arguments = [f"agent.members.policy={{_target_: {target}}}"]
        assert_refused(command_line, trap, arguments, [f"'{target}'"])


def test_a_policy_that_is_a_pickle_is_not_loaded(trap: Path, command_line: CommandLine) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, ("owned",)

    assert command_line("agent=reinforce", "name=x", "total_steps=64", "batch_size=2", "tracking=none").code == 0
    path = trap / "outputs" / "x" / "checkpoints" / "last.pt"
    bomb = pickle.dumps(Bomb(), protocol=2)
    path.write_bytes(bomb)
    path.with_name("last.pt.sha256").write_text(f"{hashlib.sha256(bomb).hexdigest()}  last.pt\n")
    assert_refused(command_line, trap, ["agent=reinforce", "init_from=outputs/x"], ["last.pt"])
    with pytest.raises(ConfigurationError, match=r"last\.pt"):
        load_policy(trap / "outputs" / "x")
    assert not (trap / "owned").exists()


def test_the_configuration_in_the_folder_of_a_foreign_run_is_checked_too(trap: Path, command_line: CommandLine) -> None:
    assert command_line("name=x", "total_steps=64", "batch_size=2", "tracking=none").code == 0
    path = trap / "outputs" / "x" / ".hydra" / "config.yaml"
    path.write_text(path.read_text().replace("bbrl_exp.policies.random.RandomAgent", "booby_trap.Agent"))
    with pytest.raises(ConfigurationError, match=r"'booby_trap\.Agent': not allowed"):
        load_policy(trap / "outputs" / "x")
    assert not (trap / "owned").exists()


def test_from_python_an_attack_is_refused_as_well(trap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trap)
    with pytest.raises(ConfigurationError, match="not allowed"):
        run(["agent.members.policy={_target_: os.mkdir}"])
    assert {path.name for path in trap.iterdir()} == {"path"}
