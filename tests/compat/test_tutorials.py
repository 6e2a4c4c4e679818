"""Programs in the manner of BBRL's tutorials and of its notebooks of 2022, with gymnasium in place of gym."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import gymnasium as gym
import pytest
import torch
from bbrl import get_arguments, get_class, instantiate_class
from bbrl.agents import Agent, Agents, PrintAgent, TemporalAgent
from bbrl.agents.gyma import AutoResetGymAgent, NoAutoResetGymAgent
from bbrl.agents.gymnasium import ParallelGymAgent, make_env
from bbrl.utils.replay_buffer import ReplayBuffer
from bbrl.workspace import Workspace
from gymnasium.wrappers import TimeLimit
from torch import nn

# 1. Agents that write sequences of numbers: a variable written ahead of time, and one that begins late.


class Start(Agent):
    """Writes the first two numbers at once."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)

    def forward(self, **kwargs: Any) -> None:
        self.set(("number", 0), torch.Tensor([0]))
        self.set(("number", 1), torch.Tensor([1]))


class Fibonacci(Agent):
    def forward(self, t: int, **kwargs: Any) -> None:
        self.set(("number", t + 1), torch.Tensor([self.get(("number", t)) + self.get(("number", t - 1))]))


class Threshold(Agent):
    """Writes a stop variable of floats one step ahead, so that its first row is at t = 2."""

    def __init__(self, threshold: float, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.threshold = threshold

    def forward(self, t: int, **kwargs: Any) -> None:
        number = self.get(("number", t + 1))
        self.set(("stop", t + 1), torch.Tensor([number >= self.threshold]))


def test_fibonacci_numbers() -> None:
    workspace = Workspace()
    TemporalAgent(Agents(Start()))(workspace, t=0, n_steps=1)
    assert workspace["number"].tolist() == [[0], [1]]
    TemporalAgent(Agents(Fibonacci()))(workspace, t=1, n_steps=20)
    assert workspace.get("number", 6) == 8
    assert [key for key in workspace.variables.keys()] == ["number"]  # noqa: C416, SIM118
    assert workspace.time_size() == 22


def test_a_sequence_stops_at_a_threshold(capsys: pytest.CaptureFixture[str]) -> None:
    workspace = Workspace()
    TemporalAgent(Agents(Start()))(workspace, t=0, n_steps=1)
    agents = TemporalAgent(Agents(Fibonacci(), Threshold(200), PrintAgent()))
    agents(workspace, t=1, stop_variable="stop")
    numbers = workspace["number"].flatten().tolist()
    assert numbers[-2] == 233  # the step at which the stop variable is read is one after that which writes it
    assert workspace["stop"].flatten().tolist()[:2] == [0, 0]
    assert workspace.time_size() == len(numbers)
    assert "number = tensor([2.])" in capsys.readouterr().out


def test_an_agent_may_run_another_in_a_workspace_of_its_own() -> None:
    class Collatz(Agent):
        def forward(self, t: int, start: int, **kwargs: Any) -> None:
            number = torch.Tensor([start]) if t == 0 else self.get(("n", t - 1))
            if t > 0:
                number = number / 2 if number % 2 == 0 else 3 * number + 1
            self.set(("n", t), number)
            self.set(("stop", t), number == 1)

    class Lengths(Agent):
        def forward(self, t: int, **kwargs: Any) -> None:
            inner = Workspace()
            TemporalAgent(Collatz())(inner, t=0, stop_variable="stop", start=t + 1)
            self.set(("length", t), torch.Tensor([inner.time_size() - 1]))

    workspace = Workspace()
    TemporalAgent(Lengths())(workspace, t=0, n_steps=7)
    assert workspace["length"].flatten().tolist() == [0, 1, 7, 2, 5, 8, 16]


# 2. Environments that play one episode each.


class RandomAgent(Agent):
    def __init__(self, action_dim: int) -> None:
        super().__init__()
        self.action_dim = action_dim

    def forward(self, t: int, choose_action: bool = True, **kwargs: Any) -> None:
        obs = self.get(("env/env_obs", t))
        self.set(("action", t), torch.randint(0, self.action_dim, (len(obs),)))


def test_three_environments_without_autoreset() -> None:
    limited = [lambda env: TimeLimit(env, 5)]
    env_agent = ParallelGymAgent(
        partial(make_env, "CartPole-v1", autoreset=False, wrappers=limited), 3, reward_at_t=False
    )
    env_agent.seed(2139)
    obs_size, action_dim = env_agent.get_obs_and_actions_sizes()
    assert (obs_size, action_dim) == (4, 2)

    workspace = Workspace()
    env_agent(workspace, t=0)
    assert workspace.get("env/env_obs", 0).shape == (3, 4)
    workspace.set("action", 0, torch.randint(0, action_dim, (3,)))
    env_agent(workspace, t=1)
    assert workspace["env/env_obs"].shape == (2, 3, 4)
    names = {"env_obs", "reward", "terminated", "truncated", "done", "cumulated_reward", "timestep"}
    assert {f"env/{name}" for name in names} | {"action"} <= set(workspace.variables.keys())

    agents = TemporalAgent(Agents(env_agent, RandomAgent(action_dim)))
    workspace = Workspace()
    agents(workspace, t=0, stop_variable="env/done", stochastic=True)
    assert workspace["env/done"].shape == (6, 3)
    assert workspace["env/truncated"][-1].all()
    assert workspace["env/cumulated_reward"][-1].tolist() == [5, 5, 5]


# 3. Environments that reset themselves, transitions, the replay buffer, several epochs.


def test_transitions_of_environments_with_autoreset_fill_a_replay_buffer() -> None:
    torch.manual_seed(0)
    env_agent = ParallelGymAgent(partial(make_env, env_name="CartPole-v1", autoreset=True), num_envs=3).seed(2139)
    _, action_dim = env_agent.get_obs_and_actions_sizes()
    t_agents = TemporalAgent(Agents(env_agent, RandomAgent(action_dim)))
    workspace, buffer = Workspace(), ReplayBuffer(max_size=80)
    t_agents(workspace, n_steps=15)
    transitions = workspace.get_transitions()
    assert torch.equal(transitions["env/env_obs"][:, 0], workspace["env/env_obs"][:2, 0])
    before = transitions["env/env_obs"].clone()
    TemporalAgent(RandomAgent(action_dim))(transitions, t=0, n_steps=2)
    assert torch.equal(transitions["env/env_obs"], before)

    buffer.put(transitions)
    assert buffer.get_shuffled(3)["env/env_obs"].shape == (2, 3, 4)

    n_steps, n_ends, n_put = 0, 0, 0
    while n_steps < 100:
        if n_steps == 0:
            t_agents(workspace, t=0, n_steps=10)
        else:
            workspace.zero_grad()
            workspace.copy_n_last_steps(1)
            t_agents(workspace, t=1, n_steps=10)
        found = workspace.get_transitions()
        n_steps += found["action"][0].shape[0]
        n_ends += int(workspace["env/done"][:-1].sum())
        n_put += (workspace.time_size() - 1) * 3
        buffer.put(found)
    assert n_steps == n_put - n_ends
    assert (buffer.size(), buffer.is_full) == (80, True)


# The notebooks of 2022: fake agents, then DQN with the constructors and configurations of that time.


def make_gym_env(env_name: str) -> Any:
    return gym.make(env_name)


CONFIGURATION: dict[str, Any] = {
    "gym_env": {"classname": f"{__name__}.make_gym_env", "env_name": "CartPole-v1"},
    "algorithm": {"seed": 4, "n_envs": 2, "n_steps": 8, "nb_evals": 3, "n_epochs": 12, "discount_factor": 0.99},
    "optimizer": {"classname": "torch.optim.Adam", "lr": 2.3e-3},
}


class QAgent(Agent):
    def __init__(self, obs_size: int, n_actions: int) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(obs_size, 32), nn.ReLU(), nn.Linear(32, n_actions))

    def forward(self, t: int, choose_action: bool, **kwargs: Any) -> None:
        q_values = self.model(self.get(("env/env_obs", t)))
        self.set(("q_values", t), q_values)
        if choose_action:
            self.set(("action", t), q_values.argmax(1))


