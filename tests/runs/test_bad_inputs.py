"""Every bad input is one line on standard error with key, value and what is allowed; exit code 2; nothing is made."""

from pathlib import Path

import pytest

from .conftest import CommandLine

FILE = "bbrl_exp.records.files.AppendOnlyFile"
LINEAR = "torch.nn.Linear"
LEARNS = "agent.learner={_target_: users_own.Shifts, step: 0.1, reads: env/reward}"
NAMED_OTHERWISE = "+agent.members.actor={_target_: bbrl_exp.policies.random.RandomAgent, seed: 0}"
TD3 = ("agent=td3", "env=pendulum")
CRITIC = "agent.learner.critic"
MEMORY = "{_target_: bbrl_exp.policies.recurrent.MemoryCritic}"
OWN_MEMORY = "{_target_: bbrl_exp.policies.recurrent.MemoryCritic, observation_prefix: normalized/}"
LONG = "x" * 5000
DEEP = ".".join(["a"] * 3000)
PRINTER = "_target_: bbrl_exp.agents.tools.PrintAgent"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["batchsize=3"], ["'batchsize'", "did you mean 'batch_size'"]),
        (["+batchsize=3"], ["'batchsize'", "did you mean 'batch_size'"]),
        (["agent=dqn", "policy.dueling=true"], ["did you mean 'agent.members.policy.dueling'?"]),
        (["agent=ppo", "learner.discount=0.9"], ["did you mean 'agent.learner.discount'?"]),
        (
            ["agent=ppo", "agent.learner.critic=null"],
            ["'agent.learner.critic' = null: must be a node with a _target_ (PPO)"],
        ),
        (["env.idd=x"], ["'env.idd'", "did you mean 'id'"]),
        (["agent.members.policy.sed=1"], ["did you mean 'seed'"]),
        (["+agent.members.policy.sed=1"], ["did you mean 'seed'"]),
        (["agent.members.policy.seed=abc"], ["'agent.members.policy.seed' = 'abc'", "an integer"]),
        (["agent=mlp", "agent.members.policy.hidden_sizes=64"], ["hidden_sizes' = 64", "a list"]),
        (["agent=mlp", "agent.members.policy.hidden_sizes=[0]"], ["'agent.members.policy.hidden_sizes' = [0]"]),
        (["agent=mlp", "agent.members.policy.activation=foo"], ["activation' = 'foo'", "tanh"]),
        (
            ["experiment=ppo_cartpole", "agent=dqn"],
            ["DQN has no parameter 'trace_decay'", "; experiment=ppo_cartpole is made for agent=ppo, and its settings"],
        ),
        (
            ["experiment=sac_pendulum", "agent=ddpg", "env=cartpole"],
            ["'agent.learner'", "; experiment=sac_pendulum is made for agent=sac and env=pendulum, and its settings"],
        ),
        (["batch_size=0"], ["'batch_size' = 0", "at least 1"]),
        (["batch_size=-1"], ["'batch_size' = -1"]),
        (["batch_size=2.5"], ["'batch_size' = 2.5"]),
        (
            ["total_steps=1e5"],
            ["'total_steps' = 100000.0: must be an integer from 1 to 1", ", written 100_000"],
        ),
        (
            ["agent=ppo", "agent.learner.n_minibatches=1025"],
            ["'agent.learner.n_minibatches' = 1025: a chunk has 1024 samples; must be at most 1024"],
        ),
        (["batch_size=nan"], ["'batch_size' = nan"]),
        (["batch_size="], ["'batch_size' = ''"]),
        (["env.agent.batch_size=3"], ["'env.agent.batch_size' = 3", "batch_size, 8"]),
        (["total_steps=0"], ["'total_steps' = 0"]),
        (["num_threads=0"], ["'num_threads' = 0"]),
        ([f"num_threads={2**63}"], ["'num_threads' = 9223372036854775808: must be an integer from 1 to 4096"]),
        ([f"total_steps={10**30}"], ["'total_steps' = 1000000000000000000000000000000: must be an integer from 1 to"]),
        ([f"batch_size={2**63}"], ["'batch_size' = 9223372036854775808", "of memory are there"]),
        ([f"agent.steps_per_chunk={2**63}"], ["'agent.steps_per_chunk' = 9223372036854775808", "of memory are there"]),
        ([f"eval.episodes={2**63}"], ["'eval.episodes' = 9223372036854775808: must be an integer from 1 to 100000"]),
        ([f"eval.final_episodes={10**30}"], ["'eval.final_episodes' = 1", "null or an integer from 0 to 100000"]),
        (["seed=x"], ["'seed' = 'x'"]),
        (["agent=random,mlp"], ["'agent' = random,mlp", "-m"]),
        (["seed=1,2"], ["'seed' = 1,2", "-m"]),
        (["agent=randm"], ["'agent' = 'randm'", "did you mean 'random'", "constant, "]),
        (["env=cartpol"], ["'env' = 'cartpol'", "did you mean 'cartpole'"]),
        (["env=gym"], ["'env.id' = '???'"]),
        (["env=gym", "env.id=CartPol-v1"], ["'env.id' = 'CartPol-v1'", "did you mean 'CartPole-v1'"]),
        (["env.id=os:system"], ["'env.id' = 'os:system'"]),
        (["agent.members.policy._target_=bbrl_exp.policies.random.RandmAgent"], ["did you mean 'RandomAgent'"]),
        (["agent.members.policy._target_=os.system"], ["'os.system'", "not allowed", "bbrl_exp"]),
        (["agent.members.policy._target_=torch.nn.ReLU"], ["must be an Agent"]),
        (["~agent.members.policy._target_"], ["'agent.members.policy' has no _target_"]),
        (["+agent.members.polcy.seed=3"], ["'agent.members.polcy' has no _target_", "did you mean 'policy'"]),
        ([f"+agent.members.p={{{PRINTER}, names: [critic/value]}}"], ["reads 'critic/value'"]),
        (["~agent.members.policy"], ["reads 'action'"]),
        (
            ["agent=ppo", "learning_rate=1"],
            ["'learning_rate'", "did you mean 'agent.learner.learning_rate'?"],
        ),
        (["env.kwargs.gravity=1"], ["added with +: +env.kwargs.gravity=..."]),
        (
            ["agent=dqn", "agent.learner.batch_size=200", "agent.learner.replay_capacity=100"],
            ["'agent.learner.batch_size' = 200: no more than replay_capacity=100"],
        ),
        ([*TD3, "agent.learner.replay_capacity=100"], ["'agent.learner.batch_size' = 256: no more than", "=100"]),
        (["agent.members.policy.name=p"], ["added with +: +agent.members.policy.name=..."]),
        (["agent=ppo", "agent.learner.target_lk=1"], ["'agent.learner.target_lk'", "did you mean 'target_kl'"]),
        (["agent=ppo", "agent.learner.discount=1.5"], ["'agent.learner.discount' = 1.5: must be 0 to 1"]),
        (
            ["agent=ppo", "agent.learner.learning_rate=nan"],
            ["'agent.learner.learning_rate' = nan: must be above 0, and finite"],
        ),
        (["agent=recurrent_ppo", "agent.learner.discount=1.5"], ["'agent.learner.discount' = 1.5: must be 0 to 1"]),
        ([*TD3, "agent.learner.target_rate=7"], ["'agent.learner.target_rate' = 7: must be above 0, at most 1"]),
        ([*TD3, "agent.learner.learning_starts=-1"], ["'agent.learner.learning_starts' = -1: must be at least 0"]),
        (
            [*TD3, f"+{CRITIC}.observation_prefix=normalized/"],
            [f"'{CRITIC}': reads normalized/env/env_obs, and the policy"],
        ),
        ([*TD3, f"+{CRITIC}.dropout=0.1"], [f"'{CRITIC}.dropout' = 0.1: has no effect with TD3", "must be 0"]),
        (
            [*TD3, f"+{CRITIC}.normalization=batch"],
            [f"'{CRITIC}.normalization' = 'batch'", "must be 'none' or 'layer'"],
        ),
        ([*TD3, f"+{CRITIC}.n_quantiles=5"], [f"'{CRITIC}.n_quantiles' = 5: TD3 learns means", "must be 1"]),
        (
            ["agent=recurrent_a2c", "~agent.learner.critic", f"+agent.members.critic={MEMORY}"],
            ["'agent.learner': RecurrentA2C: critic: reads env/env_obs, and the policy normalized/env/env_obs; give"],
        ),
        (
            ["agent=recurrent_ppo", "~agent.learner.critic", f"+agent.learner.critic={OWN_MEMORY}"],
            ["RecurrentPPO reads 'critic/state', nobody writes it"],
        ),
        (
            ["agent=dqn", "agent.learner.n_steps=9", "agent.learner.replay_capacity=64"],
            ["'agent.learner.n_steps' = 9: replay_capacity=64 keeps 8 steps of each of 8 environments", "at most 8"],
        ),
        (["agent=dqn", "+agent.learner.reward=env/done"], ["'env/done': expected numbers [T, B], found [T, B] bool"]),
        (
            ["agent=ppo", "+agent.learner.kl_target=0.02"],
            ["'agent.learner.kl_target' = 0.02: has no effect", "='clip'"],
        ),
        (
            ["agent=ppo", "agent.learner.objective=kl", "agent.learner.clip_range=0.3"],
            ["'agent.learner.clip_range' = 0.3: has no effect with objective='kl'; must be null"],
        ),
        (
            ["agent=ppo", "agent.learner.objective=kl", "+agent.learner.anneal_clip_range=true"],
            ["'agent.learner.anneal_clip_range' = true: has no effect with objective='kl'; must be false"],
        ),
        (
            ["agent=reinforce", "agent.learner.critic=null", "agent.learner.value_weight=1"],
            ["'agent.learner.value_weight' = 1: has no effect with critic=null; must be null"],
        ),
        (
            ["agent=recurrent_ppo", "agent.learner.sequence_length=5", "agent.steps_per_chunk=16"],
            ["'agent.learner.sequence_length' = 5: does not divide the 16 steps of a chunk", "or null"],
        ),
        (
            ["agent=recurrent_dqn", "agent.learner.replay_capacity=20", "batch_size=2"],
            ["'agent.learner.replay_capacity' = 20: too few", "= 20 transitions in each of 2 ", "must be at least 39"],
        ),
        (
            ["agent=recurrent_dqn", "agent.learner.replay_capacity=1000", "batch_size=64"],
            ["'agent.learner.replay_capacity' = 1000: too few", "each of 64 environments; must be at least 1217"],
        ),
        (["device=cuda:99"], ["'device' = 'cuda:99'", "cpu"]),
        (["device=gpu"], ["'device' = 'gpu'", "cuda"]),
        (["a=b=c"], ["'a=b=c'", "key=value"]),
        (["batch_size=1000000000"], ["'batch_size' = 1000000000", "needs 5.", "TB", "of memory are there"]),
        (
            ["agent=dqn", "agent.learner.replay_capacity=1000000000000"],
            ["'agent.learner.replay_capacity' = 1000000000000", "TB", "of memory are there", "fewer transitions"],
        ),
        (["tracking.csv=5"], ["'tracking.csv' = 5", "true or false"]),
        (["name=../x"], ["'name' = '../x'"]),
        (["hydra.run.dirr=x"], ["'hydra.run.dirr'", "did you mean 'dir'"]),
        (["-m", "hydra.launcher._target_=os.getcwd"], ["'hydra.launcher._target_' = 'os.getcwd'", "basic or joblib"]),
        (["hydra.sweeper._target_=os.getcwd"], ["'hydra.sweeper._target_' = 'os.getcwd'", "basic"]),
        (["-m", "seed=1,2", "hydra.sweep.subdir=x"], ["'hydra.sweep.subdir' = 'x'"]),
        (["hydra/job_logging=default"], ["'hydra/job_logging'", "none"]),
        (["agent=[random,mlp]"], ["'agent' = ['random', 'mlp']", "constant, "]),
        (["agent=null"], ["'agent' = null", "constant, "]),
        (["-m", "agent=null", "seed=1,2"], ["'agent' = null"]),
        (["+agent.members.policy.after=[env]"], ["'agent.members.policy.after' = '['env']'", "no such member"]),
        (["+agent.members={1:{a:2}}"], ["'agent.members.1'", "must be a text"]),
        (["env.workers=9"], ["'env.workers' = 9", "at most batch_size, which is 8"]),
        (["seed=${nope}"], ["'seed': ", "'nope' not found"]),
        (["agent=ppo", "agent.learner.discount=${nope}"], ["'agent.learner.discount': ", "'nope' not found"]),
        (["seed=${seed}"], ["'seed': ", "Recursive"]),
        ([f"+{DEEP}=1"], ["nested too deeply"]),
        ([f"{DEEP}=1"], ["key 'a' is not known"]),
        ([f"~{DEEP}"], ["cannot be removed"]),
        ([f"init_from={LONG}"], ["'init_from' = 'xxx", "must be null or the folder of a run"]),
        (["init_from='a\ud800b'"], ["'init_from' = ", "must be null or the folder of a run"]),
        ([f"resume={LONG}"], ["'resume' = 'xxx", "must be auto, never or the folder of a run"]),
        ([f"hydra.run.dir={LONG}"], ["'hydra.run.dir' = ", "must be the path of a folder"]),
        ([f"hydra.run.dir=/{'x/' * 3000}"], ["'hydra.run.dir' = '/x/x", "must be the path of a folder"]),
        (["hydra.run.dir='a\ud800b'"], ["'hydra.run.dir' = ", "must be the path of a folder"]),
        (["hydra.run.dir=${oc.env:NOT_SET}"], ["'hydra.run.dir'", "'NOT_SET' not found"]),
        (["~hydra.run.dir"], ["'hydra.run.dir'"]),
        (["~hydra.run"], ["'hydra.run' = '???'"]),
        (["-m", "seed=1,2", f"hydra.sweep.dir={LONG}"], ["'hydra.sweep.dir' = ", "must be the path of a folder"]),
        ([f"hydra.searchpath=[{LONG}]"], ["'hydra.searchpath' = 'xxx", "a list of folders that exist"]),
        ([f"agent={LONG}"], ["too long"]),
        ([f"agent/{LONG}=1"], ["too long"]),
        (["~dry_run"], ["key 'dry_run' is missing"]),
        (["hydra=null"], ["key 'hydra' cannot be set"]),
        (["hydra.mode=${oc.env:HOME}"], ["'hydra.mode' = '${oc.env:HOME}': must be null or one of RUN, MULTIRUN"]),
        (["hydra.overrides.task=[env/env_obs]"], ["key 'hydra.overrides.task' cannot be set"]),
        (
            ["hydra.job.env_copy=[[1]]"],
            ["'hydra.job.env_copy' = [[1]]: must be left as it is; below hydra only run"],
        ),
        (["hydra.verbose=9223372036854775807"], ["'hydra.verbose' = 9223372036854775807: must be left as it is"]),
        (["name=multirun"], ["'name' = 'multirun'", "not multirun"]),
        (["env.info_keys={a: nothing}"], ["'env.info_keys': 'a' has dtype 'nothing'"]),
        (
            ["agent=constant", f"agent.members.policy.value={{_target_: {FILE}, path: x}}"],
            ["'agent.members.policy.value._target_'", "not allowed"],
        ),
        (
            ["agent=constant", "agent.members.policy.value={_target_: bbrl_exp.envs.make.EnvRecipe}"],
            ["'agent.members.policy.value._target_'", "must be an Agent or a torch.nn.Module"],
        ),
        (
            ["agent=constant", f"agent.members.policy.value={{_target_: {LINEAR}, in_features: -1, out_features: 2}}"],
            ["'agent.members.policy.value'", "negative dimension"],
        ),
        (["+env.wrappers.x=3"], ["'env.wrappers.x' has no _target_"]),
        (["+env.wrappers.x={_target_: torch.nn.ReLU}"], ["'env.wrappers.x._target_'", "must be a gymnasium.Wrapper"]),
        (["+env.wrappers.x={_target_: gymnasium.wrappers.RecordVideo}"], ["not allowed, it writes files"]),
        (["+env.wrappers.x={_target_: gymnasium.wrappers.HumanRendering}"], ["not allowed, it opens windows"]),
        (["env=masked_cartpole", "+env.wrappers.mask.after=env"], ["'env.wrappers.mask'", "no parameter 'after'"]),
        (["env=masked_cartpole", "env.wrappers.mask.hidden=[9]"], ["'env.wrappers.mask.hidden' = [9]: "]),
        (["+env.wrappers.x={_target_: users_own.LostStep}"], ["'env.agent': CartPole-v1 fails", "KeyError: 'lost'"]),
        (["agent.members.policy={_target_: users_own.OneAction}"], ["expect int64 [8], found int64 [1]"]),
        (["+agent.members.x={_target_: users_own.NeedsTwo}"], ["'agent.members.x'", "two environments"]),
        (["-m", "agent=random,mlp", "batch_size=0"], ["'batch_size' = 0"]),
        (["-m", "agent=randm,mpl"], ["'randm'", "'mpl'"]),
        (["agent.action_space=some"], ["'agent.action_space' = 'some'", "any, discrete, continuous"]),
        (["agent.learner=3"], ["'agent.learner' = 3", "null or a node"]),
        (["agent.learner={seed: 1}"], ["'agent.learner' has no _target_"]),
        (["agent.learner={_target_: os.system}"], ["'agent.learner._target_'", "not allowed"]),
        (["agent.learner={_target_: users_own.Doubler}"], ["'agent.learner._target_'", "must be a Learner"]),
        ([LEARNS, "agent.learner.step=x"], ["'agent.learner.step' = 'x'", "a number"]),
        ([LEARNS, "agent.learner.step=-1"], ["'agent.learner.step' = -1: above 0"]),
        ([LEARNS, "+agent.learner.stp=1"], ["Shifts has no parameter 'stp'", "did you mean 'step'"]),
        ([LEARNS, "agent.learner.reads=env/rewrd"], ["Shifts reads 'env/rewrd', nobody writes it; did you mean"]),
        ([LEARNS, "~agent.members.policy", NAMED_OTHERWISE], ["'agent.learner': Shifts needs policy"]),
        ([LEARNS, "agent.action_space=discrete", "env=pendulum"], ["needs one discrete action", "fit: ", "random"]),
        (
            [
                "agent=ppo",
                "+agent.members.history={_target_: users_own.History, after: env}",
                "+agent.members.policy.observation_prefix=history/",
                "+agent.learner.critic.observation_prefix=history/",
            ],
            ["'policy' reads 'history/env/env_obs' [8] and was made for [4]", "only a wrapper"],
        ),
        ([LEARNS, "agent.action_space=continuous"], ["needs one bounded box", "discrete of int64", "fit: ", "mlp"]),
        (["eval.every=-1"], ["'eval.every' = -1"]),
        (["eval.episodes=0"], ["'eval.episodes' = 0"]),
        (["eval.workers=2"], ["'eval.workers' = 2", "0 or 1"]),
        (["eval.evry=1"], ["'eval.evry'", "did you mean 'every'"]),
        (["init_from=nowhere"], ["'init_from' = 'nowhere'", "nowhere is not a run folder"]),
        (["tracking.metrics_every=0"], ["'tracking.metrics_every' = 0", "at least 1"]),
        (["--config-dir", "nowhere"], ["nowhere"]),
        (["--config-name", "nothing"], ["'nothing'"]),
    ],
    ids=lambda value: " ".join(value).encode("ascii", "backslashreplace").decode()[:100],
)
@pytest.mark.usefixtures("users_package")
def test_a_bad_input_is_one_line_and_leaves_nothing(
    arguments: list[str], parts: list[str], command_line: CommandLine, tmp_path: Path
) -> None:
    there = set(tmp_path.iterdir())
    ended = command_line(*arguments)
    assert ended.code == 2
    assert ended.out == ""
    assert ended.err.count("\n") == 1
    assert ended.err.startswith("error: ")
    for part in parts:
        assert part in ended.err
    assert set(tmp_path.iterdir()) == there


