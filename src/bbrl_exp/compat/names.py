"""Which names BBRL's modules have here, and which are left out, with what to write instead.

Each name is that of an attribute of a module in this package, which is loaded when the name is first used.
"""

from __future__ import annotations

_AGENT = ("Agent", "TimeAgent", "SerializableAgent", "KWAgentWrapper")
_SEEDABLE = ("SeedableAgent", "SeedableAgentLast", "SeedableAgentSum", "SeedableAgentMean")
_COMBINATORS = ("Agents", "TemporalAgent", "CopyTAgent", "PrintAgent", "EpisodesDone")
_DISTRIBUTIONS = (
    *("Distribution", "DiagGaussianDistribution", "SquashedDiagGaussianDistribution", "CategoricalDistribution"),
    *("MultiCategoricalDistribution", "BernoulliDistribution", "TanhBijector"),
    *("get_action_dim", "sum_independent_dims", "make_proba_distribution", "kl_divergence"),
)
_OF_2022 = ("GymAgent", "AutoResetGymAgent", "NoAutoResetGymAgent")


def _all_from(module: str, *names: str) -> dict[str, str]:
    return dict.fromkeys(names, module)


MODULES: dict[str, dict[str, str]] = {
    "bbrl": {
        **_all_from("tools", "instantiate_class", "get_class", "get_arguments", "__version__", "__version_tuple__"),
        **_all_from("agent", "Agent", "TimeAgent", "SerializableAgent"),
        **_all_from("seeding", "SeedableAgent"),
    },
    "bbrl.agents": {
        **_all_from("agent", *_AGENT),
        **_all_from("seeding", "SeedableAgent"),
        **_all_from("combinators", *_COMBINATORS),
        **_all_from("remote", "RemoteAgent", "NRemoteAgent"),
        **_all_from("datasets", "DataLoaderAgent", "ShuffledDatasetAgent"),
    },
    "bbrl.agents.agent": _all_from("agent", *_AGENT),
    "bbrl.agents.asynchronous": _all_from("remote", "AsynchronousAgent"),
    "bbrl.agents.dataloader": _all_from("datasets", "DataLoaderAgent", "ShuffledDatasetAgent"),
    "bbrl.agents.gyma": _all_from("gym_of_2022", *_OF_2022),
    "bbrl.agents.gymb": {name: f"gym_of_2022:{name}B" for name in _OF_2022},
    "bbrl.agents.gymnasium": {
        **_all_from("gym", "GymAgent", "ParallelGymAgent", "make_env"),
        **_all_from("video", "record_video"),
    },
    "bbrl.agents.remote": _all_from("remote", "RemoteAgent", "NRemoteAgent"),
    "bbrl.agents.seeding": _all_from("seeding", *_SEEDABLE),
    "bbrl.agents.utils": _all_from("combinators", *_COMBINATORS),
    "bbrl.stats": {
        **_all_from("stats", "Test", "TTest", "WelchTTest", "MannWhitneyTest", "RankedTTest", "PermutationTest"),
        **_all_from("stats", "BootstrapTest", "run_permutation_test", "compute_central_tendency_and_error"),
    },
    "bbrl.utils": {},
    "bbrl.utils.chrono": _all_from("tools", "Chrono"),
    "bbrl.utils.distributions": _all_from("distributions", *_DISTRIBUTIONS),
    "bbrl.utils.functional": {
        **_all_from("functional", "gae", "cumulated_reward", "temporal_difference"),
        **_all_from("functional", "doubleqlearning_temporal_difference", "compute_reinforce_loss"),
    },
    "bbrl.utils.functionalb": {
        "gae": "functional:gae_b",
        "cumulated_reward": "functional",
        "temporal_difference": "functional:temporal_difference_b",
        "doubleqlearning_temporal_difference": "functional:doubleqlearning_temporal_difference_b",
        "compute_reinforce_loss": "functional",
    },
    "bbrl.utils.gymnasium": {},
    "bbrl.utils.gymnasium.distributions": _all_from("distributions", *_DISTRIBUTIONS),
    "bbrl.utils.logger": {
        **_all_from("logger", "TFLogger", "TFPrefixLogger"),
        **_all_from("wandb_logger", "WandbLogger"),
    },
    "bbrl.utils.replay_buffer": _all_from("replay", "ReplayBuffer"),
    "bbrl.utils.utils": {
        **_all_from("tools", "get_env_dimensions", "make_gym_env", "soft_param_update", "key_path_in_dict"),
        **_all_from("tools", "set_value_with_key_path", "vector_to_parameters", "is_vec_of_ones"),
    },
    "bbrl.visu": {},
    "bbrl.visu.common": _all_from("plots", "final_show"),
    "bbrl.visu.plot_critics": _all_from("plots", "plot_critic", "plot_discrete_q"),
    "bbrl.visu.plot_policies": _all_from("plots", "plot_policy"),
    "bbrl.visu.plot_trajectories": _all_from("plots", "plot_trajectory"),
    "bbrl.visu.svpg_histograms": _all_from("plots", "plot_histograms"),
    "bbrl.visu.visu_critics": _all_from("plots", "plot_critic", "plot_discrete_q"),
    "bbrl.visu.visu_policies": _all_from("plots", "plot_policy"),
    "bbrl.workspace": _all_from("workspace", "Workspace"),
    "bbrl_utils": _all_from("notebook", "setup"),
    "bbrl_utils.algorithms": {
        **_all_from("course", "RLBase", "EpochBasedAlgo", "EpisodicAlgo"),
        **_all_from("course", "iter_episodes", "iter_partial_episodes", "iter_replay_buffers"),
    },
    "bbrl_utils.env": _all_from("notebook", "setup"),
    "bbrl_utils.logger": _all_from("course", "Logger"),
    "bbrl_utils.nn": {
        **_all_from("networks", "setup_optimizer", "copy_parameters", "soft_update_params"),
        **_all_from("networks", "ortho_init", "build_ortho_mlp", "build_mlp"),
    },
    "bbrl_utils.notebook": {
        **_all_from("notebook", "tqdm", "video_display", "display", "setup_tensorboard", "testing_mode"),
        **_all_from("notebook", "outputs_dir", "IPython", "MODE"),
    },
}
"""Module of BBRL → its names → where they are here: a module of this package, and the name there if it is another."""

