"""A run that is run again has its own configuration, whatever ``conf/`` says today."""

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from bbrl_exp.commands.rerun import main as rerun_main
from bbrl_exp.records.summary import read_summary

from .conftest import CommandLine, Ended
from .same_run import assert_same_run

SMALL = ["total_steps=256", "agent.steps_per_chunk=8"]
PPO = ["agent=ppo", "total_steps=1024", "eval.every=0", "eval.final_episodes=1", "agent.learner.n_epochs=1"]


@pytest.fixture
def rerun(command_line: CommandLine, capfd: pytest.CaptureFixture[str]):
    def call(*arguments: str) -> Ended:
        capfd.readouterr()
        code = rerun_main(arguments)
        printed = capfd.readouterr()
        return Ended(code, printed.out, printed.err)

    return call


def folder_of(ended: Ended) -> Path:
    assert ended.code == 0, ended.err
    return Path(ended.out.splitlines()[-1].removeprefix("folder: "))


def config_of(folder: Path):
    return OmegaConf.load(folder / ".hydra" / "config.yaml")


def test_the_same_run_again_has_the_same_bits_in_a_new_folder(command_line: CommandLine, rerun):
    assert command_line(*PPO, "experiment=ppo_cartpole", "seed=3", "name=mine").code == 0
    ended = rerun("outputs/mine")
    assert ended.out.startswith("run again: outputs/mine; what differs: nothing\n")
    folder = folder_of(ended)
    assert folder.name != "mine"
    assert_same_run(Path("outputs/mine"), folder)
    assert (read_summary(folder) or {})["config_hash"] == (read_summary(Path("outputs/mine")) or {})["config_hash"]


def test_overrides_of_values_and_groups_change_what_they_name_and_the_line_says_so(command_line: CommandLine, rerun):
    assert command_line(*SMALL, "env.clip_actions=false", "+env.kwargs.sutton_barto_reward=true", "name=mine").code == 0
    ended = rerun("outputs/mine", "seed=5", "agent=mlp", "agent.steps_per_chunk=16", "name=yours")
    assert "what differs: agent random → mlp, seed 0 → 5\n" in ended.out
    config = config_of(folder_of(ended))
    assert (config.seed, config.agent.steps_per_chunk, config.total_steps, config.name) == (5, 16, 256, "yours")
    assert (config.env.clip_actions, config.env.kwargs.sutton_barto_reward) == (False, True)
    summary = read_summary(Path("outputs/yours")) or {}
    assert (summary["agent"], summary["env"]) == ("mlp", "cartpole")
    again = rerun("outputs/yours", "batch_size=4")
    assert "what differs: batch_size 8 → 4\n" in again.out
    assert config_of(folder_of(again)).agent.steps_per_chunk == 16


def test_a_memory_is_that_of_the_run_until_another_one_or_another_agent_is_asked_for(command_line: CommandLine, rerun):
    memory = ["memory=lstm", "memory.cell.n_hidden=8", "memory.inputs=[observation,action]"]
    short = [
        "agent=recurrent_a2c",
        "total_steps=256",
        "agent.steps_per_chunk=16",
        "eval.every=0",
        "eval.final_episodes=1",
    ]
    assert command_line(*short, *memory, "name=mine").code == 0
    ended = rerun("outputs/mine", "name=again")
    assert ended.out.startswith("run again: outputs/mine; what differs: nothing\n")
    assert_same_run(Path("outputs/mine"), folder_of(ended))
    wider = config_of(folder_of(rerun("outputs/again", "memory.cell.n_hidden=9"))).memory
    assert (wider.cell._target_, wider.cell.n_hidden) == ("bbrl_exp.nn.recurrent.LSTM", 9)
    assert wider.inputs == ["observation", "action"]
    ended = rerun("outputs/mine", "memory=gru")
    assert "what differs: memory lstm → gru\n" in ended.out
    assert config_of(folder_of(ended)).memory.cell.n_hidden == 64
    ended = rerun("outputs/mine", "agent=random")
    assert "agent recurrent_a2c → random, memory lstm → null" in ended.out
    assert "memory" not in config_of(folder_of(ended))


