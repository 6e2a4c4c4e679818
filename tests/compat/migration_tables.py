"""The tables of docs/migration.md, from what ``bbrl_exp.compat`` offers and from what is said here of differences.

python tests/compat/migration_tables.py    writes them into the page, between its markers
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from bbrl_exp.compat.names import LEFT_OUT, MODULES

PAGE = Path(__file__).parents[2] / "docs" / "migration.md"
NAMES: dict[str, list[str]] = json.loads((Path(__file__).parent / "names_of_bbrl.json").read_text(encoding="utf-8"))

DIFFERS = {
    "bbrl.agents.Agents": "a slice, `agents[0:2]`, is an `Agents`, not a list",
    "bbrl.agents.TemporalAgent": "`n_steps=0` runs no step (BBRL: one)",
    "bbrl.agents.PrintAgent": "one line per variable, `t=3 action = …`; a variable without a row `t` is left out",
    "bbrl.agents.KWAgentWrapper": "the fixed keywords win over those of the call (BBRL: TypeError)",
    "bbrl.agents.DataLoaderAgent": "another number of items than names is refused",
    "bbrl.agents.ShuffledDatasetAgent": "works without `seed()` and with numpy 2 (BBRL: AttributeError)",
    "bbrl.agents.RemoteAgent": "takes any workspace; a process that dies is an error within seconds",
    "bbrl.agents.NRemoteAgent": "`create` returns an empty workspace, which grows; `time_size` and `inc` are unused; "
    "in the processes a workspace is as strict as ours",
    "bbrl.agents.agent.Agent": "`load_model` builds only the classes of the agent that it is called on; "
    "`set_trace_file` is refused",
    "bbrl.agents.asynchronous.AsynchronousAgent": "may be given a workspace to begin with",
    "bbrl.agents.gymnasium.GymAgent": "other episodes for the same seed; at t = 0 the rows beyond 0 of all variables "
    "are dropped; `seed` may be called again; `set_obs` is not there, because rows are written whole; also writes "
    "`env/initial_state`; NaN is refused; uint8 stays uint8",
    "bbrl.agents.gymnasium.ParallelGymAgent": "as `GymAgent`; without the last state, `env/timestep` counts from 0 "
    "after a reset (BBRL: from -1); the wrappers NormalizeObservation and NormalizeReward are refused",
    "bbrl.agents.gymnasium.record_video": "returns the file; a GIF without the extra `video`",
    "bbrl.agents.seeding.SeedableAgent": "a second `seed` is a `ConfigurationError`, not an `Exception`",
    "bbrl.stats.Test": "needs the extra `compat`, as its subclasses do; `plot` shows nothing where there is no screen",
    "bbrl.stats.compute_central_tendency_and_error": "the standard error divides by the root of the number of seeds "
    "(BBRL: of evaluations)",
    "bbrl.stats.PermutationTest": "a division that differs as much as the samples counts against them (BBRL: equal "
    "samples are significantly different)",
    "bbrl.stats.BootstrapTest": "its own percentile bootstrap, without the package bootstrapped",
    "bbrl.utils.distributions.DiagGaussianDistribution": "can be constructed (BBRL: TypeError)",
    "bbrl.utils.distributions.SquashedDiagGaussianDistribution": "densities are exact and finite where tanh is flat; "
    "`proba_distribution` works, and `entropy()` is None (BBRL: both fail); as there, `make_distribution` takes log "
    "standard deviations",
    "bbrl.utils.distributions.TanhBijector": "likewise",
    "bbrl.utils.distributions.make_proba_distribution": "`use_sde=True` is refused",
    "bbrl.utils.functional.gae": "also with the signature of 2022; `cut=` ends the trace at truncations",
    "bbrl.utils.logger.TFLogger": "nothing is pickled: numbers are in `scalars.csv`, hyperparameters in "
    "`params.json`; is no `SummaryWriter`, but has its methods for numbers, texts, histograms, pictures and videos",
    "bbrl.utils.logger.WandbLogger": "needs the extra `wandb`; an experiment has `tracking=wandb`",
    "bbrl.utils.replay_buffer.ReplayBuffer": "other variables than at first are refused; of more elements than it "
    "holds, the last are kept",
    "bbrl.utils.utils.get_env_dimensions": "for gymnasium",
    "bbrl.utils.utils.make_gym_env": "for gymnasium",
    "bbrl.visu.plot_critics.plot_critic": "the first component is drawn along x, the second along y (BBRL: transposed)",
    "bbrl.visu.plot_critics.plot_discrete_q": "likewise",
    "bbrl.visu.plot_policies.plot_policy": "likewise; works for actions of several components",
    "bbrl.visu.plot_trajectories.plot_trajectory": "works (BBRL: TypeError)",
    "bbrl.workspace.Workspace": "a full read is a copy; `copy_n_last_steps(n)` leaves n rows, not T; a negative time "
    "is refused; `subtime` beyond the last row and `select_batch` of bools are refused; `set_full` keeps its tensor, "
    "which, as a row that was read, must not be changed in place",
    "bbrl_utils.algorithms.RLBase": "the best policy is kept without an `eval_policy`, too",
    "bbrl_utils.env.setup": "installs no packages",
    "bbrl_utils.notebook.video_display": "works without moviepy",
    "bbrl_utils.setup": "installs no packages",
}
_OF_2022 = {
    "bbrl.agents.gyma": "rewards as in `bbrl.agents.gymnasium`; `(make_env_fn, make_env_args, n_envs, seed)`, or a "
    "chained `.seed()`; environments of gymnasium",
    "bbrl.agents.gymb": "the same, with the reward of the action at t in row t",
    "bbrl.utils.functionalb": "the reward of the action at t in row t",
    "bbrl.visu.visu_critics": "as `bbrl.visu.plot_critics`",
    "bbrl.visu.visu_policies": "as `bbrl.visu.plot_policies`",
}
_MARKERS = {"names": "<!-- names of BBRL -->", "old": "<!-- names of 2022 -->"}


def _differences(module: str, names: list[str]) -> dict[str, str]:
    """Name → how it differs; where that is said of the same thing in another module, which."""
    found = {}
    for name in names:
        others = [other for other in NAMES if MODULES.get(other, {}).get(name, other) == MODULES[module].get(name)]
        told = [other for other in (module, *others) if f"{other}.{name}" in DIFFERS]
        if told:
            found[name] = DIFFERS[f"{module}.{name}"] if told[0] == module else f"as in `{told[0]}`"
    return found


def names_table() -> str:
    """A row per module of BBRL for what works, and one per name that differs or is left out."""
    lines = ["| module | name | |", "|---|---|---|"]
    for module, names in NAMES.items():
        if module in LEFT_OUT:
            lines.append(f"| `{module}` | all | **left out**: {LEFT_OUT[module]} |")
            continue
        own = [name for name in names if "." not in name]
        differs = _differences(module, own)
        left_out = {name: text for name in own if (text := LEFT_OUT.get(f"{module}.{name}"))}
        works = [name for name in own if name not in differs and name not in left_out]
        if works:
            lines.append(f"| `{module}` | {', '.join(f'`{name}`' for name in works)} | works |")
        for text in dict.fromkeys(differs.values()):
            alike = ", ".join(f"`{name}`" for name in differs if differs[name] == text)
            lines.append(f"| `{module}` | {alike} | **differs**: {text} |")
        lines += [f"| `{module}` | `{name}` | **left out**: {text} |" for name, text in left_out.items()]
    return "\n".join(lines)


def old_table() -> str:
    """The modules that BBRL had before 2024."""
    lines = ["| module | name | |", "|---|---|---|"]
    for module, text in _OF_2022.items():
        names = ", ".join(f"`{name}`" for name in MODULES[module])
        lines.append(f"| `{module}` | {names} | {text} |")
        for name, reason in LEFT_OUT.items():
            if name.rpartition(".")[0] == module:
                lines.append(f"| `{module}` | `{name.rpartition('.')[2]}` | **left out**: {reason} |")
    return "\n".join(lines)


def with_tables(text: str) -> str:
    """The page with its tables made again."""
    for key, table in (("names", names_table()), ("old", old_table())):
        marker = re.escape(_MARKERS[key])
        block = f"{_MARKERS[key]}\n\n{table}\n\n{_MARKERS[key]}"
        text = re.sub(f"{marker}.*{marker}", lambda _, block=block: block, text, flags=re.DOTALL)
    return text


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