@pytest.mark.parametrize("multirun", [[], ["-m"]], ids=["run", "sweep"])
@pytest.mark.parametrize(
    ("yaml", "part"),
    [
        ("callbacks: {x: {_target_: os.mkdir, path: owned}}", "'hydra.callbacks'"),
        ("job_logging: {root: {handlers: [a]}, handlers: {a: {(): os.mkdir, path: owned}}}", "'hydra/job_logging'"),
        ("hydra_logging: {root: {handlers: [a]}, handlers: {a: {(): os.mkdir, path: owned}}}", "'hydra/hydra_logging'"),
        ("launcher: {_target_: os.getcwd}", "'hydra.launcher._target_'"),
        ("job: {env_set: {_target_: os.mkdir}}", "'hydra.job.env_set'"),
    ],
)
def test_what_stands_below_hydra_calls_nothing(
    yaml: str, part: str, multirun: list[str], command_line: CommandLine, tmp_path: Path
) -> None:
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "evil.yaml").write_text(f"# @package _global_\nhydra:\n  {yaml}\n")
    ended = command_line(*multirun, "--config-dir", "mine", "experiment=evil")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert part in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_the_help_of_hydra_calls_nothing(command_line: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "mine" / "hydra" / "hydra_logging").mkdir(parents=True)
    (tmp_path / "mine" / "hydra" / "hydra_logging" / "evil.yaml").write_text(
        "# @package hydra.hydra_logging\nversion: 1\nroot: {handlers: [a]}\n"
        "handlers: {a: {(): os.mkdir, path: owned}}\n"
    )
    ended = command_line("--hydra-help", "--config-dir", "mine", "hydra/hydra_logging=evil")
    assert ended.code == 0
    assert "Hydra" in ended.out
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_syntax_error_in_yaml_is_one_line_with_file_and_line(command_line: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "mine" / "agent").mkdir(parents=True)
    (tmp_path / "mine" / "agent" / "broken.yaml").write_text("members: {a: 1\nb: [\n")
    ended = command_line("--config-dir", "mine", "agent=broken")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "broken.yaml', line 2" in ended.err
    assert not (tmp_path / "outputs").exists()


def test_optimizer_options_that_cannot_step_here_are_refused(command_line: CommandLine) -> None:
    for option in ("differentiable", "capturable"):
        node = f"+agent.learner.optimizer={{_target_: torch.optim.AdamW, {option}: true}}"
        ended = command_line("name=x", "total_steps=64", "agent=ppo", "env=cartpole", node)
        message = f"AdamW with {option}=True cannot step here; leave it out"
        assert (ended.code, ended.err) == (2, f"error: key 'agent.learner.optimizer': {message}\n")
        assert not Path("outputs").exists()


def test_a_learner_that_contains_itself_is_refused(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "looped.py").write_text(
        "from bbrl_exp.learners.a2c import A2C\n\nclass Looped(A2C):\n    def __post_init__(self):\n"
        "        super().__post_init__()\n        self.other = self\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("BBRL_EXP_ALLOW", "looped")
    ended = command_line("agent=a2c", "env=cartpole", "total_steps=64", "agent.learner._target_=looped.Looped")
    assert (ended.code, ended.err) == (2, "error: Looped: a module in it contains itself\n")
