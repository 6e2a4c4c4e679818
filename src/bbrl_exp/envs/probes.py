"""Probe environments: a few states whose values are known in closed form. They show what a learner gets wrong.

Each id ``bbrl_exp/Probe<Name>-v0`` has two actions, and ``bbrl_exp/Probe<Name>Continuous-v0`` one action in [-1, 1].

================== ================================================= ============================================
Name               what happens                                      what it checks
================== ================================================= ============================================
ConstantReward     one step, reward 1                                 whether values are learned at all
Observation        one step, reward = cue                             whether observations reach the value
DelayedReward      two steps, reward 1 at the end                     discounting, and ends of episodes
Action             one step, reward by the action                     whether the policy is improved
ObservationAction  one step, reward by the action for the cue         whether observations reach the policy
TimeLimit          reward 1 for ever, truncated after five steps      whether a truncated state is bootstrapped
Memory             three steps, at the end reward by the action for   whether the policy remembers
                   the cue, which is shown at the beginning only
================== ================================================= ============================================

The cue is -1 or 1, each as likely as the other. The observation holds the cue (0 if there is none, or none to be
seen) and the part of the episode that is done, from 0 to 1 at the last step. An episode ends in the state in which its
last action was taken: a learner that values it although it is terminated learns far too high values. DelayedReward ends
just when its time limit strikes: there both flags are true, and the future is worth nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from bbrl_exp.errors import ConfigurationError, did_you_mean


@dataclass(frozen=True)
class Story:
    """What happens in a probe.

    Attributes:
        pays: what the last step pays: 1, the cue, or what the action is worth.
        n_steps: the length of an episode; None for one that never ends and pays at every step.
        has_cue: whether there is a cue, which then also says what the right action is.
        time_limit: steps after which an episode is truncated, None for no limit.
    """

    pays: Literal["one", "cue", "action"]
    n_steps: int | None = 1
    has_cue: bool = False
    time_limit: int | None = None

    @property
    def cues(self) -> tuple[int, ...]:
        """The cues that there are; 0 stands for none."""
        return (-1, 1) if self.has_cue else (0,)

    def observation(self, cue: int, step: int) -> tuple[float, float]:
        """What is seen after ``step`` steps: the cue, at the beginning, and the part of the episode that is done."""
        if self.n_steps is None or self.n_steps == 1:
            return float(cue), 0.0
        return float(cue) if step == 0 else 0.0, step / (self.n_steps - 1)


@dataclass(frozen=True)
class ProbeState:
    """A state of a probe, and the truth about it.

    Attributes:
        observations: what has been seen since the beginning of the episode, the state's own observation last.
        value: what it is worth under the best policy.
        best_action: 0 or 1, or in [-1, 1]; None where all are equal.
    """

    observations: tuple[tuple[float, float], ...]
    value: float
    best_action: float | None


STORIES = {
    "ConstantReward": Story("one"),
    "Observation": Story("cue", has_cue=True),
    "DelayedReward": Story("one", n_steps=2, time_limit=2),
    "Action": Story("action"),
    "ObservationAction": Story("action", has_cue=True),
    "TimeLimit": Story("one", n_steps=None, time_limit=5),
    "Memory": Story("action", n_steps=3, has_cue=True),
}


class Probe(gymnasium.Env[NDArray[np.float32], Any]):
    """Plays a story. The right of two actions pays 1, the other 0; a continuous action a pays 1 - (a - right)².

    Args:
        story: what happens.
        continuous: whether the action is one number in [-1, 1], of which ±0.5 is right, instead of 0 or 1.
    """

    def __init__(self, story: Story, continuous: bool = False) -> None:
        self.observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32) if continuous else spaces.Discrete(2)
        self._story = story
        self._continuous = continuous
        self._cue = 0
        self._step = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begins an episode with a new cue."""
        super().reset(seed=seed)
        cues = self._story.cues
        self._cue = cues[int(self.np_random.integers(len(cues)))]
        self._step = 0
        return self._shown(), {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """One step; it is the time limit's wrapper that truncates."""
        story = self._story
        is_last = story.n_steps is not None and self._step == story.n_steps - 1
        reward = self._payment(action) if is_last or story.n_steps is None else 0.0
        if not is_last:
            self._step += 1
        return self._shown(), reward, is_last, False, {}

    def _payment(self, action: Any) -> float:
        if self._story.pays == "one":
            return 1.0
        if self._story.pays == "cue":
            return float(self._cue)
        right = _right_action(self._cue, self._continuous)
        if self._continuous:
            return 1.0 - (float(action[0]) - right) ** 2
        return float(int(action) == right)

    def _shown(self) -> NDArray[np.float32]:
        return np.array(self._story.observation(self._cue, self._step), np.float32)


def probe_states(env_id: str, discount: float) -> tuple[ProbeState, ...]:
    """All states of a probe in which an action is taken.

    Args:
        env_id: id of a probe.
        discount: γ, below 1.

    Raises:
        ConfigurationError: an id of another environment.
    """
    probes = dict(_probes())
    if env_id not in probes:
        raise ConfigurationError(
            f"'{env_id}' is no probe; possible: {', '.join(probes)}{did_you_mean(env_id, list(probes))}"
        )
    story, continuous = probes[env_id]
    states = []
    for cue in story.cues:
        paid = float(cue) if story.pays == "cue" else 1.0
        for step in range(story.n_steps or 1):
            seen = tuple(story.observation(cue, earlier) for earlier in range(step + 1))
            if story.n_steps is None:
                states.append(ProbeState(seen, paid / (1.0 - discount), None))
                continue
            left = story.n_steps - 1 - step
            acts = story.pays == "action" and left == 0
            states.append(ProbeState(seen, discount**left * paid, _right_action(cue, continuous) if acts else None))
    return tuple(states)


def _right_action(cue: int, continuous: bool) -> float:
    """The action that a cue asks for; without one, that of the cue 1."""
    if continuous:
        return -0.5 if cue < 0 else 0.5
    return 0 if cue < 0 else 1


def _probes() -> Iterator[tuple[str, tuple[Story, bool]]]:
    for name, story in STORIES.items():
        yield f"bbrl_exp/Probe{name}-v0", (story, False)
        yield f"bbrl_exp/Probe{name}Continuous-v0", (story, True)


def register_probes() -> None:
    """Makes the probes known to gymnasium, in this process."""
    for env_id, (story, continuous) in _probes():
        gymnasium.register(
            env_id,
            entry_point=f"{__name__}:Probe",
            max_episode_steps=story.time_limit,
            kwargs={"story": story, "continuous": continuous},
        )
