"""The environment agents: a batch of gymnasium environments that reads ``action`` and writes ``env/…``.

Row t of the workspace is what the environments show at time t; reward and ends in it are caused by the action at t -
1. At t = 0 everything is reset and a new recording begins: rows beyond 0 of every variable are dropped.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Protocol, Self

from numpy.typing import NDArray

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.slices import BatchSlice
from bbrl_exp.envs.action_log import MOST_STEPS
from bbrl_exp.envs.actions import ActionReader
from bbrl_exp.envs.batch import BatchSetup
from bbrl_exp.envs.dry_agent import DryGymAgent
from bbrl_exp.envs.episode_state import check_fits
from bbrl_exp.envs.kernels import Stepping, open_kernel
from bbrl_exp.envs.make import Env, EnvFactory, Wrapper, env_recipe
from bbrl_exp.envs.rows import info_dtypes, row_layout
from bbrl_exp.envs.scalar import ScalarKernel
from bbrl_exp.envs.spaces import leaves_of
from bbrl_exp.envs.spec import EnvSpec, SpaceMismatchError
from bbrl_exp.envs.staging import StagedRows, arrays_of, packed_to_host, tensors_of
from bbrl_exp.envs.vectorized import VectorizedKernel
from bbrl_exp.errors import BbrlExpError, ConfigurationError
from bbrl_exp.seeding import stream_seed, untouched_global_generators
from bbrl_exp.workspace import Workspace


class RowSink(Protocol):
    """Where rows go: memory to fill, and the word that it has been filled."""

    def rows(self, t: int) -> Sequence[NDArray[Any]]:
        """The memory of row ``t`` of each variable."""

    def commit(self, t: int) -> None:
        """Records row ``t``."""


class GymAgent(Agent):
    """B gymnasium environments side by side.

    Writes, each ``[B]`` unless said otherwise: ``env/env_obs`` (``[B, *shape]`` in the space's dtype; a Dict space
    becomes ``env/env_obs/<key>``, a Tuple ``env/env_obs/<i>``), ``env/reward`` (float32), ``env/terminated``,
    ``env/truncated``, ``env/done`` (bool, either of the two; both can be true), ``env/timestep`` (int64, steps since
    the episode began), ``env/initial_state`` (bool), ``env/cumulated_reward`` (float32, summed in float64), and
    ``env/info/<key>`` for chosen keys. Reads ``action`` (or ``action/<key>``) at t - 1.

    Args:
        env: a gymnasium id, or a function that returns an environment.
        batch_size: number B of environments.
        seed: the root seed; each episode of each environment has its own stream.
        role: ``"train"`` or ``"eval"``: which streams, so that the two share none.
        stepping: ``"scalar"`` in this process; ``"workers"`` in ``workers`` processes, with the same rows to the bit;
            ``"vectorized"`` by the environment's own vectorised implementation, whose resets draw from one stream for
            the whole batch; ``"auto"``: workers if asked for, else scalar.
        workers: number of worker processes.
        worker_timeout: seconds after which a worker that does not answer is an error.
        wrappers: functions from an environment to an environment, applied in this order.
        kwargs: keyword arguments of the environment.
        clip_actions: whether the environments get Box actions clipped to their bounds; the workspace keeps them as
            chosen.
        info_keys: info keys to record, as a mapping to dtype names, or a list for float32; None for none. Where an info
            lacks one, 0 or False is written.
        first: index of the first environment, where these are a part of a larger batch: environment i of them has the
            streams of environment ``first + i``.
        name: the agent's name.

    Raises:
        ConfigurationError: an environment or a combination of arguments that is not possible.
    """

    auto_reset: ClassVar[bool]

    def __init__(
        self,
        env: str | EnvFactory,
        batch_size: int,
        seed: int = 0,
        *,
        role: str = "train",
        stepping: Stepping = "auto",
        workers: int = 0,
        worker_timeout: float = 60.0,
        wrappers: Sequence[Wrapper] = (),
        kwargs: Mapping[str, Any] | None = None,
        clip_actions: bool = True,
        info_keys: Mapping[str, str] | Sequence[str] | None = None,
        first: int = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self._options: dict[str, Any] = {
            "role": role,
            "stepping": stepping,
            "workers": workers,
            "worker_timeout": worker_timeout,
            "wrappers": wrappers,
            "kwargs": kwargs,
            "clip_actions": clip_actions,
            "info_keys": info_keys,
            "first": first,
        }
        self._env, self._seed = env, seed
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ConfigurationError(f"batch_size={batch_size!r}: expected an integer of 1 or more")
        if isinstance(first, bool) or not isinstance(first, int) or first < 0:
            raise ConfigurationError(f"first={first!r}: expected an integer of 0 or more")
        if first and stepping == "vectorized":
            raise ConfigurationError(f"first={first}: vectorised environments have one stream for their whole batch")
        stream_seed(seed, role)
        recipe = env_recipe(env, kwargs, wrappers)
        setup = BatchSetup(recipe, batch_size, seed, role, self.auto_reset, info_dtypes(info_keys or ()), first)
        batch = open_kernel(setup, stepping, workers, worker_timeout)
        self._kernel = batch.kernel
        self._finalizer = weakref.finalize(self, self._kernel.close)
        self.observation_space, self.action_space = batch.spaces
        observations, actions = leaves_of(recipe.name, batch.spaces)
        self.env_spec = EnvSpec(
            env_id=recipe.name,
            batch_size=batch_size,
            observations=observations,
            actions=actions,
            max_episode_steps=batch.max_episode_steps,
            clips_actions=clip_actions,
        )
        self._layout = row_layout(self.env_spec.observations, setup.info, batch_size)
        self._readers = [ActionReader(leaf, batch_size, clip_actions) for leaf in self.env_spec.actions]
        self.reads: tuple[str, ...] = tuple(leaf.name for leaf in self.env_spec.actions)
        self.writes = tuple(self._layout)
        self._sink: tuple[Workspace, RowSink] | None = None
        self._has_begun = False
        self._has_failed = False

    @property
    def batch_size(self) -> int:
        """Number B of environments."""
        return self.env_spec.batch_size

    @property
    def envs(self) -> list[Env]:
        """The environments, where they live in this process one by one; else an empty list."""
        return self._kernel.envs if isinstance(self._kernel, ScalarKernel) else []

    def forward(self, t: int, **kwargs: Any) -> None:
        """Fills row ``t``.

        Raises:
            NonFiniteError: a NaN or an infinity in a reward, an observation or an action.
            SpaceMismatchError: an observation or an action that is not of its space.
            WorkerError: a worker that died, was stuck or raised.
            WorkspaceError: the action at t - 1 was never written.
        """
        workspace: Workspace = self.__dict__["workspace"]
        sink = self._sink_for(workspace, t)
        actions = self._read_actions(t - 1) if t > 0 else []
        rows = sink.rows(t)
        try:
            if t == 0:
                self._kernel.reset(t, rows)
                self._has_begun, self._has_failed = True, False
            else:
                self._kernel.step(t, actions, rows)
        except BaseException:
            self._sink, self._has_begun, self._has_failed = None, False, True
            raise
        sink.commit(t)

    def seed(self, seed: int) -> None:
        """Another root seed from the next reset on."""
        stream_seed(seed)
        self._kernel.seed(seed)
        self._seed = seed

    def forget_actions(self) -> None:
        """Keeps no actions from now on, for a run without checkpoints; there is no :meth:`run_state` any more."""
        self._kernel.forget_actions()

    def run_state(self) -> dict[str, Any]:
        """What leads other environments to where these are, tensors and plain Python: equal for any number of workers.

        Of environments that are stepped one by one, the seed of each one's episode and its actions since; of vectorised
        ones their attributes.

        Raises:
            BbrlExpError: vectorised environments that hold what cannot be saved; environments that have failed.
        """
        if self._has_failed:
            raise BbrlExpError(f"{self.label} has failed, so that there is nothing to go on from")
        state = self._kernel.state()
        if "n_actions" in state and (state["n_actions"] < state["timestep"]).any():
            warnings.warn(
                f"{self.env_spec.env_id} is in an episode of more than {MOST_STEPS:,} steps, whose actions are not "
                "kept: until it ends, the run cannot be resumed from its checkpoints",
                stacklevel=2,
            )
        found: dict[str, Any] = tensors_of(state)
        return {"has_begun": self._has_begun, "is_vectorized": self.is_vectorized, "kernel": found}

    def load_run_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from where :meth:`run_state` was taken: the next call is at t > 0, on a workspace with the same rows.

        Episodes are begun again with their seeds, and their actions are repeated; what is then seen must be what was
        seen before. The global generators are where they were afterwards.

        Raises:
            ConfigurationError: the state is that of other environments, or of another number of them.
            BbrlExpError: an environment that is not deterministic.
        """
        if state["is_vectorized"] != self.is_vectorized:
            kinds = ("stepped one by one", "vectorised")
            raise ConfigurationError(
                f"a state of environments that are {kinds[state['is_vectorized']]} cannot be taken over by "
                f"{self.env_spec.env_id}, {kinds[self.is_vectorized]}"
            )
        kernel_state = arrays_of(state["kernel"])
        check_fits(kernel_state, self.env_spec)
        self._sink, self._has_begun, self._has_failed = None, False, True
        with untouched_global_generators():
            self._kernel.load_state(kernel_state)
        self._seed = kernel_state["seed"]
        self._has_begun, self._has_failed = state["has_begun"], False

    @property
    def is_vectorized(self) -> bool:
        """Whether the environments step as one, by an implementation of their own."""
        return isinstance(self._kernel, VectorizedKernel)

    def close(self) -> None:
        """Closes the environments and ends the workers; may be called again."""
        self._sink = None
        self._finalizer()

    def dry_copy(self, batch_size: int | None = None) -> DryGymAgent:
        """A stand-in without environments that writes zeros and checks the actions.

        Args:
            batch_size: of how many environments; None for as many as there are.
        """
        size, options = batch_size or self.batch_size, self._options
        spec = replace(self.env_spec, batch_size=size)
        layout = row_layout(spec.observations, info_dtypes(options["info_keys"] or ()), size)
        readers = [ActionReader(leaf, size, options["clip_actions"]) for leaf in spec.actions]
        return DryGymAgent(self.name or type(self).__name__, self.label, spec, layout, readers, self.agent_device)

    def for_slice(self, part: BatchSlice) -> GymAgentOfSlice:
        if part.whole != self.batch_size:
            raise ConfigurationError(f"{self.label} has {self.batch_size} environments, and the batch {part.whole}")
        options = {**self._options, "first": self._options["first"] + part.first}
        if options["stepping"] == "vectorized" and part.count < part.whole:
            raise ConfigurationError(
                f"{self.label}: vectorised environments have one stream for their whole batch, which cannot be divided"
            )
        options["workers"] = min(options["workers"], part.count)
        return GymAgentOfSlice(type(self), (self._env, part.count, self._seed), options, self)

    def __reduce__(self) -> tuple[Callable[..., GymAgent], tuple[Any, ...]]:
        # As in a copy: what is unpickled has environments of its own, which begin from the seed.
        place = (self._env, self.batch_size, self._seed)
        return _made, (type(self), place, self._options, self.name, self.prefix, self.training)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # Environments and workers cannot be copied: a copy has its own, which begin from the seed.
        copied = type(self)(self._env, self.batch_size, self._seed, name=self.name, **self._options)
        memo[id(self)] = copied
        return copied.with_prefix(self.prefix).to(self.agent_device)

    def _read_actions(self, t: int) -> list[NDArray[Any]]:
        try:
            if self.is_on_cpu:
                found = self.read_rows(t, self.reads)
            else:
                found = packed_to_host([self.get((name, t)).detach() for name in self.reads])
        except TypeError as error:
            raise SpaceMismatchError(f"actions at t={t} cannot be given to environments: {error}") from None
        return [read(values, t) for read, values in zip(self._readers, found, strict=True)]

    def _sink_for(self, workspace: Workspace, t: int) -> RowSink:
        if t > 0 and self._sink is not None and self._sink[0] is workspace:
            return self._sink[1]
        if not self._finalizer.alive:
            raise BbrlExpError(f"{self.label} has been closed")
        if t == 0:
            workspace.truncate(1)
        elif not self._has_begun:
            raise BbrlExpError(f"{self.label} at t={t}: its environments have not been reset; begin at t=0")
        sink = self._open_sink(workspace)
        self._sink = (workspace, sink)
        return sink

    def _open_sink(self, workspace: Workspace) -> RowSink:
        if not self.is_on_cpu:
            return StagedRows(workspace, self._layout, self.agent_device)
        return workspace.row_writer(self._layout)


