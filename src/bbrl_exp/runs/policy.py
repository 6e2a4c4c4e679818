"""What a finished run has learned, from its folder: ``load_policy`` and ``evaluate``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bbrl_exp.arguments import is_integer
from bbrl_exp.config.check import check_contents, check_saved
from bbrl_exp.config.graph import env_spec_of
from bbrl_exp.config.schema import ACTING
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.runs.evaluator import FINAL, build_evaluator
from bbrl_exp.seeding import stream_seed
from bbrl_exp.training.policy_file import SUFFIX, PolicyFile
from bbrl_exp.training.saved_state import Which, policy_path, read_kept, summary_of_run

if TYPE_CHECKING:
    from bbrl_exp.agents.combinators import TemporalAgent
    from bbrl_exp.records.metrics import Acting
    from bbrl_exp.runs.loaded_policy import LoadedPolicy
    from bbrl_exp.training.evaluation import Evaluation

DEFAULT_EPISODES = 20


@dataclass(frozen=True)
class SavedRun:
    """A run's folder, or the file of an exported policy, as far as its policy is concerned.

    Attributes:
        source: the folder or the file.
        config: its configuration, resolved and checked.
        graph_state: the parameters and buffers of its graph; empty for a graph that has none.
        env_steps: environment steps after which it was this policy.
    """

    source: Path
    config: dict[str, Any]
    graph_state: dict[str, Any]
    env_steps: int | None

    @classmethod
    def read(cls, run_folder: str | os.PathLike[str], which: Which = "last") -> SavedRun:
        """Reads the folder of a run, or the ``.safetensors`` file of an exported policy.

        Args:
            run_folder: the folder, or the file.
            which: ``last``, or ``best`` by the evaluations along the run; a file holds one policy.

        Raises:
            ConfigurationError: it is neither, has no such policy, or its configuration cannot be used here.
        """
        if not isinstance(run_folder, str | os.PathLike) or "\0" in str(run_folder):
            raise ConfigurationError(f"run_folder={run_folder!r}: must be the path of a run's folder")
        folder = Path(run_folder)
        if which not in ("last", "best"):
            raise ConfigurationError(f"which={which!r}: must be last or best")
        if folder.suffix == SUFFIX and not folder.is_dir():
            if which == "best":
                raise ConfigurationError(f"which='best': '{folder}' holds one policy; leave it out")
            file = PolicyFile.read(folder)
            config = check_contents(file.card["config"], str(folder))
            return cls(folder, config, dict(file.state), file.env_steps)
        summary = summary_of_run(folder)
        config = check_saved(folder)
        # What has no parameters is as it was built, and nothing is kept of it.
        is_kept = policy_path(folder, which).exists() or which == "best" or config["agent"]["learner"] is not None
        if not is_kept:
            return cls(folder, config, {}, summary["env_steps"])
        kept = read_kept(folder, which)
        return cls(folder, config, kept["state"]["graph"], kept["meta"].get("env_steps"))

    def graph(self, batch_size: int | None = None) -> TemporalAgent:
        """The graph without environments, in evaluation mode, with these parameters.

        Args:
            batch_size: number B of environments; None for that of the configuration.

        Raises:
            ConfigurationError: the graph cannot be built here, or has other parameters.
        """
        from bbrl_exp.runs.without_environments import graph_without_environments
        from bbrl_exp.training.checkpoint import load_graph

        graph = graph_without_environments(self.config, batch_size)
        if self.graph_state:
            load_graph(graph, {"graph": self.graph_state}, str(self.source))
        return graph


def load_policy(run_folder: str | os.PathLike[str], which: Which = "last", seed: int | None = None) -> LoadedPolicy:
    """The agents of a run without its environment, with the parameters that it ended with, in evaluation mode.

    Ask it for actions by :meth:`~bbrl_exp.runs.loaded_policy.LoadedPolicy.act`. It is also an agent: put it after an
    environment agent, ``TemporalAgent(Agents(environments, load_policy(run_folder)))``, or call it on a workspace that
    holds what it reads, ``policy(workspace, t=0)``: the observations, with a memory the initial states, with a
    normaliser of rewards these. One environment is opened for a moment, to learn its spaces.

    Args:
        run_folder: the folder of the run, or the ``.safetensors`` file of an exported policy.
        which: ``last``, or ``best`` by the evaluations along the run.
        seed: root of the random numbers that ``act`` draws; None for those of the run's final evaluations.

    Raises:
        ConfigurationError: it is not a run folder, has no such policy, or its configuration cannot be used here.
    """
    if seed is not None:
        stream_seed(seed)
    return policy_of(SavedRun.read(run_folder, which), seed)


def policy_of(saved: SavedRun, seed: int | None = None) -> LoadedPolicy:
    """The policy of what was read of a run; see :func:`load_policy`."""
    from bbrl_exp.runs.loaded_policy import LoadedPolicy
    from bbrl_exp.runs.without_environments import Outside, members_of

    graph = saved.graph()
    spec = env_spec_of(graph)
    assert spec is not None
    members = [agent for agent in members_of(graph.agent) if not isinstance(agent, Outside)]
    return LoadedPolicy(*members, config=saved.config, env_spec=spec, seed=seed).train(False)


def evaluate(
    run_folder: str | os.PathLike[str],
    episodes: int | None = None,
    which: Which = "last",
    seed: int | None = None,
    animation: str | os.PathLike[str] | None = None,
    policy: Acting | None = None,
) -> Evaluation:
    """Evaluates the policy of a run as the run does at its end; the same arguments give the same returns.

    Args:
        run_folder: the folder of the run, or the ``.safetensors`` file of an exported policy.
        episodes: how many; None for as many as the run's own final evaluation, or 20.
        which: ``last``, or ``best`` by the evaluations along the run.
        seed: root of the list of episodes; None for the run's own ``eval.seed``.
        animation: a ``.gif`` or ``.mp4`` file to make, which must not exist yet, of the first of these episodes.
        policy: ``mode`` takes the most likely actions, ``sample`` samples them; None does what the run is judged by.

    Raises:
        ConfigurationError: a folder, a policy or a number that cannot be used.
    """
    if episodes is not None and not is_integer(episodes):
        raise ConfigurationError(f"episodes={episodes!r}: must be an integer")
    if episodes is not None and episodes < 1:
        raise ConfigurationError(f"episodes={episodes}: must be at least 1")
    if policy not in (None, *ACTING):
        raise ConfigurationError(f"policy={policy!r}: must be {' or '.join(ACTING)}")
    path = None if animation is None else Path(animation)
    if path is not None:
        from bbrl_exp.training.animation import check_animation

        check_animation(path)
    saved = SavedRun.read(run_folder, which)
    n_episodes = episodes or saved.config["eval"]["final_episodes"] or DEFAULT_EPISODES
    with contextlib.ExitStack() as open_films:  # a film that cannot be made is refused before anything is played
        film = None if path is None else open_films.enter_context(_film_of(saved, seed, policy))
        evaluation = _evaluated(saved, n_episodes, seed, policy)
        if film is not None and path is not None:
            film(path)
    return evaluation


def _evaluated(saved: SavedRun, episodes: int, seed: int | None, acting: Acting | None) -> Evaluation:
    with contextlib.closing(build_evaluator(saved.config, FINAL, episodes, seed=seed, acting=acting)) as evaluator:
        if saved.graph_state:
            evaluator.load(saved.graph_state)
        evaluation = evaluator.run()
    assert evaluation is not None
    return evaluation


def animate(saved: SavedRun, seed: int | None, path: Path, acting: Acting | None = None) -> None:
    """Films the first of the final episodes; see :func:`evaluate`.

    Raises:
        ConfigurationError: the environment shows no pictures.
    """
    with _film_of(saved, seed, acting) as film:
        film(path)


@contextlib.contextmanager
def _film_of(saved: SavedRun, seed: int | None, acting: Acting | None) -> Iterator[Callable[[Path], None]]:
    """A function that films the first of the final episodes into a file."""
    from bbrl_exp.training.animation import record

    built = build_evaluator(saved.config, FINAL, 1, seed=seed, shows_frames=True, acting=acting)
    with contextlib.closing(built) as evaluator:
        if saved.graph_state:
            evaluator.load(saved.graph_state)
        yield lambda path: record(evaluator, path)