def test_a_dry_run_again_says_what_differs_and_shows_the_plan(command_line: CommandLine, rerun):
    assert command_line(*SMALL, "name=mine").code == 0
    ended = rerun("outputs/mine", "seed=5", "dry_run=true")
    assert (ended.code, ended.err) == (0, "")
    assert "seed 0 → 5" in ended.out.splitlines()[0]
    assert ended.out.endswith("dry run: nothing was made\n")
    assert [path.name for path in Path("outputs").iterdir()] == ["mine"]


def test_values_are_those_of_the_run_even_where_conf_says_otherwise_today(command_line: CommandLine, rerun):
    assert command_line(*PPO, "name=mine").code == 0
    path = Path("outputs/mine/.hydra/config.yaml")
    path.write_text(path.read_text().replace("discount: 0.99", "discount: 0.5").replace("n_minibatches: 4", ""))
    config = config_of(folder_of(rerun("outputs/mine", "seed=1")))
    assert config.agent.learner.discount == 0.5
    assert "n_minibatches" not in config.agent.learner


def test_keys_that_the_run_did_not_know_yet_have_todays_values(command_line: CommandLine, rerun):
    assert command_line(*SMALL, "name=mine").code == 0
    path = Path("outputs/mine/.hydra/config.yaml")
    lines = [line for line in path.read_text().splitlines() if "pause_after" not in line and "speed_every" not in line]
    path.write_text("\n".join(lines))
    assert config_of(folder_of(rerun("outputs/mine"))).tracking.speed_every == 10_000


def test_a_run_without_a_backend_can_be_repeated_with_another_one(command_line: CommandLine, rerun):
    assert command_line(*SMALL, "name=mine").code == 0
    path, config = Path("outputs/mine/.hydra/config.yaml"), config_of(Path("outputs/mine"))
    config.env.agent._target_ = config.env.backends.gym  # as version 0.1.0 wrote it
    for node, keys in ((config.env, ("backend", "backends", "float_observations")), (config.env.agent, ("kwargs",))):
        for key in keys:
            del node[key]
    OmegaConf.save(config, path)
    same = rerun("outputs/mine", "name=same")
    assert same.out.startswith("run again: outputs/mine; what differs: nothing\n")
    assert_same_run(Path("outputs/mine"), folder_of(same))
    other = rerun("outputs/mine", "env.backend=torch")
    assert other.out.startswith("run again: outputs/mine; what differs: env.backend 'gym' → 'torch'\n")
    assert config_of(folder_of(other)).env.backend == "torch"


def test_an_environment_option_of_the_users_own_is_repeated_as_it_is(command_line: CommandLine, rerun):
    conf = Path("conf/env")
    conf.mkdir(parents=True)
    lines = ["_target_: bbrl_exp.envs.gym_agents.AutoResetGymAgent", "env: CartPole-v1"]
    lines += ["batch_size: ${batch_size}", "seed: ${seed}"]
    (conf / "mine.yaml").write_text("".join(["agent:\n", *(f"  {line}\n" for line in lines)]))
    assert command_line(*SMALL, "--config-dir=conf", "env=mine", "name=mine").code == 0
    again = rerun("outputs/mine")
    assert again.out.startswith("run again: outputs/mine; what differs: nothing\n"), again.err
    assert_same_run(Path("outputs/mine"), folder_of(again))


def test_versions_and_commit_that_changed_are_named(command_line: CommandLine, rerun):
    assert command_line(*SMALL, "name=mine").code == 0
    path = Path("outputs/mine/summary.json")
    contents = json.loads(path.read_text())
    today = contents["versions"]["torch"]
    contents["versions"]["torch"], contents["git_commit"] = "1.0", "0" * 40
    path.write_text(json.dumps(contents))
    said = rerun("outputs/mine").out.splitlines()[0]
    assert f"torch 1.0 → {today}" in said
    assert "commit 00000000 → " in said


