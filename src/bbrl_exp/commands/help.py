"""What ``--help`` prints: commands to begin with, how they are written, and every key."""

from __future__ import annotations

import dataclasses
import re
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bbrl_exp.commands.list import GROUPS
from bbrl_exp.config.options import default_config_dir
from bbrl_exp.config.schema import (
    AgentSettings,
    CheckpointSettings,
    EnvSettings,
    EvalSettings,
    MemorySettings,
    RootSettings,
    StopSettings,
)
from bbrl_exp.records.invocation import Invocation
from bbrl_exp.settings import shown

_WIDTH = 118
_EXAMPLES = """\
Every part of an experiment is an agent that reads and writes a workspace; the command line chooses and sets them.

A run
  python scripts/run.py agent=random env=cartpole               an agent in an environment
  python scripts/run.py experiment=ppo_cartpole name=ppo        a pair with tuned settings, in outputs/ppo
  python scripts/run.py agent=sac env=pendulum seed=3 agent.learner.discount=0.98
  python scripts/run.py agent=ppo env=gym env.id=Acrobot-v1     any Gymnasium environment
  python scripts/run.py agent=ppo dry_run=true                  checks, shows the plan, runs nothing

Stop it, resume it, look at it
  python scripts/run.py experiment=ppo_cartpole name=ppo        the same command again resumes where it was stopped
  python scripts/run.py agent=ppo resume=<folder>               the same for a run without a name, which prints this
  python scripts/rerun.py outputs/ppo seed=4                    repeats the run with another seed, in a new folder
  python scripts/evaluate.py outputs/ppo --animation ppo.gif    plays the last policy, and films it
  tensorboard --logdir outputs                                  curves, tables, texts, pictures

A sweep: every combination of the lists, each in its own folder
  python scripts/run.py -m agent=ppo,dqn seed=0,1,2 name=mine   in outputs/multirun/mine; resumes there, too
  python scripts/run.py -m seed='range(10)' launcher=joblib     side by side
  python scripts/report.py outputs/multirun/mine                compares its settings
  python scripts/run.py -m search=ppo env=cartpole              searches for good settings

How it is written
  group=option    chooses conf/<group>/<option>.yaml            key=value    overrides a value
  +key=value      adds one                                      ~key         removes one
  null, true, 1e-3, '[64,64]', '{a: 1}'                         values; quote what the shell would read
  '+agent.members.printer={_target_: bbrl_exp.agents.tools.PrintAgent, names: [action], after: policy}'
                                                                another agent in the graph
  --config-dir <folder>, BBRL_EXP_ALLOW=mypackage               your own YAML and classes; [tool.bbrl_exp] has both
  --cfg job       prints the configuration and runs nothing     --hydra-help Hydra's own options
  eval "$(python scripts/run.py -sc install=bash)"              completes groups, options and keys by TAB
"""


@dataclass(frozen=True)
class Key:
    """A key of a configuration.

    Attributes:
        name: with all that is above it, ``eval.every``.
        help: what it is, in one line.
        allowed: the values that it may have, in words.
        default: as YAML writes it; empty if it has none.
    """

    name: str
    help: str
    allowed: str
    default: str


def keys_of_run(defaults: Mapping[str, Any]) -> dict[str, list[Key]]:
    """The keys of a run, by what they are below of; the root's are below ``""``.

    Args:
        defaults: the configuration that runs where nothing is asked.
    """
    from bbrl_exp.tracking.settings import TrackingSettings

    return {
        "": _keys(RootSettings, "", defaults),
        "agent": _keys(AgentSettings, "agent.", {}),
        "memory": _keys(MemorySettings, "memory.", {}),
        "env": [*_keys(EnvSettings, "env.", defaults.get("env", {})), *_commented_keys("env", "gym")],
        "eval": _keys(EvalSettings, "eval.", defaults.get("eval", {})),
        "stop_when": _keys(StopSettings, "stop_when.", defaults.get("stop_when", {})),
        "checkpoint": _keys(CheckpointSettings, "checkpoint.", defaults.get("checkpoint", {})),
        "tracking": _keys(TrackingSettings, "tracking.", defaults.get("tracking", {})),
    }


def keys_of_search() -> list[Key]:
    """The keys of a search."""
    from bbrl_exp.config.search_settings import SearchSettings

    return _keys(SearchSettings, "hydra.sweeper.", vars(SearchSettings()))


def help_text(
    groups: Mapping[str, Sequence[str]], defaults: Mapping[str, Any], program: Invocation | None = None
) -> str:
    """What ``--help`` prints.

    Args:
        groups: the options of each group.
        defaults: the configuration that runs where nothing is asked.
        program: whose commands are shown as examples; None for this process's.
    """
    names = [*GROUPS, *(group for group in groups if group not in GROUPS)]
    program = program or Invocation.of_this_process()
    listing = shlex.join(program.calling("list"))
    lines = [
        _calling(program, _EXAMPLES),
        f"Groups (what each option is: {listing} [group]; what an agent takes: … agent ppo)",
        *(_options(group, groups[group]) for group in names if group in groups),
        "",
        "Keys [allowed values; default]",
        *(_line(key) for keys in keys_of_run(defaults).values() for key in keys),
        "",
        "Keys of a search",
        *map(_line, keys_of_search()),
    ]
    return "\n".join(lines)


def _calling(program: Invocation, text: str) -> str:
    """The text with the commands of ``program``, and what follows a command at its place; no shell completes ``-m``."""

    def called(found: re.Match[str]) -> str:
        words = f"{shlex.join(program.calling(found['verb']))}{found['arguments']}"
        return words + found["space"] and f"{words:<{len(found[0])}}"

    if program.calling("run")[1] == "-m":
        text = "".join(line for line in text.splitlines(keepends=True) if "-sc install" not in line)
    return re.sub(r"python scripts/(?P<verb>\w+)\.py(?P<arguments>(?: \S+)*)(?P<space> *)", called, text)


def _options(group: str, options: Sequence[str]) -> str:
    return textwrap.fill(
        ", ".join(options),
        _WIDTH,
        initial_indent=f"  {group:<11} ",
        subsequent_indent=" " * 14,
        break_on_hyphens=False,
    )


def _line(key: Key) -> str:
    values = "; ".join(filter(None, (key.allowed, key.default)))
    return f"  {key.name:<32} {key.help} [{values}]"


def _keys(kind: type[Any], prefix: str, defaults: Mapping[str, Any]) -> list[Key]:
    keys = []
    for key in dataclasses.fields(kind):
        value = defaults.get(key.name, dataclasses.MISSING)
        has_none = value is dataclasses.MISSING or isinstance(value, dict)
        keys.append(
            Key(prefix + key.name, key.metadata["help"], key.metadata["allowed"], "" if has_none else _plain(value))
        )
    return keys


def _commented_keys(group: str, option: str) -> list[Key]:
    """The keys of an option: those at the top of its file whose line ends with what they are."""
    text = (default_config_dir() / group / f"{option}.yaml").read_text(encoding="utf-8")
    found = re.findall(r"^(\w+): *(\S.*?) +# (.*)$", text, re.MULTILINE)
    allowed = f"with {group}={option} and the options based on it"
    return [Key(f"{group}.{name}", help_line, allowed, default) for name, default, help_line in found]


def _plain(value: object) -> str:
    return value if isinstance(value, str) else shown(value)
