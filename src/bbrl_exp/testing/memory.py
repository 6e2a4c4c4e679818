"""Whether an agent that remembers does so correctly: call these functions in your own tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from bbrl_exp.agents.agent import Agent
from bbrl_exp.arguments import AT_LEAST_1
from bbrl_exp.config.check import CheckedRun, check
from bbrl_exp.envs.environment_agent import EnvironmentAgent
from bbrl_exp.envs.spec import EnvSpec
from bbrl_exp.learners.learner import Learner
from bbrl_exp.runs.run import open_composer
from bbrl_exp.testing import agreement, resets, stored
from bbrl_exp.testing.report import MemoryReport
from bbrl_exp.testing.subject import BuiltSubject, ConfiguredSubject, Subject, repeatable
from bbrl_exp.testing.trial import Trial


def check_memory(
    overrides: Sequence[str],
    *,
    extra_dir: str | os.PathLike[str] | None = None,
    config_dir: str | os.PathLike[str] | None = None,
) -> MemoryReport:
    """Checks the memory of the agent of a configuration, as ``bbrl-exp check-memory`` does; writes nothing.

    Args:
        overrides: such as ``["agent=recurrent_ppo", "env=masked_cartpole"]``.
        extra_dir: your folder of options, as ``--config-dir``.
        config_dir: the configuration folder; None for the one of this package.

    Returns:
        What was found. For an agent without a memory it has no checks.

    Raises:
        AssertionError: a check failed; the message is the table.
        ConfigurationError: the configuration cannot be used.
    """
    with open_composer(config_dir, extra_dir) as composer:
        checked = check(composer.compose(overrides))
    return _asserted(report_on_run(checked))


def check_agent_memory(
    make: Callable[[EnvSpec], Agent],
    environments: EnvironmentAgent,
    *,
    make_learner: Callable[[Agent], Learner] | None = None,
    steps_per_chunk: int = 16,
) -> MemoryReport:
    """Checks the memory of agents that a function builds.

    Args:
        make: builds all agents but the environments, in the order in which they run, always with the same parameters
            where it draws from the global generators; it is called several times.
        environments: where they act; their observations are recorded while actions are drawn at random.
        make_learner: builds the learner of the agent that ``make`` has built; None to check without updates.
        steps_per_chunk: time steps between two updates.

    Returns:
        What was found. For an agent without a memory it has no checks.

    Raises:
        AssertionError: a check failed; the message is the table.
        ConfigurationError: an argument that cannot be used.
    """
    AT_LEAST_1.check(steps_per_chunk=steps_per_chunk)
    label = f"{getattr(make, '__name__', type(make).__name__)} in {environments.env_spec.env_id}"
    subject = BuiltSubject(label, make, environments, make_learner, steps_per_chunk)
    return _asserted(report_on(subject))


def report_on_run(run: CheckedRun) -> MemoryReport:
    """What is found of the agent of a checked configuration, failures included.

    Raises:
        ConfigurationError: the configuration cannot be used.
    """
    with repeatable():
        return report_on(ConfiguredSubject.of(run))


def report_on(subject: Subject) -> MemoryReport:
    """What is found of an agent, failures included."""
    with repeatable():
        trial = Trial.of(subject)
        if not trial.remembers():
            return MemoryReport(subject.label, (), "", ())
        checks = (*stored.checks(trial), *resets.checks(trial), *agreement.checks(trial))
        order = [stored.SEQUENCES, resets.CLAIM, stored.STORED, agreement.CLAIM]
        ordered = tuple(sorted(checks, key=lambda each: order.index(each.claim)))
        return MemoryReport(subject.label, trial.memory.variables, _setting(trial), ordered)


def _setting(trial: Trial) -> str:
    training = trial.learned
    rows = training.rows
    n_steps, n_environments = rows["env/done"].shape
    return (
        f"{n_environments} environments, {n_steps} rows each in {len(training.chunks)} chunks of "
        f"{trial.subject.steps_per_chunk} steps, {int(rows['env/done'].sum())} episodes, {training.n_updates} updates"
    )


def _asserted(report: MemoryReport) -> MemoryReport:
    if not report.passed:
        raise AssertionError(f"\n{report}")
    return report