def test_a_job_of_a_sweep_is_run_again_alone(command_line: CommandLine, rerun):
    assert command_line("-m", "agent=random,mlp", *SMALL, "name=sweep").code == 0
    ended = rerun("outputs/multirun/sweep/agent=mlp")
    folder = folder_of(ended)
    assert folder.parent.name == "outputs"
    assert_same_run(Path("outputs/multirun/sweep/agent=mlp"), folder)
    refused = rerun("outputs/multirun/sweep")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == "error: folder outputs/multirun/sweep is a sweep's; name the folder of one of its jobs\n"


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("config.yaml", lambda text: f"{text}a: [1", "config.yaml cannot be read"),
        ("config.yaml", lambda text: f"- {text.splitlines()[-1]}", "it is no mapping"),
        ("config.yaml", lambda text: f"{text}defaults: [agent: random]\n", "key 'defaults' is not one"),
        (
            "config.yaml",
            lambda text: text.replace("agent:\n", "agent:\n  defaults: [x]\n", 1),
            "key 'agent' is no mapping",
        ),
        ("config.yaml", None, "config.yaml cannot be read: No such file or directory"),
        ("overrides.yaml", lambda text: text.replace("- ", "").replace("=", ": "), "it is no list"),
        (
            "hydra.yaml",
            lambda text: text.replace("agent: random", "agent: ../../x"),
            "group 'agent' = '../../x': no option",
        ),
    ],
)
def test_a_folder_that_cannot_be_used_is_one_line_and_nothing_is_made(command_line, rerun, name, damage, said):
    assert command_line(*SMALL, "name=mine").code == 0
    path = Path("outputs/mine/.hydra") / name
    path.unlink() if damage is None else path.write_text(damage(path.read_text()))
    ended = rerun("outputs/mine")
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert said in ended.err
    assert [path.name for path in Path("outputs").iterdir() if path.is_dir()] == ["mine"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["outputs/absent"], "folder outputs/absent is not a run folder (no summary.json)"),
        (["outputs/mine", "experiment=ppo_cartpole"], "use run"),
        (["outputs/mine", "sede=1"], "sede"),
        (["outputs/mine", "seed=1,2"], "seed"),
        (["outputs/mine", "agent=randm"], "did you mean 'random'?"),
        ([], "run_folder"),
    ],
)
def test_what_cannot_be_asked_is_one_line(command_line: CommandLine, rerun, arguments: list[str], said: str):
    if arguments and arguments[0] == "outputs/mine":
        assert command_line(*SMALL, "name=mine").code == 0
    ended = rerun(*arguments)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert said in ended.err


def test_targets_of_a_foreign_run_are_checked_as_those_of_any_configuration(command_line: CommandLine, rerun):
    assert command_line(*SMALL, "name=mine").code == 0
    path = Path("outputs/mine/.hydra/config.yaml")
    path.write_text(path.read_text().replace("bbrl_exp.policies.random.RandomAgent", "os.system"))
    ended = rerun("outputs/mine")
    assert ended.code == 2
    assert "os.system" in ended.err


def test_a_stopped_rerun_tells_a_command_that_goes_on(command_line: CommandLine, rerun, users_package, monkeypatch):
    stops = f"+agent.members.stops={{_target_: {users_package}.Stops, at: 100}}"
    assert command_line(*SMALL, stops, "name=mine").code in (0, 143)
    monkeypatch.setattr("sys.argv", ["scripts/rerun.py", "outputs/mine", "total_steps=2048", "name=yours"])
    ended = rerun("outputs/mine", "total_steps=2048", "name=yours")
    assert ended.code in (0, 143)
    if ended.code == 143:
        (line,) = (line for line in ended.out.splitlines() if line.startswith("to resume: "))
        assert line.startswith("to resume: BBRL_EXP_ALLOW=users_own PYTHONPATH=")
        assert " scripts/rerun.py outputs/mine total_steps=2048 name=yours resume=" in line