class EGreedyActionSelector(Agent):
    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, t: int, **kwargs: Any) -> None:
        q_values = self.get(("q_values", t))
        n_envs, n_actions = q_values.size()
        is_random = torch.rand(n_envs).lt(self.epsilon).float()
        random_action = torch.randint(low=0, high=n_actions, size=(n_envs,))
        action = is_random * random_action + (1 - is_random) * q_values.max(1)[1]
        self.set(("action", t), action.long())


def test_a_program_of_2022_learns_over_whole_chunks(tmp_path: Any) -> None:
    cfg = CONFIGURATION["algorithm"]
    torch.manual_seed(cfg["seed"])
    gym_env = CONFIGURATION["gym_env"]
    logger = instantiate_class(
        {"classname": "bbrl.utils.logger.TFLogger", "log_dir": str(tmp_path), "cache_size": 100, "verbose": False}
    )
    train_env_agent = AutoResetGymAgent(get_class(gym_env), get_arguments(gym_env), cfg["n_envs"], cfg["seed"])
    eval_env_agent = NoAutoResetGymAgent(get_class(gym_env), get_arguments(gym_env), cfg["nb_evals"], cfg["seed"])
    critic = QAgent(*train_env_agent.get_obs_and_actions_sizes())
    train_agent = TemporalAgent(Agents(train_env_agent, critic, EGreedyActionSelector(0.2)))
    eval_agent = TemporalAgent(Agents(eval_env_agent, critic))
    q_agent = TemporalAgent(critic)
    arguments = get_arguments(CONFIGURATION["optimizer"])
    optimizer = get_class(CONFIGURATION["optimizer"])(q_agent.parameters(), **arguments)
    first_weights = copy.deepcopy(critic.state_dict())
    workspace = Workspace()
    train_agent.seed(cfg["seed"])
    for epoch in range(cfg["n_epochs"]):
        if epoch > 0:
            workspace.zero_grad()
            workspace.copy_n_last_steps(1)
            train_agent(workspace, t=1, n_steps=cfg["n_steps"] - 1, choose_action=False)
        else:
            train_agent(workspace, t=0, n_steps=cfg["n_steps"], choose_action=False)
        assert workspace.time_size() == cfg["n_steps"]
        transitions = workspace.get_transitions()
        q_agent(transitions, t=0, n_steps=2, choose_action=False)
        q_values, done, truncated, reward, action = transitions[
            "q_values", "env/done", "env/truncated", "env/reward", "action"
        ]
        must_bootstrap = torch.logical_or(~done[1], truncated[1])
        target = reward[1] + cfg["discount_factor"] * q_values[1].max(-1)[0].detach() * must_bootstrap.int()
        loss = nn.MSELoss()(q_values[0].gather(1, action[0].unsqueeze(-1)).squeeze(-1), target)
        logger.add_scalar("critic_loss", loss.item(), epoch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(q_agent.parameters(), 0.5)
        optimizer.step()
    logger.close()
    assert any(not torch.equal(first_weights[name], value) for name, value in critic.state_dict().items())
    evaluated = Workspace()
    eval_agent(evaluated, t=0, stop_variable="env/done", choose_action=True)
    returns = evaluated["env/cumulated_reward"][-1]
    assert returns.shape == (3,)
    assert torch.equal(returns, evaluated["env/timestep"][-1].float())
    critic.save_model(f"{tmp_path}/critic_{returns.mean().item()}.agt")
    assert torch.equal(critic.load_model(next(tmp_path.glob("*.agt"))).model[0].weight, critic.model[0].weight)


def test_two_fake_agents_show_which_row_an_action_changes() -> None:
    class World(Agent):
        def forward(self, t: int, **kwargs: Any) -> None:
            place = torch.zeros(2) if t == 0 else self.get(("place", t - 1)) + self.get(("action", t - 1))
            self.set(("place", t), place)

    class Walker(Agent):
        def forward(self, t: int, **kwargs: Any) -> None:
            self.set(("action", t), torch.tensor([1.0, -2.0]))

    workspace = Workspace()
    TemporalAgent(Agents(World(), Walker()))(workspace, t=0, n_steps=3)
    workspace.copy_n_last_steps(2)
    TemporalAgent(Agents(World(), Walker()))(workspace, t=2, n_steps=2)
    assert workspace["place"].tolist() == [[1, -2], [2, -4], [3, -6], [4, -8]]
