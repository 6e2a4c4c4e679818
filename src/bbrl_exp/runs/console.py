"""What a run prints: the graph, its variables and its plan at the start, what came of it at the end."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from bbrl_exp.config.compose import quoted_where_needed
from bbrl_exp.config.project import current_project
from bbrl_exp.config.run_size import RunSize
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.records.config import as_yaml
from bbrl_exp.records.invocation import Invocation, shell_command
from bbrl_exp.records.metrics import ACTIONS_IN_WORDS
from bbrl_exp.records.summary import Summary
from bbrl_exp.runs.evaluations import EvaluationPlan
from bbrl_exp.runs.stop_rule import StopRule
from bbrl_exp.text import markdown_table, print_any_character, size_in_words

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from bbrl_exp.agents.agent import Agent
    from bbrl_exp.agents.graph_check import VariableFacts
    from bbrl_exp.config.check import CheckedRun
    from bbrl_exp.config.preparation import PreparedRun
    from bbrl_exp.tracking.console import Console
    from bbrl_exp.tracking.tracker import Tracker

_CONFIGURATION = ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn")
# What a run that is resumed by its folder has no use for, or refuses: it is about a folder, a pause or a sweep.
_NOT_AGAIN = (
    "resume=",
    "pause_after=",
    "hydra.run.dir=",
    "launcher=",
    "hydra/launcher=",
    "hydra.launcher.",
    "hydra/sweeper=",
    "hydra.sweeper.",
    "hydra.sweep.",
)
_COLUMNS = ("variable", "shape", "dtype", "writer", "readers")


class SeveralConsoles:
    """Says everything to each of several consoles: the terminal and ``run.log``."""

    def __init__(self, *consoles: Console) -> None:
        self._consoles = consoles

    def line(self, text: str) -> None:
        """Show one line of text."""
        for console in self._consoles:
            console.line(text)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show a table."""
        for console in self._consoles:
            console.table(title, columns, rows)

    def progress(self, done: int, total: int, steps_per_second: float | None, mean_return: float | None) -> None:
        """Say how far the run is."""
        for console in self._consoles:
            console.progress(done, total, steps_per_second, mean_return)

    def close(self) -> None:
        """End the progress."""
        for console in self._consoles:
            console.close()


class Terminal:
    """Standard output, as long as somebody reads it: ``| head`` ends what is shown and not the run."""

    def __init__(self) -> None:
        from bbrl_exp.tracking.console import make_console

        print_any_character()
        self._console = make_console()

    def line(self, text: str) -> None:
        """Show one line of text."""
        with _nobody_may_read():
            self._console.line(text)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show a table."""
        with _nobody_may_read():
            self._console.table(title, columns, rows)

    def progress(self, done: int, total: int, steps_per_second: float | None, mean_return: float | None) -> None:
        """Say how far the run is."""
        with _nobody_may_read():
            self._console.progress(done, total, steps_per_second, mean_return)

    def close(self) -> None:
        """End the progress."""
        with _nobody_may_read():
            self._console.close()


@contextlib.contextmanager
def _nobody_may_read() -> Iterator[None]:
    """After the first broken pipe standard output leads nowhere, for what is still in its buffer too."""
    try:
        yield
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


class _ForgivingFile(io.FileIO):
    def write(self, content: Buffer, /) -> int:
        try:
            return super().write(content)
        except OSError:
            return memoryview(content).nbytes


def open_log(path: Path) -> TextIO:
    """A text file to append to. What the disk refuses is lost: a log ends no run, and no other error is hidden by it.

    Raises:
        ConfigurationError: it cannot be opened.
    """
    try:
        file = _ForgivingFile(path, "a")
    except OSError as error:
        raise ConfigurationError(f"cannot write '{path}': {error.strerror}") from error
    return io.TextIOWrapper(io.BufferedWriter(file), encoding="utf-8", errors="backslashreplace")


def _graph_lines(agent: Agent) -> list[str]:
    """The graph as a tree, one agent per line."""
    return [agent.label, *_branches(agent, "")]


def _branches(agent: Agent, indent: str) -> list[str]:
    children = _child_agents(agent)
    lines = []
    for child in children:
        is_last = child is children[-1]
        lines.append(f"{indent}{'└─ ' if is_last else '├─ '}{child.label}")
        lines += _branches(child, indent + ("   " if is_last else "│  "))
    return lines


def _child_agents(agent: Agent) -> list[Agent]:
    """The agents right below ``agent``, through modules that are no agents."""
    from bbrl_exp.agents.agent import Agent

    found: list[Agent] = []
    waiting = list(agent.children())
    while waiting:
        module = waiting.pop(0)
        if isinstance(module, Agent):
            found.append(module)
        else:
            waiting = [*module.children(), *waiting]
    return found


def show_start(console: Console, prepared: PreparedRun, folder: Path) -> None:
    """Shows the graph, the table of workspace variables and the plan."""
    run = prepared.run
    console.line("graph")
    for line in _graph_lines(prepared.graph):
        console.line(f"  {line}")
    console.table("workspace", _COLUMNS, _rows(prepared.variables))
    console.line("plan")
    for name, value in (*_plan_in_words(run), ("folder", str(folder))):
        console.line(f"  {name:<19}{value}")
    if run.root.debug:
        console.line("  debug: shortened, anomaly detection on, full tracebacks")


def describe(tracker: Tracker, prepared: PreparedRun) -> None:
    """Puts the same into the sinks, TensorBoard's TEXT and IMAGES pages among them, and the configuration."""
    from bbrl_exp.tracking.summaries import graph_picture, png

    texts = {
        "config": f"```yaml\n{as_yaml(prepared.run.config).strip()}\n```",
        "graph": "\n".join(f"    {line}" for line in _graph_lines(prepared.graph)),
        "workspace": markdown_table(_COLUMNS, _rows(prepared.variables)),
        "plan": markdown_table(("plan", ""), _plan_in_words(prepared.run)),
    }
    picture = graph_picture(prepared.variables)
    tracker.introduce(texts, {"variables": (png(picture), picture.size)})  # a tag is on one page only


