"""Names of BBRL that this package lacks: an import of one says what to use instead, and where all names are listed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import NoReturn

_ENVIRONMENTS = "AutoResetGymAgent or NoAutoResetGymAgent from bbrl_exp"
_AGENT = "bbrl_exp.Agent, which has seed(), and whose state_dict() is saved"
_TARGET = "a YAML node with _target_ in place of classname"
_COMBINATORS = {
    name: f"{name} from bbrl_exp.agents" for name in ("Agents", "TemporalAgent", "CopyTAgent", "PrintAgent")
} | {"EpisodesDone": "EpisodesDone from bbrl_exp.agents", "KWAgentWrapper": "KWAgentWrapper from bbrl_exp.agents"}
_AGENTS = dict.fromkeys(("TimeAgent", "SerializableAgent", "SeedableAgent"), _AGENT)
_DATA = dict.fromkeys(("ShuffledDatasetAgent", "DataLoaderAgent"), "an agent that writes the batches of a data set")
_GYM = dict.fromkeys(("GymAgent", "ParallelGymAgent", "VecGymAgent"), _ENVIRONMENTS)
_DISTRIBUTIONS = {
    **dict.fromkeys(("SquashedDiagGaussianDistribution", "TanhBijector"), "bbrl_exp.functional.squashing"),
    **dict.fromkeys(("Distribution", "DiagGaussianDistribution", "CategoricalDistribution"), "torch.distributions"),
    **dict.fromkeys(("MultiCategoricalDistribution", "BernoulliDistribution"), "torch.distributions"),
    "StateDependentNoiseDistribution": "an agent of bbrl_exp.policies.exploration",
    **dict.fromkeys(("get_action_dim", "make_proba_distribution"), "env_spec.actions of an environment agent"),
    **dict.fromkeys(("sum_independent_dims", "kl_divergence"), "torch.distributions"),
}
_RETURNS = {
    "gae": "generalized_advantages from bbrl_exp.functional.returns",
    "compute_reinforce_loss": "policy_gradient from bbrl_exp.functional.losses",
    "cumulated_reward": "discounted_returns from bbrl_exp.functional.returns",
    **dict.fromkeys(
        ("temporal_difference", "doubleqlearning_temporal_difference"), "q_target from bbrl_exp.functional.losses"
    ),
}
_CURVES = "the records of a run: TensorBoard, or bbrl_exp.load_runs"
_PLOT = "matplotlib"
_STORAGE = "the methods of bbrl_exp.Workspace"
_COMPARE = "bbrl-exp report, which compares runs (docs/report.md)"

# Module of BBRL, without "bbrl." → its names → what to use instead.
_MODULES: dict[str, dict[str, str]] = {
    "": {
        **dict.fromkeys(("instantiate_class", "get_class", "get_arguments"), _TARGET),
        **_AGENTS,
        **dict.fromkeys(("trace", "trace_workspace", "trace_maximum_size"), "PrintAgent from bbrl_exp.agents"),
    },
    "agents": {**_AGENTS, **_DATA, **dict.fromkeys(("RemoteAgent", "NRemoteAgent"), "bbrl_exp.agents.remote")},
    "agents.agent": {
        **_AGENTS,
        "KWAgentWrapper": _COMBINATORS["KWAgentWrapper"],
        "load": "load_policy from bbrl_exp, or torch.load of a state_dict",
    },
    "agents.asynchronous": {"AsynchronousAgent": "AsynchronousAgent from bbrl_exp.agents.remote"},
    "agents.dataloader": _DATA,
    "agents.gyma": {
        "GymAgent": _ENVIRONMENTS,
        **dict.fromkeys(
            ("NormalizedAutoResetGymAgent", "NormalizedNoAutoResetGymAgent"),
            "NormalizeObservation from bbrl_exp.policies.normalize, an agent",
        ),
    },
    "agents.gymb": dict.fromkeys(("GymAgent", "AutoResetGymAgent", "NoAutoResetGymAgent"), _ENVIRONMENTS),
    "agents.gymnasium": {
        **_GYM,
        "make_env": "the arguments env, kwargs and wrappers of AutoResetGymAgent",
        "record_video": "bbrl-exp evaluate <folder> --animation <file>.gif",
    },
    "agents.seeding": dict.fromkeys(
        ("SeedableAgent", "SeedableAgentLast", "SeedableAgentSum", "SeedableAgentMean"), _AGENT
    ),
    "agents.utils": {name: text for name, text in _COMBINATORS.items() if name != "KWAgentWrapper"},
    "stats": dict.fromkeys(("Test", "TTest", "WelchTTest", "MannWhitneyTest", "RankedTTest"), _COMPARE)
    | dict.fromkeys(("BootstrapTest", "PermutationTest", "run_permutation_test"), _COMPARE),
    "test_transition": {"debug_transitions": "the method get_transitions of bbrl_exp.Workspace"},
    "utils.chrono": {"Chrono": "time.perf_counter"},
    "utils.distributions": _DISTRIBUTIONS,
    "utils.functional": _RETURNS,
    "utils.functionalb": _RETURNS,
    "utils.gymnasium.distributions": _DISTRIBUTIONS,
    "utils.logger": {
        "TFLogger": "the sinks of a run (docs/trackers.md), or SummaryWriter from torch.utils.tensorboard",
        "WandbLogger": "tracking=wandb (docs/trackers.md)",
        **dict.fromkeys(("Log", "Logs", "read_log", "read_directories", "read_directory"), _CURVES),
    },
    "utils.replay_buffer": {"ReplayBuffer": "ReplayBuffer from bbrl_exp"},
    "utils.utils": {
        "soft_param_update": "polyak_update from bbrl_exp.functional.targets",
        "vector_to_parameters": "vector_to_parameters from torch.nn.utils",
        "get_env_dimensions": "env_spec of an environment agent",
        "make_gym_env": "the arguments env and kwargs of AutoResetGymAgent",
    },
    "visu.common": {"final_show": _PLOT},
    "visu.play": {"play": "bbrl-exp evaluate <folder> --animation <file>.gif", "load_agent": "load_policy of bbrl_exp"},
    "visu.plot_critics": dict.fromkeys(("plot_critic", "plot_discrete_q"), _PLOT),
    "visu.plot_policies": {"plot_policy": _PLOT},
    "visu.plot_trajectories": {"plot_trajectory": _PLOT},
    "visu.svpg_histograms": {"plot_histograms": _PLOT},
    "visu.visu_critics": dict.fromkeys(("plot_critic", "plot_discrete_q"), _PLOT),
    "visu.visu_policies": {"plot_policy": _PLOT},
    "visu.visu_trajectories": {"plot_trajectory": _PLOT},
    "workspace": {
        **dict.fromkeys(("SlicedTemporalTensor", "CompactTemporalTensor", "CompactSharedTensor"), _STORAGE),
        "take_per_row_strided": "the method select_subtime of bbrl_exp.Workspace",
    },
}
# Packages without names, which only lead to the modules below them.
_PARENTS = ("utils", "utils.gymnasium", "visu")
_HELP = (
    "docs/migration.md lists what became of each name of BBRL; after bbrl_exp.compat.install() programs that import "
    "bbrl run as they are"
)


def missing(module: str) -> Callable[[str], NoReturn]:
    """The ``__getattr__`` of a module of ours that BBRL has too.

    It raises an ImportError that names the replacement for a name that BBRL's module has, an AttributeError for others.
    """
    names = _MODULES[module.removeprefix("bbrl_exp").removeprefix(".")]

    def refuse(name: str) -> NoReturn:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}", name=name, obj=sys.modules[module])
        raise ImportError(
            f"cannot import name {name!r} from {module!r}, which BBRL has: use {names[name]}; {_HELP}", name=module
        )

    return refuse


class _ModulesOfBbrl:
    """A finder, asked last, of modules that BBRL has and this package does not; it also loads packages without names.

    Its base classes would be in importlib.abc, which imports modules that may be in the working directory.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        root, _, module = fullname.partition(".")
        if root != "bbrl_exp":
            return None
        if module in _PARENTS:
            return ModuleSpec(fullname, self, is_package=True)  # type: ignore[arg-type]
        if module not in _MODULES:
            return None
        instead: dict[str, list[str]] = {}
        for name, text in _MODULES[module].items():
            instead.setdefault(text, []).append(name)
        texts = "; ".join(f"for {', '.join(names)}: {text}" for text, names in instead.items())
        # No ModuleNotFoundError: ``from package import module`` has another message for those.
        raise ImportError(f"No module named {fullname!r}, which BBRL has. Use {texts}; {_HELP}", name=fullname)

    def create_module(self, spec: ModuleSpec) -> None:
        """The module is made as usual."""

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing in it."""


def explain_missing_modules() -> None:
    """From now on an import of a module of BBRL's that is not here says what to use instead."""
    sys.meta_path.append(_ModulesOfBbrl())
