"""A policy outside the framework: an agent that also answers observations with actions, without a workspace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from torch import Tensor

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.combinators import Agents
from bbrl_exp.envs.spec import EnvSpec
from bbrl_exp.envs.values import ObservationReader
from bbrl_exp.errors import ConfigurationError, GraphError
from bbrl_exp.runs.evaluator import FINAL
from bbrl_exp.runs.player import Player, State
from bbrl_exp.runs.without_environments import Outside, graph_without_environments, members_of
from bbrl_exp.seeding import stream_seed, untouched_global_generators


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
        self._players: dict[tuple[int, bool], Player] = {}
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
        is a separate episode. With the same observations and batch size, actions are bitwise identical to those
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
            sample: whether actions are sampled from the policy's distribution; else the most likely ones. Draws come
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
        if not isinstance(sample, bool | np.bool_):
            raise ConfigurationError(f"sample: must be True or False; found {type(sample).__name__}")
        if not isinstance(variables, Mapping | None):
            raise ConfigurationError(f"variables: must map names to values; found {type(variables).__name__}")
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

    def _new_player(self, batch_size: int, sample: bool) -> Player:
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
        player = Player(members)
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
