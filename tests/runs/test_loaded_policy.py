"""A policy outside the framework: what ``act`` answers is what an evaluation of the run does."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.wrappers import FrameStackObservation
from numpy.typing import NDArray

from bbrl_exp.agents.combinators import Agents, TemporalAgent
from bbrl_exp.agents.remote.agents import NRemoteAgent
from bbrl_exp.commands.record import record
from bbrl_exp.config.options import default_config_dir
from bbrl_exp.envs.gym_agents import NoAutoResetGymAgent
from bbrl_exp.envs.wrappers import MaskObservation
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.runs.evaluator import FINAL
from bbrl_exp.runs.loaded_policy import LoadedPolicy
from bbrl_exp.runs.policy import evaluate, load_policy
from bbrl_exp.runs.run import run
from bbrl_exp.seeding import EpisodeSeeds, stream_seed
from bbrl_exp.workspace import Workspace

SHORT = ["tracking=none", "total_steps=256", "batch_size=2", "eval.every=0", "eval.final_episodes=0"]
AGENTS = sorted(path.stem for path in (default_config_dir() / "agent").glob("*.yaml"))
CONTINUOUS = ("crossq", "ddpg", "droq", "recurrent_sac", "sac", "td3", "tqc")
SLOW = (*CONTINUOUS, "discrete_sac", "dqn", "recurrent_dqn")
STACK = "+env.wrappers.stack={_target_: gymnasium.wrappers.FrameStackObservation, stack_size: 3}"
NORMALIZED = [
    "+agent.members.observations={_target_: bbrl_exp.policies.normalize.NormalizeObservation, after: env}",
    "+agent.members.policy.observation_prefix=normalized/",
]

Make = Callable[[], "gymnasium.Env[Any, Any]"]
cartpole: Make = functools.partial(gymnasium.make, "CartPole-v1")
pendulum: Make = functools.partial(gymnasium.make, "Pendulum-v1")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def trained(*overrides: str) -> Path:
    return run([*SHORT, *overrides]).folder


def play(policy: LoadedPolicy, make: Make, n_episodes: int, sample: bool = False) -> tuple[float, ...]:
    """The returns of the first episodes of the final evaluation, in a loop over plain environments."""
    environments = [make() for _ in range(n_episodes)]
    shown = [env.reset(seed=EpisodeSeeds(0, FINAL, i)(0))[0] for i, env in enumerate(environments)]
    returns, is_over, state = [0.0] * n_episodes, [False] * n_episodes, None
    while not all(is_over):
        actions, state = policy.act(np.stack(shown), state, sample=sample)
        for i, env in enumerate(environments):
            if not is_over[i]:
                shown[i], reward, terminated, truncated, _ = env.step(actions[i])
                returns[i] += float(reward)
                is_over[i] = terminated or truncated
    return tuple(float(np.float32(value)) for value in returns)


def play_one(policy: LoadedPolicy, make: Make) -> tuple[float, ...]:
    env = make()
    observation, _ = env.reset(seed=EpisodeSeeds(0, FINAL, 0)(0))
    total, is_over, state = 0.0, False, None
    while not is_over:
        action, state = policy.act(observation, state)
        assert env.action_space.contains(action)
        observation, reward, terminated, truncated, _ = env.step(action)
        total, is_over = total + float(reward), terminated or truncated
    return (float(np.float32(total)),)


def check(folder: Path, make: Make) -> None:
    policy = load_policy(folder)
    assert play(policy, make, 3) == evaluate(folder, episodes=3).returns
    policy = load_policy(folder)  # a random agent draws its first numbers again
    assert play_one(policy, make) == evaluate(folder, episodes=1).returns


@pytest.mark.parametrize("agent", AGENTS)
def test_an_environment_played_by_hand_gives_the_returns_of_an_evaluation(agent: str) -> None:
    more: list[str] = []
    if agent in SLOW:
        more = ["agent.learner.learning_starts=128", "agent.learner.updates_per_step=0.05"]
    if agent == "behaviour_cloning":
        record(trained("agent=cem"), 128, Path("teacher.pt"))
        more = ["agent.learner.recording=teacher.pt"]
    env, make = ("pendulum", pendulum) if agent in CONTINUOUS else ("cartpole", cartpole)
    check(trained(f"agent={agent}", f"env={env}", *more), make)


@pytest.mark.parametrize(
    ("overrides", "make"),
    [
        (["agent=recurrent_ppo", "env=masked_cartpole", "memory=lstm"], "masked"),
        (["agent=recurrent_a2c", "env=masked_cartpole"], "masked"),
        (["agent=ppo", "env=cartpole", STACK], "stacked"),
        (["agent=ppo", "env=pendulum"], "pendulum"),
        (
            ["agent=a2c", "env=cartpole", *NORMALIZED, "+agent.learner.critic.observation_prefix=normalized/"],
            "cartpole",
        ),
        (["agent=recurrent_dqn", "env=cartpole", *NORMALIZED, "agent.learner.learning_starts=128"], "cartpole"),
    ],
)
def test_so_it_is_with_wrappers_normalisers_and_other_memories(overrides: Sequence[str], make: str) -> None:
    made: dict[str, Make] = {
        "masked": lambda: MaskObservation(cartpole(), hidden=[1, 3]),
        "stacked": lambda: FrameStackObservation(cartpole(), 3),
        "pendulum": pendulum,
        "cartpole": cartpole,
    }
    check(trained(*overrides), made[make])


def test_so_it_is_where_the_memory_sees_the_action_before_and_its_reward() -> None:
    folder = trained("agent=recurrent_ppo", "env=pendulum", "memory.inputs=[observation,action,reward]")
    policy, environments = load_policy(folder), [pendulum() for _ in range(2)]
    shown = np.stack([env.reset(seed=EpisodeSeeds(0, FINAL, i)(0))[0] for i, env in enumerate(environments)])
    rewards, returns, state = np.zeros(2, np.float32), np.zeros(2), None
    for _ in range(200):
        actions, state = policy.act(shown, state, variables={"env/reward": rewards})
        steps = [env.step(action) for env, action in zip(environments, actions, strict=True)]
        shown = np.stack([observation for observation, *_ in steps])
        rewards = np.array([reward for _, reward, *_ in steps], np.float32)
        returns += [float(reward) for _, reward, *_ in steps]
    assert tuple(returns.astype(np.float32).tolist()) == evaluate(folder, episodes=2).returns
    with pytest.raises(ConfigurationError, match=r"^RecurrentPolicy 'policy' reads 'env/reward', which no observation"):
        policy.act(shown)


def test_so_it_is_with_environments_in_another_process_and_with_the_best_policy() -> None:
    elsewhere = "agent.members.env={_target_: bbrl_exp.agents.remote.NRemoteAgent, n_processes: 1, agent: ${env.agent}}"
    folder = trained("agent=ppo", elsewhere, "eval.every=128", "eval.episodes=2")
    policy = load_policy(folder, which="best")
    assert not any(isinstance(module, NRemoteAgent) for module in policy.modules())
    assert play(policy, cartpole, 2) == evaluate(folder, episodes=2, which="best").returns


def observations(n_steps: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(n_steps, *shape)).astype(np.float32)


@pytest.mark.parametrize("agent", ["recurrent_ppo", "ppo"])
def test_an_episode_that_starts_in_a_batch_remembers_nothing(agent: str) -> None:
    policy = load_policy(trained(f"agent={agent}", "env=pendulum"))
    shown = observations(6, 2, 3)
    both, state = [], None
    for t, rows in enumerate(shown):
        actions, state = policy.act(rows, state, starts=np.array([t == 4, False]))
        both.append(actions)
    state = None
    for t in (4, 5):  # the second episode of the first environment, beside something else
        actions, state = policy.act(np.stack([shown[t, 0], shown[t - 4, 0]]), state)
        assert np.array_equal(actions[0], both[t][0])
    remembers = agent == "recurrent_ppo"
    state = None
    for t, rows in enumerate(shown):
        actions, state = policy.act(rows, state)
        assert np.array_equal(actions[1], both[t][1])
    assert np.array_equal(actions[0], both[-1][0]) is not remembers


def test_a_state_is_a_value_that_can_be_used_again_saved_and_loaded(tmp_path: Path) -> None:
    folder = trained("agent=recurrent_ppo", "env=masked_pendulum")
    policy = load_policy(folder)
    shown = observations(40, 2, 2)
    actions, states, state = [], [], None
    for rows in shown:
        action, state = policy.act(rows, state)
        actions.append(action)
        states.append(state)
    again = policy.act(shown[8], states[7])
    assert np.array_equal(again[0], actions[8])
    assert all(torch.equal(again[1][name], states[8][name]) for name in states[8])
    torch.save(states[29], tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    other = load_policy(folder)
    for t in range(30, 40):
        action, state = other.act(shown[t], state)
        assert np.array_equal(action, actions[t])


def test_arrays_are_answered_with_arrays_and_tensors_with_tensors() -> None:
    discrete, box = (load_policy(trained("agent=random", f"env={env}")) for env in ("cartpole", "pendulum"))
    one, many = observations(1, 4)[0], observations(3, 4)
    action = discrete.act(one)[0]
    assert type(action) is np.int64
    action = discrete.act(many)[0]
    assert (type(action), action.dtype, action.shape) == (np.ndarray, np.int64, (3,))
    action = discrete.act(torch.from_numpy(one))[0]
    assert (type(action), action.dtype, action.shape) == (torch.Tensor, torch.int64, ())
    action = box.act(torch.from_numpy(many[:, :3].copy()))[0]
    assert (type(action), action.dtype, action.shape) == (torch.Tensor, torch.float32, (3, 1))
    action = box.act([0.5, 0, 1])[0]
    assert (type(action), action.dtype, action.shape) == (np.ndarray, np.float32, (1,))


def test_what_was_returned_does_not_change_with_later_calls() -> None:
    policy = load_policy(trained("agent=recurrent_ppo", "env=pendulum"))
    action, state = policy.act(observations(1, 2, 3)[0])
    before = action.copy(), {name: row.clone() for name, row in state.items()}
    following = state
    for rows in observations(40, 2, 3):
        _, following = policy.act(rows, following)
    assert np.array_equal(action, before[0])
    assert all(torch.equal(state[name], before[1][name]) for name in state)


@pytest.mark.parametrize("overrides", [["agent=recurrent_ppo", "env=masked_pendulum"], ["agent=ppo"], ["agent=random"]])
def test_off_the_cpu_rows_are_tensors(overrides: list[str]) -> None:
    folder = trained(*overrides)
    policy, elsewhere = load_policy(folder), load_policy(folder)
    shape = policy.env_spec.observations[0].shape
    shown = observations(40, 2, *shape)
    state = elsewhere.act(shown[0])[1]
    # Without a second device here: agents that take the first one for another.
    elsewhere.is_on_cpu = False
    (player,) = elsewhere._players.values()
    for module in player.agents.modules():
        module.is_on_cpu = False
    for each in (policy, elsewhere):
        each.seed(0)
    expected = found = None
    for rows in shown:
        action, expected = policy.act(rows, expected)
        answer, found = elsewhere.act(torch.from_numpy(rows), found)
        assert torch.allclose(answer, torch.from_numpy(action), atol=1e-6)
        assert list(found) == list(expected) == list(state)


def test_drawn_actions_are_those_of_a_sampled_evaluation() -> None:
    folder = trained("agent=ppo", "env=cartpole")
    environments = NoAutoResetGymAgent("CartPole-v1", 3, role=FINAL)
    graph = TemporalAgent(Agents(environments, load_policy(folder).sample_actions()))
    graph.seed(stream_seed(0, FINAL, "drawn actions"))
    environments.seed(0)
    workspace = Workspace()
    with torch.inference_mode():
        graph(workspace, t=0, stop_variable="env/done")
    graph.close()
    policy = load_policy(folder)
    assert play(policy, cartpole, 3) == evaluate(folder, episodes=3).returns
    assert play(policy, cartpole, 3, sample=True) == tuple(workspace["env/cumulated_reward"][-1].tolist())


def drawn(policy: LoadedPolicy, n_steps: int) -> list[float]:
    state, found = None, []
    for _ in range(n_steps):
        action, state = policy.act(np.zeros(3, np.float32), state, sample=True)
        found.append(float(action[0]))
    return found


def test_draws_repeat_with_their_seed_and_touch_no_global_generator() -> None:
    folder = trained("agent=ppo", "env=pendulum")
    policy = load_policy(folder, seed=1)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = drawn(policy, 5)
    assert torch.equal(torch.get_rng_state(), before)
    assert len(set(first)) == 5
    assert drawn(load_policy(folder, seed=1), 5) == first
    assert drawn(load_policy(folder, seed=2), 5) != first
    assert drawn(policy, 5) != first
    policy.seed(1)
    assert drawn(policy, 5) == first


def test_a_policy_without_a_distribution_cannot_be_sampled() -> None:
    policy = load_policy(trained("agent=dqn", "agent.learner.learning_starts=128"))
    with pytest.raises(ConfigurationError, match="there is no distribution over actions to sample from"):
        policy.act(np.zeros(4, np.float32), sample=True)
    policy.act(np.zeros(4, np.float32))


@pytest.mark.parametrize("clips", [True, False])
def test_actions_are_clipped_as_the_run_s_environments_get_them(clips: bool) -> None:
    policy = load_policy(trained("agent=ppo", "env=pendulum", f"env.clip_actions={str(clips).lower()}"))
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if name.endswith("log_std"):
                parameter.fill_(3.0)
    actions, _ = policy.act(np.zeros((50, 3), np.float32), sample=True)
    assert np.abs(actions).max() > 2.0 or clips
    assert np.abs(actions).max() == 2.0 or not clips


def test_it_answers_with_the_parameters_that_the_policy_has_now() -> None:
    policy = load_policy(trained("agent=ppo", "env=pendulum"))
    observation = np.ones(3, np.float32)
    before, _ = policy.act(observation)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 0.1
    changed, _ = policy.act(observation)
    assert changed != before
    assert policy.clone().act(observation)[0] == changed
    assert policy.to("cpu").act(observation)[0] == changed


USERS_AGENTS = """
import gymnasium
import numpy as np
import torch
from bbrl_exp import Agent