def _rows(variables: Sequence[VariableFacts]) -> list[tuple[str, ...]]:
    return [
        (
            variable.name,
            f"[T, {', '.join(map(str, variable.shape))}]",
            str(variable.dtype).removeprefix("torch."),
            ", ".join(variable.writers),
            ", ".join(variable.readers) or "-",
        )
        for variable in variables
    ]


def _plan_in_words(run: CheckedRun) -> list[tuple[str, str]]:
    plan, root = run.size, run.root
    asked = "" if plan.env_steps == plan.total_steps else f" ({plan.total_steps:,} asked, rounded up to whole chunks)"
    starts = (run.config["agent"]["learner"] or {}).get("learning_starts") or 0
    device = f"{run.device} (auto)" if root.device == "auto" else run.device
    return [
        *([("note", run.note)] if run.note is not None else []),
        *project_in_words(),
        *([("begins from", _beginning_in_words(run))] if root.init_from is not None else []),
        *([("not repeatable", plan.not_repeatable)] if plan.not_repeatable is not None else []),
        *([("not learned", _idle_in_words(plan))] if plan.idle else []),
        ("environment steps", f"{plan.env_steps:,}{asked}"),
        (
            "chunks",
            f"{plan.chunks:,} of {plan.steps_per_chunk:,} time steps x {plan.batch_size:,} environments",
        ),
        ("memory", f"{size_in_words(plan.workspace_bytes)} of workspace"),
        *([("replay", f"{size_in_words(plan.replay_bytes)} of memory once it is full")] if plan.replay_bytes else []),
        *([("recording", _recording_in_words(plan))] if plan.chunks_per_recording > 1 else []),
        *(
            [("updates", f"none: the first comes after {starts:,} environment steps")]
            if starts >= plan.env_steps
            else []
        ),
        *([("schedules", f"over {plan.schedule_steps:,} environment steps")] if plan.schedule_steps else []),
        ("checkpoints", _checkpoints_in_words(run)),
        ("evaluation", _evaluation_in_words(run)),
        *([("stops early", f"where {stopping}")] if (stopping := StopRule.of(run).in_words) else []),
        ("seed", str(root.seed)),
        *([("compiled", plan.compiled)] if plan.compiled is not None else []),
        ("device", f"{device}, {root.num_threads} thread{'s' if root.num_threads > 1 else ''}"),
    ]


def project_in_words() -> list[tuple[str, str]]:
    """What the command has taken from the project of the working directory, as a line of a plan; empty for nothing."""
    project = current_project()
    return [] if project is None else [("project", project.in_words)]


def _beginning_in_words(run: CheckedRun) -> str:
    left = run.size.begun_again
    rest = f", without what does not fit: the learner's {', '.join(left)}" if left else ""
    return f"the last policy of {run.root.init_from}{rest}"


def _idle_in_words(plan: RunSize) -> str:
    agents = (f"{label} ({n:,} parameters)" for label, n in plan.idle.items())
    return f"{', '.join(agents)}: the learner does not hold them"


def _recording_in_words(plan: RunSize) -> str:
    return f"{plan.chunks_per_recording:,} chunks stay in the workspace together"


def _checkpoints_in_words(run: CheckedRun) -> str:
    every, longest = run.checkpoint_every, run.size.longest_resumable_episode
    if not every or run.size.not_resumable is not None:
        return f"none: {run.size.not_resumable or 'the run cannot be resumed once it has stopped'}"
    is_endless = longest is not None and not run.size.has_time_limit
    endless = f"; none can be resumed within an episode of over {longest:,} steps" if is_endless else ""
    return f"{_every(every, run.size.steps_per_recording, 'recording')}{endless}"


