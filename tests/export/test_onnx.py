"""ONNX models act as the policies do that they were made from, in programs without bbrl_exp."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bbrl_exp.envs.wrappers import MaskObservation
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.export import export as exporting
from bbrl_exp.export.comparison import Comparison, DisagreementError
from bbrl_exp.export.export import export
from bbrl_exp.export.onnx_file import OnnxModel
from bbrl_exp.export.step import PolicyStep
from bbrl_exp.runs.policy import SavedRun, load_policy
from bbrl_exp.runs.run import run

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

SHORT = ["tracking=none", "total_steps=256", "batch_size=2", "eval.every=0", "eval.final_episodes=0"]
NORMALIZED = [
    "+agent.members.observations={_target_: bbrl_exp.policies.normalize.NormalizeObservation, after: env}",
    "+agent.members.policy.observation_prefix=normalized/",
]
STATE_NORMALIZED = [*NORMALIZED, "+agent.learner.critic.observation_prefix=normalized/"]
N_STEPS = 1000

Make = Callable[[], "gymnasium.Env[Any, Any]"]


def pendulum() -> gymnasium.Env[Any, Any]:
    return gymnasium.make("Pendulum-v1")


def cartpole() -> gymnasium.Env[Any, Any]:
    return gymnasium.make("CartPole-v1")


def masked_pendulum() -> gymnasium.Env[Any, Any]:
    return MaskObservation(pendulum(), hidden=[2])


def masked_cartpole() -> gymnasium.Env[Any, Any]:
    return MaskObservation(cartpole(), hidden=[1, 3])


POLICIES: dict[str, tuple[Make, list[str]]] = {
    "ppo": (pendulum, ["agent=ppo", "env=pendulum", *STATE_NORMALIZED]),
    "sac": (pendulum, ["agent=sac", "env=pendulum", "agent.learner.learning_starts=200", *STATE_NORMALIZED]),
    "dqn": (cartpole, ["agent=dqn", "env=cartpole", "agent.learner.learning_starts=200", *NORMALIZED]),
    "gru": (masked_pendulum, ["agent=recurrent_ppo", "env=masked_pendulum"]),
    "lstm": (masked_cartpole, ["agent=recurrent_ppo", "env=masked_cartpole", "memory=lstm"]),
}
WITHOUT_BBRL_EXP = """
import sys

sys.modules["bbrl_exp"] = sys.modules["torch"] = None  # an import of them fails

import numpy as np
import onnxruntime

for name in sys.argv[1:]:
    played = np.load(f"{name}.npz")
    session = onnxruntime.InferenceSession(f"{name}.onnx")
    inputs = {port.name: port for port in session.get_inputs()}
    memory = np.zeros((1, inputs["state"].shape[1]), np.float32) if "state" in inputs else None
    chosen = []
    for observation, start in zip(played["observations"], played["starts"]):
        feed = {"observation": observation[None]}
        if memory is not None:
            feed |= {"start": np.array([start]), "state": memory}
        action, *following = session.run(None, feed)
        memory = following[0] if following else None
        chosen.append(action[0])
    assert np.array(chosen).dtype == played["actions"].dtype
    if np.issubdtype(played["actions"].dtype, np.integer):
        np.testing.assert_array_equal(chosen, played["actions"])
    else:
        np.testing.assert_allclose(chosen, played["actions"], rtol=1e-5, atol=1e-5)
    print(name, len(chosen), len(np.unique(chosen)) > 1)