class Keeps(Agent):
    # The first observation of the episode, as long as it lasts.
    def forward(self, t, **kwargs):
        row = self.get(("env/env_obs", t))
        if t > 0:
            row = torch.where(self.get(("env/initial_state", t))[:, None], row, self.get(("kept/env/env_obs", t - 1)))
        self.set(("kept/env/env_obs", t), row)

class Reads(Agent):
    # The action is what a variable of the environment says, of this step or of the last one.
    def __init__(self, variable, ago=0, name=None):
        super().__init__(name)
        self.variable, self.ago = variable, ago
    def forward(self, t, **kwargs):
        row = self.get((self.variable, max(t - self.ago, 0)))
        self.set(("action", t), row.float()[:, None])

class Structured(gymnasium.Env):
    # Counts its steps.
    observation_space = gymnasium.spaces.Dict(
        pair=gymnasium.spaces.Tuple([gymnasium.spaces.Box(0, 9, (2,)), gymnasium.spaces.Discrete(9, start=1)]),
        image=gymnasium.spaces.Box(0, 255, (1, 2), np.uint8),
    )
    action_space = gymnasium.spaces.Dict(
        both=gymnasium.spaces.Tuple([gymnasium.spaces.Discrete(3), gymnasium.spaces.MultiBinary(2)]),
        far=gymnasium.spaces.Box(-1, 1, ()),
    )
    def shows(self):
        n = self.n
        return {"pair": (np.full(2, n, np.float32), n + 1), "image": np.full((1, 2), n, np.uint8)}, {"lives": 9 - n}
    def reset(self, seed=None, options=None):
        self.n = 0
        return self.shows()
    def step(self, action):
        assert self.action_space.contains(action), action
        self.n += 1
        observation, info = self.shows()
        reward = float(action["both"][0] + action["both"][1].sum() + action["far"])
        return observation, reward, self.n == 7, False, info

