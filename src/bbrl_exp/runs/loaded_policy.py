"""A policy outside the framework: an agent that also answers observations with actions, without a workspace."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.combinators import Agents
from bbrl_exp.agents.graph_check import VariableFacts, check_graph
from bbrl_exp.agents.remote.agents import NRemoteAgent, RemoteAgent
from bbrl_exp.config.graph import build_graph_of, env_spec_of
from bbrl_exp.envs.rows import value_of
from bbrl_exp.envs.spec import EnvSpec, MisfitError
from bbrl_exp.envs.values import ActionWriter, ObservationReader, Observed
from bbrl_exp.errors import ConfigurationError, GraphError
from bbrl_exp.runs.evaluator import FINAL
from bbrl_exp.seeding import stream_seed, untouched_global_generators
from bbrl_exp.workspace import RowFacts, Workspace

if TYPE_CHECKING:
    from bbrl_exp.agents.combinators import TemporalAgent

State = Mapping[str, Tensor]

_STARTS, _TIMESTEP, _DONE = "env/initial_state", "env/timestep", "env/done"
_KNOWN = (_STARTS, _TIMESTEP, _DONE)
_ROWS = 16  # as many as a workspace has room for at first


class LoadedPolicy(Agents):
    """The agents of a run without its environments: to be run on a workspace, or asked for actions by :meth:`act`.

    Args:
        agents: the agents.
        config: of the run, resolved and checked.
        env_spec: facts of the environments of the run.
        seed: root of what :meth:`act` draws; None for that of the run's final evaluations.

    Attributes:
        env_spec: shapes, dtypes and bounds of observations and actions.
    """

    def __init__(self, *agents: Agent, config: Mapping[str, Any], env_spec: EnvSpec, seed: int | None) -> None:
        super().__init__(*agents)
        self.env_spec = env_spec
        self._config = config
        self._seed = seed
        self._players: dict[tuple[int, bool], _Player] = {}
        self._read = ObservationReader(env_spec.observations)

    def act(
        self,
        observation: Any,
        state: State | None = None,
        *,
        starts: Any = None,
        sample: bool = False,
        variables: Mapping[str, Any] | None = None,
    ) -> tuple[Any, State]:
        """The actions for one observation, or for a batch of B observations with a leading dimension.

            state = None
            while not done:
                action, state = policy.act(observation, state)
                observation, reward, terminated, truncated, info = env.step(action)

        Gives what an evaluation of the run would do: normalisers learn nothing, nothing explores, and those agents of
        the graph run on which the action depends, also your own between environment and policy. In a batch every row
        has an episode of its own. With the same observations and batch size, actions are bitwise identical to those
        of an evaluation; another batch size may round differently.

        One policy is for one thread at a time; load it once per thread. PyTorch's number of threads is left alone.

        Args:
            observation: ``[*shape]``, or a batch ``[B, *shape]``, as the environments of the run show it after all
                their wrappers: an array, a tensor, a number, or a mapping or tuple of these for a Dict or Tuple space.
                Other dtypes are converted where nothing is lost (float64 to float32 is rounded).
            state: what the last call for these environments returned; None begins an episode in all of them, with
                empty memories. It is a mapping of variables to tensors ``[B, …]`` on the policy's device, not to be
                changed: it can be used again, saved by ``torch.save`` and loaded with ``weights_only=True``.
            starts: bool ``[B]`` (or one bool for one observation): where this observation is the first of an episode.
                Memories are empty there. None for nowhere; with ``state=None`` it is everywhere, whatever this says.
            sample: whether actions are drawn from the policy's distribution instead of the likeliest ones. Draws come
                from the generators of this policy, one sequence per batch size: see ``load_policy(seed=…)`` and
                :meth:`seed`. The position in a sequence is not part of the state. A random agent draws in any case.
            variables: what agents read of the environments beside observations, such as ``{"env/reward": reward}``: of
                the step that led here, 0 where an episode starts. An error names what is needed.

        Returns:
            The actions in the dtype and shape of their space, ``[*shape]`` or ``[B, *shape]``, as an environment of the
            run would get them: boxes are clipped to their bounds, unless the run says ``env.clip_actions=false``. They
            are arrays, or tensors on the device of the observation if that is a tensor; a mapping or tuple for a
            Dict or Tuple space. And the state for the next call.

        Raises:
            ConfigurationError: an observation, a state, ``starts`` or a variable that does not fit, ``sample`` for a
                policy without a distribution, or a graph in which something else than one environment agent acts.
            NonFiniteError: the policy gives NaN or infinity.
        """
        observed = self._read(observation, None if self.is_on_cpu else self.agent_device)
        kind = observed.batch_size, bool(sample)
        player = self._players.get(kind)
        if player is None:
            player = self._players[kind] = self._new_player(*kind)
        return player.act(observed, state, starts, variables or {})

    def forward(self, **kwargs: Any) -> None:
        """Runs the agents with ``kwargs``.

        Raises:
            GraphError: at t = 0, observations on the workspace that are not those that the policy was made for.
        """
        if kwargs.get("t") == 0:
            self._check_observations()
        super().forward(**kwargs)

    def _check_observations(self) -> None:
        assert self.workspace is not None
        facts = self.workspace.variable_facts()
        for leaf in self.env_spec.observations:
            if leaf.name in facts:
                _, shape, dtype, _ = facts[leaf.name]
                expected = f"{leaf.dtype} [{', '.join(map(str, ('B', *leaf.shape)))}]"
                found = f"{str(dtype).removeprefix('torch.')} {list(shape)}"
                if (tuple(shape[1:]), found.split()[0]) != (leaf.shape, leaf.dtype):
                    made_for = f"made for {self.env_spec.env_id}, where '{leaf.name}' is {expected}"
                    raise GraphError(f"this policy was {made_for}; found {found}")

    def seed(self, seed: int) -> None:
        """Restarts the random streams of the agents, those of :meth:`act` included, from the root ``seed``."""
        super().seed(seed)
        self._seed = seed
        for player in self._players.values():
            player.agents.seed(seed)

    def _new_player(self, batch_size: int, sample: bool) -> _Player:
        with untouched_global_generators():
            graph = graph_without_environments(self._config, batch_size)
            members = [agent.to(self.agent_device) for agent in members_of(graph.agent)]
        policy = [agent for agent in members if not isinstance(agent, Outside)]
        # They have the same parameters, wherever these are changed.
        for mine, its in zip(self, policy, strict=True):
            its.load_state_dict(mine.state_dict())
            own = mine.state_dict(keep_vars=True)
            for name, tensor in its.state_dict(keep_vars=True).items():
                if isinstance(tensor, Tensor):
                    tensor.data = own[name].data
        player = _Player(members)
        player.agents.sample_actions(sample)
        seed = self._seed
        if seed is None and sample:
            seed = stream_seed(self._config["eval"]["seed"], FINAL, "drawn actions")
        elif seed is None:
            seed = stream_seed(self._config["seed"], FINAL, "policy")
        player.agents.seed(seed)
        return player

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        self._players.clear()
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_players": {}}


class Outside(Agent):
    """Takes the place of the environments in a graph, and writes the rows that come from outside.

    Args:
        stand_in: what takes their place in the graph check.

    Attributes:
        layout: variables that are written, with shape ``[B, …]`` and dtype of their rows; empty in the graph check.
        rows: one array or tensor for each.
    """

    def __init__(self, stand_in: Agent) -> None:
        super().__init__(stand_in.name)
        self.stand_in = stand_in
        self.layout: RowFacts = {}
        self.rows: list[Any] = []

    def forward(self, t: int, **kwargs: Any) -> None:
        """Writes row ``t``."""
        if not self.layout:
            assert self.workspace is not None
            self.stand_in(self.workspace, t=t)
        elif self.is_on_cpu:
            self.write_rows(t, self.layout, self.rows)
        else:
            for name, row in zip(self.layout, self.rows, strict=True):
                self.set((name, t), torch.as_tensor(row, device=self.agent_device))


def graph_without_environments(config: Mapping[str, Any], batch_size: int | None = None) -> TemporalAgent:
    """The graph of a configuration in evaluation mode, with an :class:`Outside` in place of each environment agent.

    Args:
        config: resolved and checked.
        batch_size: number B of environments; None for that of the configuration.
    """
    graph = build_graph_of(config, stand_in=lambda single, size, *_: Outside(single.dry_copy(batch_size or size)))
    return graph.train(False)


def members_of(agent: Agent) -> Iterator[Agent]:
    """The agents that run one after the other; those of remote agents run here."""
    if isinstance(agent, RemoteAgent | NRemoteAgent):
        yield from members_of(agent.agent)
    elif type(agent) is Agents:
        for member in agent:
            yield from members_of(member)
    else:
        yield agent


class _Player:
    """The agents of a graph for batches of one size, on a workspace of their own.

    Args:
        members: all agents of the graph.

    Attributes:
        agents: those on which the action depends.
    """

    def __init__(self, members: Sequence[Agent]) -> None:
        outside = [agent for agent in members if isinstance(agent, Outside)]
        spec = env_spec_of(outside[0]) if len(outside) == 1 else None
        if spec is None:
            raise ConfigurationError(f"act needs a graph with one environment agent, found {len(outside)}")
        facts = {variable.name: variable for variable in check_graph(Agents(*members))}
        uses = {agent: _Uses.of(agent, facts.values()) for agent in members}
        self._actions = [leaf.name for leaf in spec.actions]
        running = _needed_for(self._actions, uses)
        readers = {agent: uses[agent] for agent in running if agent is not outside[0]}
        read, written = _all(each.reads for each in readers.values()), _all(each.writes for each in readers.values())
        shown = uses[outside[0]].writes
        self._supplied = {name: fact for name, fact in facts.items() if name in shown & read}
        self._kept = {name: fact for name, fact in facts.items() if name in self._supplied or name in written}
        self._observations = [leaf.name for leaf in spec.observations]
        self._asked = {
            name: next(agent.label for agent, each in readers.items() if name in each.reads)
            for name in self._supplied
            if name not in self._observations and name not in _KNOWN
        }
        self._outside = outside[0]
        self._outside.layout = {name: (fact.shape, _numpy_dtype(fact)) for name, fact in self._supplied.items()}
        self._write_actions = ActionWriter(spec)
        self.agents = Agents(*running)
        self._names = tuple(self._kept)
        self._has_arrays = all(fact.dtype != torch.bfloat16 for fact in self._kept.values())
        self._workspace, self._t = Workspace(), 0
        self._last: State | None = None

    def act(
        self, observed: Observed, state: State | None, starts: Any, variables: Mapping[str, Any]
    ) -> tuple[Any, State]:
        """See :meth:`LoadedPolicy.act`."""
        begun = None if starts is None else _started(starts, observed)
        rows: dict[str, Any] = {**dict(zip(self._observations, observed.rows, strict=True))}
        if variables or self._asked:
            rows |= self._given(variables, observed)
        t = self._begin(state)
        if any(name in self._supplied for name in _KNOWN):
            rows |= self._known(t, begun, observed.batch_size)
        self._outside.rows[:] = [rows[name] for name in self._supplied]
        with torch.inference_mode():
            self.agents(self._workspace, t=t)
        following = self._state(t)
        actions = self._write_actions([following[name].cpu().numpy() for name in self._actions], t, observed)
        self._last, self._t = following, t + 1
        return actions, following

    def _state(self, t: int) -> State:
        """A copy of row ``t``."""
        if self._has_arrays and self._outside.is_on_cpu:
            rows = self._workspace.row_reader(self._names).rows(t)
            return {name: torch.from_numpy(row.copy()) for name, row in zip(self._names, rows, strict=True)}
        return {name: self._workspace.get(name, t).clone() for name in self._names}

    def _begin(self, state: State | None) -> int:
        """Makes the last row of the workspace that of the state, and gives the time of the row after it."""
        workspace, is_last = self._workspace, state is not None and state is self._last
        self._last = None  # until all agents have run
        if is_last and self._t < _ROWS:
            return self._t
        if is_last:
            workspace.copy_n_last_steps(1)
            return 1
        if state is not None:
            self._check(state)
        workspace.truncate(0)
        for name, row in (state or {}).items():
            workspace.set(name, 0, row.to(self._outside.agent_device))
        return 0 if state is None else 1

    def _check(self, state: State) -> None:
        """Refuses what :meth:`act` has not returned for as many environments."""
        fix = "give what the last call for these environments returned, or None to begin an episode"
        if not isinstance(state, Mapping) or state.keys() != self._kept.keys():
            found = ", ".join(map(str, state)) if isinstance(state, Mapping) else type(state).__name__
            raise ConfigurationError(f"state: must hold {', '.join(self._kept)}; found {found}; {fix}")
        for name, fact in self._kept.items():
            row = state[name]
            if not isinstance(row, Tensor) or row.shape != fact.shape or row.dtype != fact.dtype:
                found = f"{row.dtype} {list(row.shape)}" if isinstance(row, Tensor) else type(row).__name__
                expected = f"{fact.dtype} {list(fact.shape)}".removeprefix("torch.")
                raise ConfigurationError(
                    f"state: '{name}' must be {expected}; found {found.removeprefix('torch.')}; {fix}"
                )

    def _known(self, t: int, begun: NDArray[np.bool_] | None, batch_size: int) -> dict[str, NDArray[Any]]:
        """Where episodes start, and how long they are."""
        workspace = self._workspace
        starts = np.full(batch_size, t == 0) if t == 0 or begun is None else begun
        if t > 0 and _DONE in self._supplied and starts.any():
            workspace.set(_DONE, t - 1, torch.from_numpy(starts).to(self._outside.agent_device))
        steps = np.zeros(batch_size, np.int64)
        if t > 0 and _TIMESTEP in self._supplied:
            steps = np.where(starts, 0, workspace.get(_TIMESTEP, t - 1).cpu().numpy() + 1)
        return {_STARTS: starts, _TIMESTEP: steps, _DONE: np.zeros(batch_size, np.bool_)}

    def _given(self, variables: Mapping[str, Any], observed: Observed) -> dict[str, NDArray[Any]]:
        """The rows of what else agents read of the environments."""
        for name in variables:
            if name not in self._asked:
                needed = ", ".join(self._asked) or "nothing"
                raise ConfigurationError(f"variables: no agent needs '{name}'; needed: {needed}")
        rows = {}
        for name, reader in self._asked.items():
            if name not in variables:
                raise ConfigurationError(
                    f"{reader} reads '{name}', which no observation shows: give act(…, variables={{'{name}': …}})"
                )
            shape, dtype = self._supplied[name].shape, _numpy_dtype(self._supplied[name])
            value = variables[name].detach().cpu() if isinstance(variables[name], Tensor) else variables[name]
            try:
                row = value_of(value, shape[1:] if observed.is_single else shape, dtype, name)
                if not np.isfinite(row).all():
                    raise MisfitError(name, "finite", str(row[~np.isfinite(row)].flat[0]))
            except MisfitError as error:
                _, expected, found, _ = error.args
                raise ConfigurationError(f"variables: '{name}' must be {expected}; found {found}") from None
            rows[name] = row[None] if observed.is_single else row
        return rows


@dataclass(frozen=True)
class _Uses:
    """The variables that an agent reads and writes, those that it declares included."""

    reads: frozenset[str]
    writes: frozenset[str]

    @classmethod
    def of(cls, agent: Agent, facts: Collection[VariableFacts]) -> _Uses:
        """What the graph check found."""
        parts = [module for module in agent.modules() if isinstance(module, Agent)]
        names = {part.name or type(part).__name__ for part in parts}
        reads = {name for part in parts for name in part.reads or ()}
        return cls(
            frozenset(reads.union(fact.name for fact in facts if names.intersection(fact.readers))),
            frozenset(fact.name for fact in facts if names.intersection(fact.writers)),
        )


def _all(sets: Iterable[frozenset[str]]) -> frozenset[str]:
    return frozenset().union(*sets)


def _needed_for(variables: Iterable[str], uses: Mapping[Agent, _Uses]) -> list[Agent]:
    """The agents, in their order, on which variables depend."""
    wanted, needed = frozenset(variables), set[Agent]()
    while more := {agent for agent, each in uses.items() if each.writes & wanted} - needed:
        needed |= more
        wanted |= _all(uses[agent].reads for agent in more)
    return [agent for agent in uses if agent in needed]


def _numpy_dtype(fact: VariableFacts) -> np.dtype[Any]:
    return torch.empty(0, dtype=fact.dtype).numpy().dtype


def _started(starts: Any, observed: Observed) -> NDArray[np.bool_]:
    """``starts`` as bool ``[B]``."""
    array = starts.detach().cpu().numpy() if isinstance(starts, Tensor) else np.asarray(starts)
    shape = () if observed.is_single else (observed.batch_size,)
    if array.dtype != np.bool_ or array.shape != shape:
        expected = "one bool" if observed.is_single else f"bool {list(shape)}"
        raise ConfigurationError(f"starts: must be {expected}; found {array.dtype.name} {list(array.shape)}")
    return array.reshape(observed.batch_size)
