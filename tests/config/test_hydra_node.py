"""What launchers' nodes may say, and what is refused in them."""

import importlib.util

import pytest

from bbrl_exp.config.compose import Composer
from bbrl_exp.config.hydra_node import launcher_name
from bbrl_exp.config.options import default_config_dir
from bbrl_exp.errors import ConfigurationError

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("hydra_plugins.hydra_ray_launcher") is None, reason="needs the extra ray"
)
needs_slurm = pytest.mark.skipif(
    importlib.util.find_spec("hydra_plugins.hydra_submitit_launcher") is None, reason="needs the extra slurm"
)


def launcher(*overrides: str) -> str:
    with Composer(default_config_dir()) as composer:
        return launcher_name(composer.compose(overrides))


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        pytest.param(["launcher=local"], "basic", id="local"),
        pytest.param(["launcher=joblib", "hydra.launcher.n_jobs=2"], "joblib", id="joblib"),
        pytest.param(
            ["launcher=ray", "hydra.launcher.ray.init.num_cpus=2", "+hydra.launcher.ray.remote.num_gpus=1"],
            "ray",
            marks=needs_ray,
            id="ray",
        ),
        pytest.param(["launcher=ray", "hydra.launcher.ray.init.address=auto"], "ray", marks=needs_ray, id="cluster"),
        pytest.param(
            [
                "launcher=slurm",
                "hydra.launcher.partition=gpu",
                "hydra.launcher.gres='gpu:1'",
                "+hydra.launcher.additional_parameters={mail-type: END}",
            ],
            "submitit_slurm",
            marks=needs_slurm,
            id="slurm",
        ),
        pytest.param(["hydra/launcher=submitit_local"], "submitit_local", marks=needs_slurm, id="submitit_local"),
    ],
)
def test_what_a_launcher_needs_may_be_said(overrides: list[str], name: str) -> None:
    assert launcher(*overrides) == name


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["launcher=joblib", "hydra.launcher.pre_dispatch='exit()'"], "must be 2*n_jobs"),
        (["launcher=joblib", "hydra.launcher.temp_folder=elsewhere"], "must be null"),
        pytest.param(
            ["launcher=ray", "+hydra.launcher.ray.init.runtime_env={pip: [evil]}"],
            "'hydra.launcher.ray.init.runtime_env': not allowed; allowed: address,",
            marks=needs_ray,
        ),
        pytest.param(
            ["launcher=ray", "+hydra.launcher.ray.remote.runtime_env={env_vars: {A: b}}"],
            "'hydra.launcher.ray.remote.runtime_env': not allowed",
            marks=needs_ray,
        ),
        (["launcher=local", "+hydra.launcher.n_jobs=2"], "'hydra.launcher.n_jobs': not allowed; allowed: none"),
        pytest.param(
            ["launcher=slurm", "+hydra.launcher.srun_args=['--task-prolog=evil']"],
            "'hydra.launcher.srun_args': not allowed; allowed: account,",
            marks=needs_slurm,
        ),
        pytest.param(["launcher=slurm", "hydra.launcher.setup=[evil]"], "runs no commands", marks=needs_slurm),
        pytest.param(
            ["launcher=slurm", "hydra.launcher.submitit_folder=elsewhere/%j"], "sweep's folder", marks=needs_slurm
        ),
        pytest.param(
            ["launcher=slurm", "+hydra.launcher.additional_parameters={wrap: evil}"],
            "'hydra.launcher.additional_parameters.wrap': not allowed",
            marks=needs_slurm,
        ),
        pytest.param(
            ["launcher=slurm", "hydra.launcher.comment='a\nevil'"], "one line of printable", marks=needs_slurm
        ),
        pytest.param(
            ["launcher=slurm", "+hydra.launcher.additional_parameters={nice: '1\nevil'}"],
            "one line of printable",
            marks=needs_slurm,
        ),
    ],
)
def test_what_would_run_a_program_is_refused_with_its_key(overrides: list[str], complaint: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        launcher(*overrides)
    assert complaint in str(refused.value)