gymnasium.register("UsersStructured-v0", Structured)
"""


@pytest.fixture
def users_agents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "users_agents.py").write_text(USERS_AGENTS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("BBRL_EXP_ALLOW", "users_agents")
    return "users_agents"


def test_dict_and_tuple_spaces_are_mappings_and_tuples(users_agents: str) -> None:
    for agent in ("random", "ppo"):
        folder = trained(f"agent={agent}", "env=gym", "env.id=UsersStructured-v0")
        env = gymnasium.make("UsersStructured-v0")
        policy = load_policy(folder)
        observation, _ = env.reset()
        total, state, is_over = 0.0, None, False
        while not is_over:
            action, state = policy.act(observation, state)
            observation, reward, is_over, _, _ = env.step(action)
            total += float(reward)
        assert (float(np.float32(total)),) == evaluate(folder, episodes=1).returns
    batch = {"pair": (torch.ones(4, 2), torch.ones(4, dtype=torch.int64)), "image": torch.zeros(4, 1, 2).byte()}
    actions, _ = policy.act(batch)
    assert isinstance(actions["both"], tuple)
    assert [list(part.shape) for part in (*actions["both"], actions["far"])] == [[4], [4, 2], [4]]


def test_agents_between_environment_and_policy_keep_what_they_have_seen(users_agents: str) -> None:
    keeps = [
        "+agent.members.cue={_target_: users_agents.Keeps, after: env}",
        "+agent.members.policy.observation_prefix=kept/",
    ]
    folder = trained("agent=ppo", "env=cartpole", *keeps, "+agent.learner.critic.observation_prefix=kept/")
    check(folder, cartpole)


def reader(variable: str, ago: int = 0) -> LoadedPolicy:
    policy = "agent.members.policy"
    keys = [f"{policy}._target_=users_agents.Reads", f"+{policy}.variable={variable}", f"+{policy}.ago={ago}"]
    return load_policy(
        trained("agent=random", "env=pendulum", "env.clip_actions=false", "env.info_keys=[l]", f"~{policy}.seed", *keys)
    )


def test_what_follows_from_the_episodes_is_known(users_agents: str) -> None:
    rows, starts = np.zeros((2, 3), np.float32), np.array([False, True])
    for variable, ago, expected in (
        ("env/timestep", 0, [[0, 0], [1, 1], [2, 0], [3, 1]]),
        ("env/initial_state", 0, [[1, 1], [0, 0], [0, 1], [0, 0]]),
        ("env/done", 1, [[0, 0], [0, 0], [0, 1], [0, 0]]),
        ("env/done", 0, [[0, 0], [0, 0], [0, 0], [0, 0]]),
    ):
        policy, state, found = reader(variable, ago), None, []
        for t in range(4):
            action, state = policy.act(rows, state, starts=starts if t == 2 else None)
            found.append(action[:, 0].tolist())
        assert found == expected


def test_what_only_the_environment_knows_is_asked_for(users_agents: str) -> None:
    policy = reader("env/reward")
    one = np.zeros(3, np.float32)
    action, state = policy.act(one, variables={"env/reward": 0.5})
    assert action.tolist() == [0.5]
    action, _ = policy.act(one, state, variables={"env/reward": torch.tensor(-1.5)})
    assert action.tolist() == [-1.5]
    action, _ = policy.act(np.zeros((2, 3)), variables={"env/reward": [1, 0.25]})
    assert action.tolist() == [[1.0], [0.25]]
    for variables, message in (
        (
            None,
            "Reads 'policy' reads 'env/reward', which no observation shows: give act(…, variables={'env/reward': …})",
        ),
        ({"env/reward": 0.0, "env/rewards": 0.0}, "variables: no agent needs 'env/rewards'; needed: env/reward"),
        ({"env/reward": [0.0]}, "variables: 'env/reward' must be shape (); found shape (1,)"),
        ({"env/reward": "high"}, "variables: 'env/reward' must be float32; found 'high' (str)"),
        ({"env/reward": float("nan")}, "variables: 'env/reward' must be finite; found nan"),
    ):
        with pytest.raises(ConfigurationError) as refused:
            policy.act(one, variables=variables)
        assert str(refused.value) == message
    assert reader("env/info/l").act(one, variables={"env/info/l": 1})[0].tolist() == [1.0]


def test_what_does_not_fit_is_refused_in_one_line_and_changes_nothing() -> None:
    policy = load_policy(trained("agent=recurrent_ppo", "env=masked_pendulum", "memory.cell.n_hidden=3"))
    one = np.array([0.5, 0.25], np.float32)
    state = policy.act(one)[1]
    expected = policy.act(one, state)[0]
    batch_state = policy.act(np.zeros((2, 2), np.float32))[1]
    observation = "observation: 'env/env_obs' must be"
    shape = f"{observation} float32 [2], or [B, 2] for a batch; found"
    dense = "a dense tensor or an array; found"
    fix = "give what the last call for these environments returned, or None to begin an episode"
    for arguments, keywords, message in (
        ((np.zeros(3, np.float32),), {}, f"{shape} float32 [3]"),
        ((np.zeros((1, 1, 2), np.float32),), {}, f"{shape} float32 [1, 1, 2]"),
        ((torch.zeros(4, 3),), {}, f"{shape} float32 [4, 3]"),
        (((one, {}),), {}, f"{shape} a tuple of 2"),
        (({"a": one},), {}, f"{shape} a dict of 1"),
        ((None,), {}, f"{shape} a NoneType"),
        ((np.zeros((0, 2), np.float32),), {}, f"{observation} at least one observation; found a batch of 0"),
        ((np.array(["a", "b"]),), {}, f"{observation} float32; found array(['a', 'b'], dtype='<U1') (ndarray)"),
        ((torch.zeros(2, dtype=torch.bfloat16),), {}, f"{observation} float32; found bfloat16"),
        ((np.array([0, np.nan]),), {}, f"{observation} finite; found nan at [1]"),
        ((np.array([[0, 0], [0, np.nan]]),), {}, f"{observation} finite; found nan at [1, 1]"),
        ((torch.tensor([0, -np.inf]),), {}, f"{observation} finite; found -inf at [1]"),
        ((torch.zeros(2, device="meta"),), {}, f"{observation} {dense} a meta tensor"),
        ((torch.nested.nested_tensor([one], layout=torch.jagged),), {}, f"{observation} {dense} a nested tensor"),
        ((torch.zeros(2).to_sparse(),), {}, f"{observation} {dense} a sparse_coo tensor"),
        ((np.zeros((1, 3)).view(np.matrix),), {}, f"{shape} float64 [1, 3]"),
        ((one,), {"sample": np.array([True, False])}, "sample: must be True or False; found ndarray"),
        ((one,), {"variables": 3}, "variables: must map names to values; found int"),
        ((one,), {"starts": torch.ones((), device="meta")}, f"starts: must be {dense} a meta tensor"),
        (
            (one, {**state, "action": state["action"].to("meta")}),
            {},
            f"state: 'action' must be float32 [1, 1]; found float32 [1, 1] on meta; {fix}",
        ),
        ((one, state), {"starts": 1}, "starts: must be one bool; found int64 []"),
        ((np.zeros((2, 2)), batch_state), {"starts": [True]}, "starts: must be bool [2]; found bool [1]"),
        ((one, one), {}, f"state: must hold {', '.join(state)}; found ndarray; {fix}"),
        ((one, {"a": 1}), {}, f"state: must hold {', '.join(state)}; found a; {fix}"),
        ((one, batch_state), {}, f"state: 'env/env_obs' must be float32 [1, 2]; found float32 [2, 2]; {fix}"),
        ((one, {**state, "action": 1}), {}, f"state: 'action' must be float32 [1, 1]; found int; {fix}"),
        ((one, state), {"variables": {"env/reward": 0}}, "variables: no agent needs 'env/reward'; needed: nothing"),
    ):
        with pytest.raises(ConfigurationError) as refused:
            policy.act(*arguments, **keywords)
        assert str(refused.value) == message
        assert policy.act(one, state)[0] == expected


@pytest.mark.parametrize("folder", [None, 3, b"x", "\0"])
def test_what_is_no_path_is_refused_in_one_line(folder: Any) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load_policy(folder)
    assert str(refused.value) == f"run_folder={folder!r}: must be the path of a run's folder"


def test_a_structure_that_does_not_fit_is_refused_by_its_keys(users_agents: str) -> None:
    policy = load_policy(trained("agent=random", "env=gym", "env.id=UsersStructured-v0"))
    pair, image = (np.zeros(2, np.float32), 1), np.zeros((1, 2), np.uint8)
    for observation, message in (
        (image, "'env/env_obs' must be a mapping with the keys pair, image; found ndarray"),
        ({"pair": pair}, "'env/env_obs' must be a mapping with the keys pair, image; found dict with the keys pair"),
        ({"image": image, "pair": pair[:1]}, "'env/env_obs/pair' must be a tuple of 2; found tuple of 1"),
        ({"image": image, "pair": (pair[0], 12)}, "'env/env_obs/pair/1' must be 1 … 9; found 12"),
        ({"image": image, "pair": (pair[0], 1.5)}, "'env/env_obs/pair/1' must be int64; found float64 1.5"),
        (
            {"image": image, "pair": (np.zeros((3, 2)), 1)},
            "'env/env_obs/pair/1' must be int64 [3]; found int64 []",
        ),
        (
            {"image": -image.astype(int) - 1, "pair": pair},
            "'env/env_obs/image' must be uint8; found int64 [[-1, -1]]",
        ),
    ):
        with pytest.raises(ConfigurationError) as refused:
            policy.act(observation)
        assert str(refused.value) == f"observation: {message}"
