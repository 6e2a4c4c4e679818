"""The peer's side of the tuned pairs: RL Baselines3 Zoo's tuned settings, on the budgets of this project's experiments.

The zoo's tables: https://github.com/DLR-RM/rl-baselines3-zoo/tree/master/hyperparams. What deviates from them is the
budget (linear schedules end with it), the masked CartPole, whose hidden components are removed instead of zeroed, and
the versions of LunarLander and MuJoCo's environments, which are newer here. The zoo's DDPG on Pendulum is its TD3. It
has no settings for the T-maze and POPGym: there the peer has those of this project's experiments, and its own networks
of the same size; its entropy bonus cannot fall to zero, and is the mean of the one that does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn


def decaying(initial: float) -> Callable[[float], float]:
    """A schedule from ``initial`` down to 0 at the end of the budget."""
    return lambda remaining: remaining * initial


@dataclass(frozen=True)
class PeerRun:
    """How the peer learns a pair.

    Attributes:
        algorithm: the class's name in stable_baselines3 or sb3_contrib.
        env_steps: the budget.
        settings: arguments of the class.
        n_envs: environments side by side.
        is_normalized: whether observations and rewards are normalised by running statistics.
        noise_std: standard deviation of Gaussian action noise; None for none.
        policy: the policy class's name.
    """

    algorithm: str
    env_steps: int
    settings: Mapping[str, Any]
    n_envs: int = 1
    is_normalized: bool = False
    noise_std: float | None = None
    policy: str = field(default="MlpPolicy")


_CARTPOLE_PPO: dict[str, Any] = {
    "n_steps": 32,
    "batch_size": 256,
    "gae_lambda": 0.8,
    "gamma": 0.98,
    "n_epochs": 20,
    "ent_coef": 0.0,
    "learning_rate": decaying(1e-3),
    "clip_range": decaying(0.2),
}
_LSTM_64: dict[str, Any] = {"lstm_hidden_size": 64, "enable_critic_lstm": True, "net_arch": []}
_NET_256: dict[str, Any] = {"policy_kwargs": {"net_arch": [256, 256]}}
_ACROBOT_AND_LUNAR_DQN: dict[str, Any] = {
    "learning_rate": 6.3e-4,
    "batch_size": 128,
    "buffer_size": 50_000,
    "learning_starts": 0,
    "gamma": 0.99,
    "target_update_interval": 250,
    "train_freq": 4,
    "gradient_steps": -1,
    "exploration_fraction": 0.12,
    "exploration_final_eps": 0.1,
    **_NET_256,
}
_PENDULUM_DETERMINISTIC: dict[str, Any] = {
    "gamma": 0.98,
    "buffer_size": 200_000,
    "learning_starts": 10_000,
    "gradient_steps": 1,
    "train_freq": 1,
    "learning_rate": 1e-3,
    "policy_kwargs": {"net_arch": [400, 300]},
}
_MUJOCO_TD3: dict[str, Any] = {
    "learning_starts": 10_000,
    "gradient_steps": 1,
    "train_freq": 1,
    "learning_rate": 1e-3,
    "batch_size": 256,
    "policy_kwargs": {"net_arch": [400, 300]},
}
_MUJOCO_PPO_NET: dict[str, Any] = {
    "log_std_init": -2,
    "ortho_init": False,
    "activation_fn": nn.ReLU,
    "net_arch": {"pi": [256, 256], "vf": [256, 256]},
}

PEER_RUNS: Mapping[str, PeerRun] = {
    "a2c_cartpole": PeerRun("A2C", 100_000, {"ent_coef": 0.0}, n_envs=8),
    "ppo_masked_cartpole": PeerRun("PPO", 50_000, _CARTPOLE_PPO, n_envs=8),
    "ppo_cartpole": PeerRun("PPO", 100_000, _CARTPOLE_PPO, n_envs=8),
    "dqn_cartpole": PeerRun(
        "DQN",
        50_000,
        {
            "learning_rate": 2.3e-3,
            "batch_size": 64,
            "buffer_size": 100_000,
            "learning_starts": 1000,
            "gamma": 0.99,
            "target_update_interval": 10,
            "train_freq": 256,
            "gradient_steps": 128,
            "exploration_fraction": 0.16,
            "exploration_final_eps": 0.04,
            **_NET_256,
        },
    ),
    "recurrent_ppo_masked_cartpole": PeerRun(
        "RecurrentPPO",
        50_000,
        {
            **_CARTPOLE_PPO,
            "policy_kwargs": {
                "ortho_init": False,
                "activation_fn": nn.ReLU,
                "lstm_hidden_size": 64,
                "enable_critic_lstm": True,
                "net_arch": {"pi": [64], "vf": [64]},
            },
        },
        n_envs=8,
        is_normalized=True,
        policy="MlpLstmPolicy",
    ),
    **{
        f"recurrent_ppo_{name}": PeerRun(
            "RecurrentPPO",
            env_steps,
            {
                "n_steps": 128,
                "batch_size": 512,
                "gamma": discount,
                "gae_lambda": 0.95,
                "n_epochs": 10,
                "ent_coef": entropy_weight,
                "learning_rate": decaying(learning_rate),
                "clip_range": 0.2,
                "policy_kwargs": _LSTM_64,
            },
            n_envs=16,
            is_normalized=True,
            policy="MlpLstmPolicy",
        )
        for name, env_steps, discount, learning_rate, entropy_weight in (
            ("t_maze", 100_000, 0.998, 2e-3, 0.01),
            ("repeat_first_easy", 100_000, 0.99, 3e-3, 0.0),
        )
    },
    "ppo_acrobot": PeerRun(
        "PPO",
        200_000,
        {"n_steps": 256, "gae_lambda": 0.94, "gamma": 0.99, "n_epochs": 4, "ent_coef": 0.0},
        n_envs=16,
        is_normalized=True,
    ),
    "dqn_acrobot": PeerRun("DQN", 50_000, _ACROBOT_AND_LUNAR_DQN),
    "ppo_pendulum": PeerRun(
        "PPO",
        100_000,
        {
            "n_steps": 1024,
            "gae_lambda": 0.95,
            "gamma": 0.9,
            "n_epochs": 10,
            "ent_coef": 0.0,
            "learning_rate": 1e-3,
            "clip_range": 0.2,
            "use_sde": True,
            "sde_sample_freq": 4,
        },
        n_envs=4,
    ),
    "sac_pendulum": PeerRun("SAC", 10_000, {"learning_rate": 1e-3}),
    "td3_pendulum": PeerRun("TD3", 20_000, _PENDULUM_DETERMINISTIC, noise_std=0.1),
    "ddpg_pendulum": PeerRun("DDPG", 20_000, _PENDULUM_DETERMINISTIC, noise_std=0.1),
    "tqc_pendulum": PeerRun(
        "TQC",
        10_000,
        {
            "learning_rate": 1e-3,
            "use_sde": True,
            "gradient_steps": 64,
            "train_freq": 64,
            "policy_kwargs": {"log_std_init": -2, "net_arch": [64, 64]},
        },
    ),
    "dqn_mountain_car": PeerRun(
        "DQN",
        120_000,
        {
            "learning_rate": 4e-3,
            "batch_size": 128,
            "buffer_size": 10_000,
            "learning_starts": 1000,
            "gamma": 0.98,
            "target_update_interval": 600,
            "train_freq": 16,
            "gradient_steps": 8,
            "exploration_fraction": 0.2,
            "exploration_final_eps": 0.07,
            **_NET_256,
        },
    ),
    "dqn_lunar_lander": PeerRun("DQN", 100_000, _ACROBOT_AND_LUNAR_DQN),
    "sac_mountain_car_continuous": PeerRun(
        "SAC",
        50_000,
        {
            "learning_rate": 3e-4,
            "buffer_size": 50_000,
            "batch_size": 512,
            "ent_coef": 0.1,
            "train_freq": 32,
            "gradient_steps": 32,
            "gamma": 0.9999,
            "tau": 0.01,
            "learning_starts": 0,
            "use_sde": True,
            "policy_kwargs": {"log_std_init": -3.67, "net_arch": [64, 64]},
        },
    ),
    "ppo_lunar_lander": PeerRun(
        "PPO",
        1_000_000,
        {"n_steps": 1024, "batch_size": 64, "gae_lambda": 0.98, "gamma": 0.999, "n_epochs": 4, "ent_coef": 0.01},
        n_envs=16,
    ),
    "crossq_pendulum": PeerRun("CrossQ", 10_000, {"policy_delay": 2, "policy_kwargs": {"net_arch": [256, 256]}}),
    **{f"sac_{name}": PeerRun("SAC", 50_000, {"learning_starts": 10_000}) for name in ("half_cheetah", "hopper")},
    **{f"td3_{name}": PeerRun("TD3", 50_000, _MUJOCO_TD3, noise_std=0.1) for name in ("half_cheetah", "hopper")},
    "ppo_half_cheetah": PeerRun(
        "PPO",
        1_000_000,
        {
            "n_steps": 512,
            "batch_size": 64,
            "gamma": 0.98,
            "learning_rate": 2.0633e-05,
            "ent_coef": 0.000401762,
            "clip_range": 0.1,
            "n_epochs": 20,
            "gae_lambda": 0.92,
            "max_grad_norm": 0.8,
            "vf_coef": 0.58096,
            "policy_kwargs": _MUJOCO_PPO_NET,
        },
        is_normalized=True,
    ),
    "ppo_hopper": PeerRun(
        "PPO",
        1_000_000,
        {
            "n_steps": 512,
            "batch_size": 32,
            "gamma": 0.999,
            "learning_rate": 9.80828e-05,
            "ent_coef": 0.00229519,
            "clip_range": 0.2,
            "n_epochs": 5,
            "gae_lambda": 0.99,
            "max_grad_norm": 0.7,
            "vf_coef": 0.835671,
            "policy_kwargs": _MUJOCO_PPO_NET,
        },
        is_normalized=True,
    ),
}
