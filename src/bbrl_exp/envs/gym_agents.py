"""The environment agents: a batch of gymnasium environments that reads ``action`` and writes ``env/…``.

Row t of the workspace is what the environments show at time t; reward and ends in it are caused by the action at t -
1. At t = 0 everything is reset and a new recording begins: rows beyond 0 of every variable are dropped.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from bbrl_exp.agents.agent import Agent
from bbrl_exp.agents.slices import BatchSlice
from bbrl_exp.arguments import AT_LEAST_1, COUNT_FROM_0
from bbrl_exp.envs.action_log import MOST_STEPS
from bbrl_exp.envs.actions import ActionReader
from bbrl_exp.envs.batch import BatchSetup
from bbrl_exp.envs.construction import Construction, remembered, remembered_of_base
from bbrl_exp.envs.environment_agent import EnvironmentAgent
from bbrl_exp.envs.episode_state import check_fits
from bbrl_exp.envs.kernels import Stepping, check_stepping, open_kernel
from bbrl_exp.envs.make import Env, EnvFactory, Wrapper, env_recipe
from bbrl_exp.envs.pictures import PICTURES, check_pictures, prepare_pictures
from bbrl_exp.envs.rows import info_dtypes
from bbrl_exp.envs.scalar import ScalarKernel
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


class GymAgent(EnvironmentAgent):
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
        stepping: ``"scalar"`` in this process; ``"workers"`` in ``workers`` processes, with bitwise the same rows;
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
        float_observations: ``"float32"``: observations of floats are recorded as float32; None: in the dtype of their
            space.
        first: index of the first environment, where these are a part of a larger batch: environment i of them has the
            streams of environment ``first + i``.
        name: the agent's name.

    A copy, an unpickled agent and the environments of an evaluation are constructed once more, with the same arguments
    and their own environments, also those of a subclass with another constructor: where that takes ``batch_size`` or
    ``seed``, it is given those of the copy. Attributes that change later are not copied; parameters and buffers are.

    Raises:
        ConfigurationError: an environment or a combination of arguments that is not possible.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = remembered(cls.__init__)  # type: ignore[method-assign]

    @remembered_of_base
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
        float_observations: Literal["float32"] | None = None,
        first: int = 0,
        name: str | None = None,
    ) -> None:
        AT_LEAST_1.check(batch_size=batch_size)
        COUNT_FROM_0.check(first=first)
        if first and stepping == "vectorized":
            raise ConfigurationError(f"first={first}: vectorised environments have one stream for their whole batch")
        stream_seed(seed, role)
        recipe, info = env_recipe(env, kwargs, wrappers), info_dtypes(info_keys or ())
        if float_observations not in (None, "float32"):
            raise ConfigurationError(f"float_observations={float_observations!r}: must be float32 or null")
        setup = BatchSetup(recipe, batch_size, seed, role, self.auto_reset, info, first, float_observations)
        batch = open_kernel(setup, stepping, workers, worker_timeout)
        observations, actions = setup.leaves(batch.spaces)
        spec = EnvSpec(recipe.name, batch_size, observations, actions, batch.max_episode_steps, clip_actions)
        super().__init__(spec, info=info, role=role, auto_reset=self.auto_reset, name=name)
        self._options: dict[str, Any] = {
            "role": role,
            "stepping": stepping,
            "workers": workers,
            "worker_timeout": worker_timeout,
            "wrappers": wrappers,
            "kwargs": kwargs,
            "clip_actions": clip_actions,
            "info_keys": info_keys,
            "float_observations": float_observations,
            "first": first,
        }
        self._env, self._seed, self._kernel = env, seed, batch.kernel
        self._finalizer = weakref.finalize(self, self._kernel.close)
        self.observation_space, self.action_space = batch.spaces
        self._readers = [ActionReader(leaf, batch_size, clip_actions) for leaf in actions]
        self.repeats_itself = self.replays_actions
        self.longest_resumable_episode = MOST_STEPS if self.replays_actions else None
        self._sink: tuple[Workspace, RowSink] | None = None
        self._has_begun = False
        self._has_failed = False

    @property
    def envs(self) -> list[Env]:
        """The environments, where they live in this process one by one; else an empty list."""
        return self._kernel.envs if isinstance(self._kernel, ScalarKernel) else []

    def reset(self) -> None:
        """Begins an episode everywhere and fills row 0.

        Raises:
            NonFiniteError: a NaN or an infinity in an observation.
            SpaceMismatchError: an observation that is not of its space.
            WorkerError: a worker that died, was stuck or raised.
        """
        sink = self._new_sink()
        rows = sink.rows(0)
        try:
            self._kernel.reset(0, rows)
        except BaseException:
            self._sink, self._has_begun, self._has_failed = None, False, True
            raise
        self._has_begun, self._has_failed = True, False
        sink.commit(0)

    def step(self, t: int) -> None:
        """Fills row ``t``.

        Raises:
            NonFiniteError: a NaN or an infinity in a reward, an observation or an action.
            SpaceMismatchError: an observation or an action that is not of its space.
            WorkerError: a worker that died, was stuck or raised.
            WorkspaceError: the action at t - 1 was never written.
        """
        opened = self._sink
        if opened is not None and opened[0] is self.__dict__["workspace"]:
            sink = opened[1]
        elif self._has_begun:
            sink = self._new_sink()
        else:
            raise BbrlExpError(f"{self.label} at t={t}: its environments have not been reset; begin at t=0")
        actions = self._read_actions(t - 1)
        rows = sink.rows(t)
        try:
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
            raise BbrlExpError(f"{self.label} has failed and cannot be resumed")
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
        """Resumes from where :meth:`run_state` was taken: the next call is at t > 0, on a workspace with the same rows.

        Episodes are begun again with their seeds, and their actions are repeated; what is then seen must be what was
        seen before. The global generators are where they were afterwards.

        Raises:
            ConfigurationError: the state is that of other environments, or of another number of them.
            BbrlExpError: an environment that is not deterministic.
        """
        if "kernel" not in state:
            found = "array environments" if "states" in state else "environments of another kind"
            raise ConfigurationError(
                f"a state of {found} cannot be taken over by {self.env_spec.env_id} of Gymnasium; "
                "resume with the env.backend that the run began with"
            )
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

    @classmethod
    def arguments_of_one(cls, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """One environment, in this process."""
        how = {name: arguments[name] for name in ("stepping", "workers", "worker_timeout") if name in arguments}
        check_stepping(arguments["batch_size"], **how)
        return {**arguments, "batch_size": 1, **({"stepping": "scalar", "workers": 0} if how.get("workers") else {})}

    def for_evaluation(self, batch_size: int, seed: int, role: str) -> GymAgent:
        """Environments that play one episode each, stepped one by one in this process; a subclass keeps its class."""
        return self._without_reset(batch_size=batch_size, seed=seed, role=role)

    def _without_reset(self, **changes: Any) -> GymAgent:
        construction = self._construction(stepping="scalar", workers=0, **changes)
        if self.auto_reset:
            is_ours = type(self) is AutoResetGymAgent
            construction = replace(
                construction,
                kind=NoAutoResetGymAgent if is_ours else type(self),
                attributes={} if is_ours else {"auto_reset": False},
            )
        return construction()

    def check_frames(self) -> None:
        """See :class:`~bbrl_exp.envs.environment_agent.EnvironmentAgent`."""
        if self.envs:
            check_pictures(self.env_spec.env_id, self.envs[0])
            return
        with closing(self.for_evaluation(1, self._seed, self.role)) as one:  # workers have their own
            one.check_frames()

    def with_frames(self) -> GymAgent:
        """Others like these that are made to show pictures, without automatic reset."""
        prepare_pictures()
        shown = self._without_reset(kwargs={**(self._options["kwargs"] or {}), "render_mode": PICTURES})
        shown.frames_per_second = shown.envs[0].metadata.get("render_fps") or shown.frames_per_second
        return shown

    def frame(self, index: int) -> NDArray[np.uint8]:
        """What ``render`` of environment ``index`` gives."""
        picture: Any = self.envs[index].render()
        return picture  # type: ignore[no-any-return]

    @property
    def is_vectorized(self) -> bool:
        """Whether the environments step as one, by their own implementation."""
        return isinstance(self._kernel, VectorizedKernel)

    @property
    def replays_actions(self) -> bool:
        """Whether the environments are resumed by playing their episodes once more, as all are but vectorised ones."""
        return not isinstance(self._kernel, VectorizedKernel) or self._kernel.replays_actions

    def close(self) -> None:
        """Closes the environments and ends the workers; may be called again."""
        self._sink = None
        self._finalizer()

    def for_slice(self, part: BatchSlice) -> GymAgentOfSlice:
        if part.whole != self.batch_size:
            raise ConfigurationError(f"{self.label} has {self.batch_size} environments, and the batch {part.whole}")
        options = {**self._options, "first": self._options["first"] + part.first}
        if options["stepping"] == "vectorized" and part.count < part.whole:
            raise ConfigurationError(
                f"{self.label}: vectorised environments have one stream for their whole batch, which cannot be divided"
            )
        workers = min(options["workers"], part.count)
        construction = self._construction(batch_size=part.count, first=options["first"], workers=workers)
        return GymAgentOfSlice(construction, self)

    def __reduce__(self) -> tuple[Callable[..., GymAgent], tuple[Any, ...]]:
        # As in a copy: what is unpickled has its own environments, which begin from the seed.
        return _made, (self._construction(), self.prefix, self.training)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # Environments and workers cannot be copied: a copy has its own, which begin from the seed.
        memo[id(self)] = copied = self._construction().copied(memo)()
        return copied.with_prefix(self.prefix).to(self.agent_device)

    def _construction(self, **changes: Any) -> Construction[Self]:
        """How others like these are made, with other arguments."""
        place = {"batch_size": self.batch_size, "seed": self._seed, "name": self.name}
        return Construction.of(self, {**place, **self._options, **changes}, auto_reset=self.auto_reset)

    def _read_actions(self, t: int) -> list[NDArray[Any]]:
        try:
            if self.is_on_cpu:
                found = self.read_rows(t, self.reads)
            else:
                found = packed_to_host([self.get((name, t)).detach() for name in self.reads])
        except TypeError as error:
            raise SpaceMismatchError(f"actions at t={t} cannot be given to environments: {error}") from None
        return [read(values, t) for read, values in zip(self._readers, found, strict=True)]

    def _new_sink(self) -> RowSink:
        if not self._finalizer.alive:
            raise BbrlExpError(f"{self.label} has been closed")
        workspace: Workspace = self.__dict__["workspace"]
        self._sink = (workspace, sink := self._open_sink(workspace))
        return sink

    def _open_sink(self, workspace: Workspace) -> RowSink:
        if not self.is_on_cpu:
            return StagedRows(workspace, self._layout, self.agent_device)
        return workspace.row_writer(self._layout)


class GymAgentOfSlice(Agent):
    """An environment agent for a part of the batch, which has no environments before it is unpickled elsewhere.

    Args:
        construction: how it is made.
        whole: the agent of the whole batch.
    """

    def __init__(self, construction: Construction[GymAgent], whole: GymAgent) -> None:
        super().__init__(whole.name)
        self._made_of = (construction, whole.prefix, whole.training)

    def __reduce__(self) -> tuple[Callable[..., GymAgent], tuple[Any, ...]]:
        return _made, self._made_of


def _made(construction: Construction[GymAgent], prefix: str, training: bool) -> GymAgent:
    agent = construction().with_prefix(prefix)
    agent.training = training
    return agent


class AutoResetGymAgent(GymAgent):
    """Environments that reset themselves: see :class:`GymAgent` for variables and arguments.

    If ``env/done[t]``, row t holds the final observation, and row t + 1 the first one of the next episode, with
    reward 0 and ``env/initial_state`` true; ``action[t]`` is ignored. The pair (t, t + 1) is no transition.
    """

    auto_reset = True


class NoAutoResetGymAgent(GymAgent):
    """Environments that play one episode each: see :class:`GymAgent` for variables and arguments.

    A finished environment is frozen: its last row repeats with reward 0, until the agent runs at t = 0 again.
    """

    auto_reset = False