_PICKLES = "it unpickles a file, which can run any code in it"
_STORAGE = "a class of BBRL's storage; use the methods of Workspace and, for one variable, workspace.variables[name]"

LEFT_OUT: dict[str, str] = {
    "bbrl.trace": "nothing is traced; print a workspace, or put a PrintAgent among the agents",
    "bbrl.trace_workspace": "nothing is traced; print a workspace, or put a PrintAgent among the agents",
    "bbrl.trace_maximum_size": "nothing is traced; print a workspace, or put a PrintAgent among the agents",
    "bbrl.agents.agent.load": f"{_PICKLES}; keep agent.state_dict() with torch.save, and load_state_dict it",
    "bbrl.agents.asynchronous.f": "what a process of BBRL's runs; nobody else needs it",
    "bbrl.agents.dataloader.RNG": "use numpy.random.Generator",
    "bbrl.agents.dataloader.RandomNumberGenerator": "use numpy.random.Generator",
    "bbrl.agents.remote.f": "what a process of BBRL's runs; nobody else needs it",
    "bbrl.agents.gyma.NormalizedAutoResetGymAgent": "use an agent bbrl_exp.policies.normalize.NormalizeObservation",
    "bbrl.agents.gyma.NormalizedNoAutoResetGymAgent": "use an agent bbrl_exp.policies.normalize.NormalizeObservation",
    "bbrl.agents.gymb.NormalizedAutoResetGymAgent": "use an agent bbrl_exp.policies.normalize.NormalizeObservation",
    "bbrl.agents.gymb.NormalizedNoAutoResetGymAgent": "use an agent bbrl_exp.policies.normalize.NormalizeObservation",
    "bbrl.agents.gymnasium.VecGymAgent": "it fails in BBRL for more than one environment; use "
    "bbrl_exp.AutoResetGymAgent(env_id, batch_size, stepping='vectorized')",
    "bbrl.test_transition": "a check of one program's CartPole transitions; write it into that program",
    "bbrl.utils.distributions.StateDependentNoiseDistribution": "use DiagGaussianDistribution, or correlated noise in "
    "bbrl_exp.policies.exploration",
    "bbrl.utils.logger.Log": f"{_PICKLES}; read the curves with TensorBoard, or scalars.csv beside its file",
    "bbrl.utils.logger.Logs": f"{_PICKLES}; read the curves with TensorBoard, or scalars.csv beside its file",
    "bbrl.utils.logger.read_log": f"{_PICKLES}; read the curves with TensorBoard, or scalars.csv beside its file",
    "bbrl.utils.logger.read_directories": f"{_PICKLES}; read scalars.csv in each folder",
    "bbrl.utils.logger.read_directory": f"{_PICKLES}; read scalars.csv in each folder",
    "bbrl.utils.logger.get_directories": "use pathlib.Path(folder).rglob('scalars.csv')",
    "bbrl.utils.logger.plot_dataframe": "read scalars.csv with pandas and plot it with seaborn",
    "bbrl.utils.logger.flattify": "it prepares what read_log reads",
    "bbrl.utils.utils.nRemoteParamAgent": "unfinished in BBRL; use bbrl_exp.agents.remote.AsynchronousAgent",
    "bbrl.utils.utils.nRemoteDistinctAgents": "unfinished in BBRL; use bbrl_exp.agents.remote.AsynchronousAgent",
    "bbrl.visu.play": f"{_PICKLES}, and it plays in environments of gym 0.21; use record_video",
    "bbrl.workspace.SlicedTemporalTensor": _STORAGE,
    "bbrl.workspace.CompactTemporalTensor": _STORAGE,
    "bbrl.workspace.CompactSharedTensor": _STORAGE,
    "bbrl.workspace.take_per_row_strided": "use workspace.select_subtime(t, window_size)",
}
"""Name, or module, of BBRL → why it is not here, or what to use instead."""
LEFT_OUT["bbrl.utils.gymnasium.distributions.StateDependentNoiseDistribution"] = LEFT_OUT[
    "bbrl.utils.distributions.StateDependentNoiseDistribution"
]