def _every(env_steps: int, unit_steps: int, unit: str) -> str:
    """How often something happens that waits for the end of a chunk, or of a recording of several."""
    return f"every {env_steps:,} steps" if env_steps >= unit_steps else f"after every {unit}, of {unit_steps:,} steps"


def _evaluation_in_words(run: CheckedRun) -> str:
    plan = EvaluationPlan.of(run)
    in_chunk = run.size.steps_per_chunk * run.size.batch_size
    parts = [f"{_every(plan.every, in_chunk, 'chunk')}, {plan.episodes:,} episodes"] if plan.every else []
    parts += [f"at the end {plan.final_episodes:,} episodes"] if plan.final_episodes else []
    if parts and len(plan.measured) > 1:
        parts.append(
            f"by the most likely actions and by sampled ones, judged by the {ACTIONS_IN_WORDS[plan.judged_by]}"
        )
    elif parts and plan.judged_by != "mode":
        parts.append(ACTIONS_IN_WORDS[plan.judged_by])
    return "; ".join(parts) or "none"


def show_error(line: str) -> None:
    """Shows one line on standard error, if somebody reads it."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def end_lines(summary: Summary, folder: Path, *, is_saved: bool) -> list[str]:
    """A short summary of the run, how to resume one that is not complete, and its folder."""
    recent = "(last 100)" if summary.episodes >= 100 else "(all)"
    mean = "none ended" if summary.return_mean is None else f"mean return {summary.return_mean:.4g} {recent}"
    speed = f", {summary.steps_per_second:,.0f} steps/s" if summary.steps_per_second is not None else ""
    lines = [
        f"{summary.status}: {summary.env_steps:,} environment steps in {summary.wall_seconds:.1f} s{speed}",
        f"{summary.episodes:,} episodes, {mean}",
    ]
    if summary.stopped_because is not None:
        lines.insert(1, f"stopped early: {summary.stopped_because}")
    if summary.eval_return_mean is not None and summary.eval_returns is not None:
        how = ", sampled actions" if summary.eval_policy == "sample" else ""
        success = "" if summary.eval_success_rate is None else f", success rate {summary.eval_success_rate:.3g}"
        lines.append(
            f"last policy: return {summary.eval_return_mean:.4g} ± {summary.eval_return_std:.3g} "
            f"({len(summary.eval_returns)} episodes{how}){success}{_other_in_words(summary)}"
        )
    if summary.error is not None:
        is_asked_for = summary.status in ("paused", "interrupted")
        lines.append(f"{'reason' if is_asked_for else 'error'}: {_without_traceback(summary.error)}")
    if summary.status != "completed" and is_saved:
        words = [*_command_again(summary.overrides), f"resume={quoted_where_needed(str(folder))}"]
        lines.append(f"to resume: {shell_command(words)}")
    return [*lines, f"folder: {folder}"]


def _other_in_words(summary: Summary) -> str:
    """What the other way of acting has given, where both were measured."""
    other = "mode" if summary.eval_policy == "sample" else "sample"
    mean, rate = (getattr(summary, f"eval_{other}_{name}") for name in ("return_mean", "success_rate"))
    success = "" if rate is None else f", success rate {rate:.3g}"
    return "" if mean is None else f"; {ACTIONS_IN_WORDS[other]}: return {mean:.4g}{success}"


def _without_traceback(error: str) -> str:
    """What failed and why, on one line, of an error that another process has sent with its traceback."""
    first, *others = error.splitlines()
    last_frame = max((number for number, line in enumerate(others) if line.startswith(" ")), default=-1)
    return " ".join([first, *others[last_frame + 1 :]])


def _command_again(overrides: Sequence[str]) -> list[str]:
    """The command line of a run without its folder: as it was typed, if it was one of this run alone."""
    typed = Invocation.of_this_process()
    words = typed.words
    # The command of a sweep or a search has other overrides than each of its jobs.
    is_of_one = not {"-m", "--multirun"} & set(words) and set(overrides) <= set(words)
    if typed.verb != "rerun" and not (typed.verb == "run" and is_of_one):
        words = [*typed.calling("run"), *_of_configuration(typed.arguments), *overrides]
    return [word for word in words if not word.lstrip("+~").startswith(_NOT_AGAIN)]


def sweep_command(folder: Path, *, is_named: bool) -> str | None:
    """What resumes a sweep or a search: the command as it was typed, with its folder where it has no name.

    None where it was not started from a command line.
    """
    typed = Invocation.of_this_process()
    if typed.verb != "run":
        return None
    words = [word for word in typed.words if not word.startswith(("hydra.sweep.dir=", "pause_after="))]
    return shell_command(words if is_named else [*words, f"hydra.sweep.dir={quoted_where_needed(str(folder))}"])


def _of_configuration(arguments: Sequence[str]) -> Iterator[str]:
    """The options that say where the configuration is, as they were typed."""
    following = iter(arguments)
    for word in following:
        if (option := word.partition("=")[0]) in _CONFIGURATION:
            yield word
            yield from (next(following, "") for _ in range(option == word))