"""


def actions_of_the_policy(folder: Path, make: Make) -> dict[str, NDArray[Any]]:
    """What the policy sees and does in a plain environment, episode after episode."""
    policy, env = load_policy(folder), make()
    played: dict[str, list[Any]] = {"observations": [], "starts": [], "actions": []}
    state, (observation, _) = None, env.reset(seed=0)
    for _ in range(N_STEPS):
        played["observations"].append(observation)
        played["starts"].append(state is None)
        action, state = policy.act(observation, state)
        played["actions"].append(action)
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            state, (observation, _) = None, env.reset()
    return {name: np.array(values) for name, values in played.items()}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of each policy, and what the policy does in 1,000 steps."""
    folder = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, (make, overrides) in POLICIES.items():
            trained = run([*SHORT, f"name={name}", *overrides]).folder
            export(trained, f"{name}.onnx", episodes=2)
            np.savez(f"{name}.npz", **actions_of_the_policy(trained, make))
    return folder


def test_models_give_the_policies_actions_over_a_thousand_steps_in_a_process_without_bbrl_exp(exported: Path) -> None:
    program = [sys.executable, "-c", WITHOUT_BBRL_EXP, *POLICIES]
    ended = subprocess.run(program, cwd=exported, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == [f"{name} {N_STEPS} True" for name in POLICIES]


def test_the_names_and_shapes_of_a_model_say_what_it_takes_and_gives(exported: Path) -> None:
    card = json.loads(onnx.load(exported / "gru.onnx").metadata_props[0].value)
    assert card["onnx"]["inputs"] == {
        "observation": ["tensor(float)", ["batch", 2]],
        "start": ["tensor(bool)", ["batch"]],
        "state": ["tensor(float)", ["batch", 64]],
    }
    assert card["onnx"]["outputs"] == {
        "action": ["tensor(float)", ["batch", 1]],
        "next_state": ["tensor(float)", ["batch", 64]],
    }
    assert card["onnx"]["compared"]["steps"] == 400  # two episodes of Pendulum
    assert card["onnx"]["compared"]["largest_difference"] < 1e-5
    assert card["memory"] == {"policy/next_state": {"dtype": "float32", "shape": [64]}}
    assert card["run"]["env_id"] == "Pendulum-v1"
    assert len(card["evaluation"]["returns"]) == 2


class FromOne(gymnasium.ActionWrapper[Any, Any, Any]):
    """Its actions are 1 and 2."""

    def __init__(self) -> None:
        super().__init__(cartpole())
        self.action_space = gymnasium.spaces.Discrete(2, start=1)

    def action(self, action: Any) -> Any:
        return action - 1


def test_a_policy_that_sees_what_it_did_and_what_that_brought_is_a_model_that_is_given_the_reward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(gymnasium.registry, "FromOne-v0", gymnasium.envs.registration.EnvSpec("FromOne-v0", FromOne))
    seen = "memory.inputs=[observation,action,reward]"
    folder = run([*SHORT, "agent=recurrent_dqn", "env=gym", "env.id=FromOne-v0", "name=run", seen]).folder
    export(folder, "hub", episodes=2)
    card = json.loads(onnx.load("hub/policy.onnx").metadata_props[0].value)
    assert card["onnx"]["inputs"] == {
        "observation": ["tensor(float)", ["batch", 4]],
        "env/reward": ["tensor(float)", ["batch"]],
        "start": ["tensor(bool)", ["batch"]],
        "state/action": ["tensor(int64)", ["batch"]],
        "state/policy/next_state": ["tensor(float)", ["batch", 64]],
    }
    readme = Path("hub/README.md").read_text(encoding="utf-8")
    assert 'policy.act(observation, state, variables={"env/reward": reward})  # state=None begins' in readme
    assert "# env_reward: float32 [batch], of the step before, 0 where an episode begins\n" in readme


def test_the_statistics_of_a_normaliser_are_part_of_the_model(exported: Path) -> None:
    saved = SavedRun.read(exported / "outputs" / "ppo")
    moments = [name for name in saved.graph_state if name.endswith("moments.0.mean")]
    step = PolicyStep(saved, 2)
    inputs = tuple(step.inputs.values())
    shifted = replace(saved, graph_state={**saved.graph_state, moments[0]: saved.graph_state[moments[0]] + 1.0})
    assert not torch.equal(step(*inputs)[0], PolicyStep(shifted, 2)(*inputs)[0])


@pytest.fixture(scope="module")
def dqn_model(exported: Path) -> OnnxModel:
    return OnnxModel(SavedRun.read(exported / "outputs" / "dqn"))


def test_the_parts_of_a_structured_space_are_inputs_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    step = PolicyStep(SavedRun.read(run([*SHORT, "agent=ppo", "env=gym", "env.id=Blackjack-v1"]).folder), 3)
    assert {name: (tuple(value.shape), value.dtype) for name, value in step.inputs.items()} == {
        f"observation/{index}": ((3,), torch.int64) for index in range(3)
    }
    assert step.outputs == ("action",)


def test_a_model_that_acts_otherwise_is_refused_and_nothing_is_left(
    exported: Path, dqn_model: OnnxModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(exported)
    right = dqn_model.run
    monkeypatch.setattr(dqn_model, "run", lambda inputs: {"action": 1 - right(inputs)["action"]})
    monkeypatch.setattr("bbrl_exp.export.export.OnnxModel", lambda saved: dqn_model)
    said = r"the ONNX model does not act as the policy does: at t=0 of episode 0 'action' is [01] instead of [01]"
    with pytest.raises(DisagreementError, match=f"^{said}$"):
        export("outputs/dqn", "wrong.onnx", episodes=2)
    assert not [path.name for path in exported.iterdir() if "wrong" in path.name]
    (left_out,) = export("outputs/dqn", "wrong", episodes=2).left_out
    assert re.fullmatch(rf"no policy\.onnx: {said}", left_out)
    assert not (exported / "wrong" / "policy.onnx").exists()
    assert (exported / "wrong" / "policy.safetensors").exists()


def test_two_actions_of_one_worth_are_a_tie_and_others_are_not(dqn_model: OnnxModel) -> None:
    model = dqn_model
    comparison = Comparison(model)
    observation = np.random.default_rng(0).normal(size=(1, 4)).astype(np.float32)
    action = model.run({"observation": observation})["action"]
    other = 1 - action
    assert not comparison._is_tie("action", other[0], [torch.from_numpy(observation)])
    # Between an observation with one action and one with the other is one where both are worth the same.
    far = next(
        point
        for point in np.random.default_rng(1).normal(size=(10_000, 1, 4)).astype(np.float32)
        if model.run({"observation": point})["action"] == other
    )
    for _ in range(60):
        middle = ((observation.astype(np.float64) + far) / 2).astype(np.float32)
        if model.run({"observation": middle})["action"] == action:
            observation = middle
        else:
            far = middle
    assert comparison._is_tie("action", other[0], [torch.from_numpy(observation)])


def undecided(folder: Path) -> SavedRun:
    """The policy of a run after a change: both actions are worth exactly the same, whatever it sees."""
    saved = SavedRun.read(folder)
    *_, weight, bias = saved.graph_state.values()
    weight[1], bias[1] = weight[0], bias[0]
    return saved


def test_two_actions_of_one_worth_are_a_tie_where_integers_are_observed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    saved = undecided(run([*SHORT, "agent=ppo", "env=gym", "env.id=Blackjack-v1"]).folder)
    *_, bias = saved.graph_state.values()
    seen = [torch.tensor([value]) for value in (14, 10, 0)]
    is_tie = []
    for lead in (0.0, 0.01):
        bias[1] = bias[0] + lead
        model = OnnxModel(saved)
        is_tie.append([Comparison(model)._is_tie("action", np.array(action), seen) for action in (0, 1)])
    assert is_tie == [[True, True], [False, True]]


@pytest.mark.parametrize("memory", [["memory=lru"], ["memory=gtrxl", "memory.cell.window=4"]])
def test_a_policy_with_another_cell_is_a_model_that_acts_as_it_does(
    memory: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    short = [*SHORT, "total_steps=64", "agent.steps_per_chunk=32", "agent.learner.n_epochs=1"]
    run([*short, "agent=recurrent_ppo", "env=masked_pendulum", *memory, "memory.cell.n_hidden=8", "name=run"])
    export("outputs/run", "model.onnx", episodes=1)
    card = json.loads(onnx.load("model.onnx").metadata_props[0].value)
    assert card["onnx"]["compared"]["steps"] == 200
    assert card["onnx"]["compared"]["largest_difference"] < 1e-5


@pytest.mark.parametrize("env", ["cartpole", "pendulum"])
def test_a_policy_that_draws_random_numbers_is_refused(
    env: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = run([*SHORT, "agent=random", f"env={env}"]).folder
    with pytest.raises(DisagreementError) as refused:
        export(folder, "random.onnx", episodes=1)
    assert re.fullmatch(
        r"the ONNX model does not act as the policy does: at t=\d+ of episode 0 'action' is \S+ instead of \S+; "
        "the policy draws random numbers",
        str(refused.value),
    )


@pytest.mark.parametrize("choice", [["agent=cem", "env=cartpole"], ["agent=ppo", "env=minigrid_empty"]])
def test_populations_and_grids_take_batches_of_any_size(
    choice: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = OnnxModel(SavedRun.read(run([*SHORT, *choice]).folder))
    assert model.has_batches
    seen = {name: np.repeat(example.numpy()[:1], 5, axis=0) for name, example in model.step.inputs.items()}
    assert model.run(seen)["action"].shape == (5,)


USERS_AGENTS = """
import torch
from bbrl_exp import Agent

class Keeps(Agent):
    # The first observation of the episode, but for a rewarded second step zeros, and zeros late in the episode.
    def forward(self, t, **kwargs):
        seen = self.get(("env/env_obs", t))
        if t > 0:
            seen = torch.where(self.get(("env/initial_state", t))[:, None], seen, self.get(("seen/env/env_obs", t - 1)))
        step = self.get(("env/timestep", t))
        hidden = (step > 6) | (step == 2) & (self.get(("env/reward", t)) > 0.5)
        seen = torch.where((step == 3)[:, None], self.get(("env/env_obs", t)), seen)
        self.set(("seen/env/env_obs", t), seen.masked_fill(hidden[:, None], 0.0))

class Sums(Agent):
    # The sum of the observations of the episode, which begins where t is 0.
    def forward(self, t, **kwargs):
        seen = self.get(("env/env_obs", t))
        self.set(("seen/env/env_obs", t), seen if t == 0 else seen + self.get(("seen/env/env_obs", t - 1)))

class Echoes(Agent):
    # Observations that depend on the last action.
    def forward(self, t, **kwargs):
        seen = self.get(("env/env_obs", t))
        if t > 0:
            seen = seen + 0.1 * self.get(("action", t - 1))[:, None]
        self.set(("seen/env/env_obs", t), seen)

class RowByRow(Agent):
    def forward(self, t, **kwargs):
        self.set(("seen/env/env_obs", t), torch.stack([row / 2 for row in self.get(("env/env_obs", t))]))

class OnArrays(Agent):
    def forward(self, t, **kwargs):
        (row,) = self.read_rows(t, ("env/env_obs",))
        self.set(("seen/env/env_obs", t), torch.from_numpy(row.copy()))
"""
SEEN = ["+agent.members.policy.observation_prefix=seen/", "+agent.learner.critic.observation_prefix=seen/"]


@pytest.fixture
def trained_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Runs in an empty folder with an agent of the user's between environment and policy."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "users_steps.py").write_text(USERS_AGENTS, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("BBRL_EXP_ALLOW", "users_steps")
    monkeypatch.delitem(sys.modules, "users_steps", raising=False)

    def train(agent: str) -> Path:
        node = f"+agent.members.between={{_target_: users_steps.{agent}, after: env}}"
        return run([*SHORT, "agent=ppo", "env=cartpole", node, *SEEN]).folder

    return train


def test_an_agent_of_the_user_s_is_exported_with_all_that_it_reads(trained_with: Callable[[str], Path]) -> None:
    card = export(trained_with("Keeps"), "keeps.onnx", episodes=3).card
    assert list(card["onnx"]["inputs"]) == [
        *("observation", "env/reward", "start"),
        *("state/seen/env/env_obs", "state/env/timestep"),
    ]
    assert list(card["onnx"]["outputs"]) == ["action", "next_state/seen/env/env_obs", "next_state/env/timestep"]
    assert card["memory"]["env/timestep"] == {"dtype": "int64", "shape": []}
    assert card["onnx"]["compared"]["steps"] == sum(card["evaluation"]["lengths"]) > 3 * 7


def test_a_memory_is_empty_where_an_episode_starts_though_the_agent_asks_for_t_alone(
    trained_with: Callable[[str], Path],
) -> None:
    folder = trained_with("Sums")
    model, policy = OnnxModel(SavedRun.read(folder)), load_policy(folder)
    observations = np.random.default_rng(0).normal(size=(2, 20, 2, 4)).astype(np.float32)  # episodes, steps, B
    memory = np.full((2, 4), 1e6, np.float32)
    for episode in observations:
        state = None
        for step, observation in enumerate(episode):
            expected, state = policy.act(observation, state)
            found = model.run({"observation": observation, "start": np.full(2, step == 0), "state": memory})
            memory = found["next_state"]
            np.testing.assert_array_equal(found["action"], expected)
        np.testing.assert_allclose(memory, episode.sum(axis=0), rtol=1e-5, atol=1e-5)
    assert export(folder, "sums.onnx", episodes=3).card["onnx"]["compared"]["steps"] > 3


def test_a_model_may_decide_ties_in_its_own_way_and_remembers_what_was_done(
    trained_with: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = undecided(trained_with("Echoes"))
    model = OnnxModel(saved)
    right, chosen, remembered = model.run, [], []

    def other_way(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        remembered.append(inputs["state"].tolist())
        other = 1 - right(inputs)["action"]
        chosen.append(other.tolist())
        return {"action": other, "next_state": other.copy()}

    monkeypatch.setattr(model, "run", other_way)
    comparison = Comparison(model)
    evaluation, _ = exporting._evaluated(saved, 2, 0, "mode", comparison)
    assert comparison.n_ties == comparison.n_steps == sum(evaluation.lengths) > 4
    assert chosen[:3] == [[1, 1]] * 3
    assert remembered[:3] == [[1, 1], [0, 0], [0, 0]]  # at first something else than zeros, which is to be forgotten


def test_a_policy_that_depends_on_the_batch_size_answers_one_observation(trained_with: Callable[[str], Path]) -> None:
    folder = trained_with("RowByRow")
    card = export(folder, "rows.onnx", episodes=3).card
    assert (card["onnx"]["batch"], card["onnx"]["inputs"]) == (1, {"observation": ["tensor(float)", [1, 4]]})
    assert card["onnx"]["compared"]["steps"] == sum(card["evaluation"]["lengths"])
    comparison = Comparison(OnnxModel(undecided(folder)))
    assert comparison._is_tie("action", np.array(1), [torch.zeros(1, 4)])


def test_what_is_no_step_of_tensors_is_refused_in_one_line(trained_with: Callable[[str], Path], tmp_path: Path) -> None:
    expected = (
        "the policy cannot be exported to ONNX: OnArrays 'between' reads arrays, also where it is not on the CPU; "
        "an exported policy knows tensors of t and t - 1 alone"
    )
    with pytest.raises(ConfigurationError) as refused:
        export(trained_with("OnArrays"), "arrays.onnx", episodes=1)
    assert str(refused.value) == expected
    assert not list(tmp_path.glob("*.onnx"))
    assert not list(tmp_path.glob(".*"))
