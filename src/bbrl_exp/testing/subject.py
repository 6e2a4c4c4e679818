"""What is checked: an agent of a configuration, as a run builds it, or an agent that a test builds itself."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.combinators import Agents, TemporalAgent
from bbrl_exp.config.check import CheckedRun
from bbrl_exp.config.graph import LEARNER_KEY
from bbrl_exp.config.nodes import parameters_of
from bbrl_exp.config.preparation import build_graph_and_learner, prepare
from bbrl_exp.config.targets import find_target
from bbrl_exp.envs.environment_agent import EnvironmentAgent
from bbrl_exp.envs.spec import EnvSpec
from bbrl_exp.envs.values import ObservationReader
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.learners.learner import Learner
from bbrl_exp.runs.evaluator import without_remotes
from bbrl_exp.runs.loaded_policy import LoadedPolicy
from bbrl_exp.runs.player import Player
from bbrl_exp.runs.policy import SavedRun, policy_of
from bbrl_exp.runs.without_environments import Outside, members_of
from bbrl_exp.seeding import seed_global_generators, untouched_global_generators
from bbrl_exp.testing.tape import N_ENVIRONMENTS, RealRows, TapeEnvironments, spec_of_tape
from bbrl_exp.training.checkpoint import load_graph, policy_state

State = Mapping[str, Any]
# From an observation, a state, where episodes begin and other variables to actions and the next state.
Act = Callable[[Any, Any, Any, Mapping[str, Any]], tuple[Any, Mapping[str, Tensor]]]

# Environment steps before the first update, no more of them here: what is replayed early is replayed as it is later.
_START, _MOST_START = "learning_starts", 128


class Subject(Protocol):
    """An agent, which can be built again and again."""

    @property
    def label(self) -> str:
        """As it is called."""

    @property
    def steps_per_chunk(self) -> int:
        """Time steps between two updates."""

    @property
    def chunks_per_recording(self) -> int:
        """Chunks after which the recording is cut."""

    @property
    def total_steps(self) -> int:
        """Environment steps of its run."""

    @property
    def schedule_steps(self) -> int | None:
        """Environment steps of its schedules; None for ``total_steps``."""

    def real_rows(self) -> RealRows:
        """What its environment shows."""

    def build(self, environments: TapeEnvironments) -> tuple[TemporalAgent, Learner | None]:
        """Its graph around some environments, and its learner, as at the beginning of a run."""

    def loaded(self, state: State) -> Agent:
        """Its policy without environments, from what is saved of a graph."""

    def acting(self, state: State) -> Act:
        """Answers observations with actions, from what is saved of a graph."""


def saved(graph: Agent) -> State:
    """What is kept of a graph, as it comes back from a file."""
    contents = io.BytesIO()
    torch.save(policy_state(graph, None)["graph"], contents)
    contents.seek(0)
    state: State = torch.load(contents, weights_only=True)
    return state


def load(graph: Agent, state: State) -> None:
    """Gives a graph the parameters and buffers of another one."""
    load_graph(graph, {"graph": dict(state)}, "check-memory")


@dataclass(frozen=True)
class ConfiguredSubject:
    """The agent of a configuration.

    Args:
        label: as it is called.
        run: checked.
        config: its configuration, changed to what is played here.
    """

    label: str
    run: CheckedRun
    config: Mapping[str, Any]

    @classmethod
    def of(cls, run: CheckedRun) -> ConfiguredSubject:
        """Refuses what a run would refuse.

        Raises:
            ConfigurationError: something cannot be used.
        """
        with prepare(run, without_environments=True):
            pass
        learner = run.config["agent"]["learner"]
        if learner is not None and _START in parameters_of(find_target(learner["_target_"], LEARNER_KEY)):
            learner = {**learner, _START: min(learner.get(_START, _MOST_START), _MOST_START)}
        config = {
            **run.config,
            "batch_size": N_ENVIRONMENTS,
            "graph": without_remotes(run.config["graph"]),
            "agent": {**run.config["agent"], "learner": learner},
        }
        chosen = {group: run.choices[group] for group in ("agent", "env", "memory") if run.choices[group] is not None}
        return cls(" ".join(f"{group}={option}" for group, option in chosen.items()), run, config)

    @property
    def steps_per_chunk(self) -> int:
        return self.run.size.steps_per_chunk

    @property
    def chunks_per_recording(self) -> int:
        return self.run.size.chunks_per_recording

    @property
    def total_steps(self) -> int:
        return self.run.size.env_steps

    @property
    def schedule_steps(self) -> int | None:
        return self.run.size.schedule_steps

    def real_rows(self) -> RealRows:
        found: list[RealRows] = []

        def record(single: EnvironmentAgent, *_: object) -> Agent:
            found.append(RealRows.of(single, self.run.root.seed))
            return single.dry_copy(N_ENVIRONMENTS)

        self._built(record)
        if not found:
            raise ConfigurationError("check-memory needs a graph with one environment agent; found none")
        return found[0]

    def build(self, environments: TapeEnvironments) -> tuple[TemporalAgent, Learner | None]:
        return self._built(lambda *_: environments)

    def _built(self, stand_in: Callable[..., Agent]) -> tuple[TemporalAgent, Learner | None]:
        n_environments = 0

        def only_one(*given: Any) -> Agent:
            nonlocal n_environments
            n_environments += 1
            if n_environments > 1:
                raise ConfigurationError("check-memory needs a graph with one environment agent; found a second one")
            return stand_in(*given)

        seed_global_generators(self.run.root.seed)
        graph, learner, _ = build_graph_and_learner(self.config, self.run.written_key, only_one)
        return graph, learner

    def loaded(self, state: State) -> LoadedPolicy:
        return policy_of(SavedRun(Path(self.label), dict(self.config), dict(state), None))

    def acting(self, state: State) -> Act:
        policy = self.loaded(state)
        return lambda observation, before, starts, variables: policy.act(
            observation, before, starts=starts, variables=variables
        )


@dataclass(frozen=True)
class BuiltSubject:
    """An agent that a function builds.

    Args:
        label: as it is called.
        make: builds all agents but the environments, in their order.
        environments: where they act.
        make_learner: builds their learner; None for none.
        steps_per_chunk: time steps of a chunk.
    """

    label: str
    make: Callable[[EnvSpec], Agent]
    environments: EnvironmentAgent
    make_learner: Callable[[Agent], Learner] | None
    steps_per_chunk: int
    chunks_per_recording: int = 1
    total_steps: int = 100_000
    schedule_steps: int | None = None

    def real_rows(self) -> RealRows:
        return RealRows.of(self.environments, 0)

    def build(self, environments: TapeEnvironments) -> tuple[TemporalAgent, Learner | None]:
        agent = self._made(environments.env_spec)
        learner = None if self.make_learner is None else self.make_learner(agent)
        return TemporalAgent(Agents(environments, agent)), learner

    def loaded(self, state: State) -> Agent:
        agent = self._made(self._spec).train(False)
        load(TemporalAgent(Agents(Agent(), agent)), state)
        return agent

    def acting(self, state: State) -> Act:
        outside = Outside(self.environments.dry_copy(N_ENVIRONMENTS))
        player = Player([outside, *members_of(self.loaded(state))])
        read = ObservationReader(self._spec.observations)
        return lambda observation, before, starts, variables: player.act(
            read(observation, None), before, starts, variables
        )

    @property
    def _spec(self) -> EnvSpec:
        return spec_of_tape(self.environments.env_spec)

    def _made(self, spec: EnvSpec) -> Agent:
        seed_global_generators(0)
        agent = self.make(spec)
        if not isinstance(agent, Agent):
            raise ConfigurationError(f"make: must give an Agent, found {type(agent).__name__}")
        return agent


def asked_variables(members: Sequence[Agent], environments: TapeEnvironments) -> tuple[str, ...]:
    """What ``act`` must be given beside observations."""
    return Player([Outside(environments.dry_copy()), *members]).asked


@contextlib.contextmanager
def repeatable() -> Iterator[None]:
    """Lets one thread of PyTorch do what follows, and leaves that and the global generators as they were."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with untouched_global_generators():
            yield
    finally:
        torch.set_num_threads(n_threads)