class GymAgentOfSlice(Agent):
    """An environment agent for a part of the batch, which has no environments before it is unpickled elsewhere.

    Args:
        kind: its class.
        place: the environment, the number of them, and the root seed.
        options: its other arguments.
        whole: the agent of the whole batch.
    """

    def __init__(
        self, kind: type[GymAgent], place: tuple[Any, int, int], options: Mapping[str, Any], whole: GymAgent
    ) -> None:
        super().__init__(whole.name)
        self._made_of = (kind, place, dict(options), whole.name, whole.prefix, whole.training)

    def __reduce__(self) -> tuple[Callable[..., GymAgent], tuple[Any, ...]]:
        return _made, self._made_of


def _made(
    kind: type[GymAgent],
    place: tuple[Any, int, int],
    options: Mapping[str, Any],
    name: str | None,
    prefix: str,
    training: bool,
) -> GymAgent:
    agent = kind(*place, name=name, **options).with_prefix(prefix)
    agent.training = training
    return agent


class AutoResetGymAgent(GymAgent):
    """Environments that begin anew by themselves: see :class:`GymAgent` for variables and arguments.

    If ``env/done[t]``, row t holds the final observation, and row t + 1 the first one of the next episode, with
    reward 0 and ``env/initial_state`` true; ``action[t]`` is ignored. The pair (t, t + 1) is no transition.
    """

    auto_reset = True


class NoAutoResetGymAgent(GymAgent):
    """Environments that play one episode each: see :class:`GymAgent` for variables and arguments.

    A finished environment is frozen: its last row repeats with reward 0, until the agent runs at t = 0 again.
    """

    auto_reset = False
