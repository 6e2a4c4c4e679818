"""``null`` in the place of a member, a wrapper or a sink switches it off, as if it had never been there."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bbrl_exp.config.check import check
from bbrl_exp.config.compose import Composer, written
from bbrl_exp.config.identity import saved_identity
from bbrl_exp.config.options import default_config_dir
from bbrl_exp.config.preparation import prepare
from bbrl_exp.config.sweep_config import SweepConfig
from bbrl_exp.config.switched_off import switched_off, without_switched_off
from bbrl_exp.errors import BbrlExpError, ConfigurationError
from bbrl_exp.records.config import write_config

STACK = "{_target_: gymnasium.wrappers.FrameStackObservation, stack_size: 2}"
COPY = "{_target_: bbrl_exp.agents.tools.CopyTAgent, input_name: action, output_name: copied}"
MASKED = "experiment=ppo_masked_cartpole"


@pytest.fixture
def composer(tmp_path: Path) -> Iterator[Composer]:
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "without.yaml").write_text(
        "defaults: [recurrent_ppo, _self_]\nmembers: {observations: null}\n"
    )
    (tmp_path / "agent" / "again.yaml").write_text(
        "defaults: [without, _self_]\n"
        "members: {observations: {_target_: bbrl_exp.policies.normalize.NormalizeObservation, limit: 5.0}}\n"
    )
    with Composer(default_config_dir(), extra_dir=tmp_path) as found:
        yield found


def refusal(composer: Composer, *overrides: str) -> str:
    with pytest.raises(BbrlExpError) as caught, prepare(check(composer.compose(overrides))):
        pass
    return str(caught.value)


def test_only_nodes_of_members_wrappers_and_sinks_are_switched_off() -> None:
    config = {
        "agent": {
            "members": {"a": {"_target_": "x", "inner": None, "members": {"b": None}}, "c": None},
            "learner": None,
        },
        "env": {"wrappers": {"d": None}, "kwargs": {"wrappers": {"e": None}}},
        "tracking": {"sinks": {"f": None, "g": {"_target_": "y"}}},
    }
    assert list(switched_off(config)) == [
        "agent.members.c",
        "agent.members.a.members.b",
        "env.wrappers.d",
        "tracking.sinks.f",
    ]
    assert without_switched_off(config) == {
        "agent": {"members": {"a": {"_target_": "x", "inner": None, "members": {}}}, "learner": None},
        "env": {"wrappers": {}, "kwargs": {"wrappers": {"e": None}}},
        "tracking": {"sinks": {"g": {"_target_": "y"}}},
    }


@pytest.mark.parametrize(
    ("off", "gone"),
    [
        (["agent=ppo", f"+agent.members.copier={COPY}", "agent.members.copier=null"], ["agent=ppo"]),
        (["env=masked_cartpole", "env.wrappers.mask=null"], ["env=masked_cartpole", "~env.wrappers.mask"]),
        (["env=masked_cartpole", "env.wrappers.mask=null"], ["env=cartpole"]),
        (["+env.wrappers.stack=null"], []),
    ],
)
def test_what_is_off_is_the_same_run_as_without_it(composer: Composer, off: list[str], gone: list[str]) -> None:
    found, expected = (check(composer.compose(overrides)) for overrides in (off, gone))
    assert found.config == expected.config
    assert found.config_hash == expected.config_hash


def test_what_is_off_is_saved_as_it_is_written_and_resumes(composer: Composer, tmp_path: Path) -> None:
    run = check(composer.compose(["env=masked_cartpole", "env.wrappers.mask=null"]))
    assert run.written["env"]["wrappers"] == {"mask": None}
    write_config(tmp_path, run.written, run.hydra, run.overrides)
    assert saved_identity(tmp_path) == run.identity


def test_a_later_file_or_override_switches_on_again(composer: Composer) -> None:
    members = [written(composer.compose([f"agent={option}"]))["agent"]["members"] for option in ("without", "again")]
    assert [each["observations"] for each in members] == [
        None,
        {"_target_": "bbrl_exp.policies.normalize.NormalizeObservation", "limit": 5.0},
    ]
    overrides = ["env=masked_cartpole", "env.wrappers.mask=null", f"env.wrappers.mask={STACK}"]
    assert check(composer.compose(overrides)).config["env"]["wrappers"]["mask"]["stack_size"] == 2


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            [MASKED, "agent.members.observations=null"],
            "key 'agent.members.rewards.after' = 'observations': that member is switched off (null); "
            "members: env, policy",
        ),
        (
            [MASKED, "agent.members.rewards=null"],
            "PPO reads 'normalized/env/reward', nobody writes it; did you mean 'normalized/env/env_obs'?; "
            "switched off: agent.members.rewards",
        ),
        (
            ["agent=ppo", "agent.members.policy=null"],
            "key 'agent.learner': PPO needs policy; switched off: agent.members.policy",
        ),
        (
            ["agent=ppo", "agent.members.env=null"],
            "key 'agent.members': StochasticPolicy needs the facts of an environment, and no member is one; "
            "switched off: agent.members.env",
        ),
        (["env.agent=null"], "key 'env.agent' = null: must be a node with a _target_"),
        (
            ["env=masked_cartpole", "env.wrappers.msk=null"],
            "key 'env.wrappers.msk' = null: there is no such node to switch off; did you mean 'mask'? known: mask",
        ),
        (
            ["env.wrappers.stack=null"],
            "key 'env.wrappers.stack' = null: there is no such node to switch off; known: none",
        ),
        (
            ["env=masked_cartpole", "env.wrappers.mask=null", "env.wrappers.mask.hidden=[1]"],
            "key 'env.wrappers.mask.hidden': there are no keys below 'env.wrappers.mask', which is null; 'mask' is "
            "switched off, env.wrappers.mask={_target_: ...} switches it on",
        ),
        (
            ["agent=random", "agent.learner.discount=0.9"],
            "key 'agent.learner.discount': there are no keys below 'agent.learner', which is null",
        ),
        (
            [
                "agent=recurrent_ppo",
                "agent.members.rewards=null",
                "agent.learner.discount=${agent.members.rewards.discount}",
            ],
            "key 'agent.learner.discount': refers to 'agent.members.rewards.discount', and 'agent.members.rewards' is "
            "switched off (null); give it another value",
        ),
        (
            ["agent=recurrent_ppo", "agent.members.rewards=null", "seed=${agent.members.rewards.discount}"],
            "key 'seed': refers to 'agent.members.rewards.discount', and 'agent.members.rewards' is switched off "
            "(null); give it another value",
        ),
        (
            ["tracking.csv=true", "tracking.sinks.csv=null"],
            "key 'tracking.csv' = true: must be null or false with tracking.sinks.csv=null",
        ),
    ],
)
def test_what_cannot_be_off_is_refused_in_one_line(composer: Composer, overrides: list[str], message: str) -> None:
    assert refusal(composer, *overrides) == message


def test_the_plan_says_what_is_switched_off(composer: Composer) -> None:
    assert check(composer.compose(["env=masked_cartpole", "env.wrappers.mask=null"])).note == (
        "switched off: env.wrappers.mask"
    )


@pytest.mark.parametrize("values", [f"null,{STACK}", f"choice({STACK},null)"])
def test_a_sweep_over_null_and_a_new_node_needs_no_plus(composer: Composer, values: str) -> None:
    sweep = SweepConfig.of(composer, [f"env.wrappers.stack={values}"])
    assert [str(override.input_line) for override in sweep.typed] == [f"+env.wrappers.stack={values}"]
    sweep = SweepConfig.of(composer, ["env=masked_cartpole", f"env.wrappers.mask={values}"])
    assert [str(override.input_line) for override in sweep.typed] == [
        "env=masked_cartpole",
        f"env.wrappers.mask={values}",
    ]


def test_a_mistyped_name_in_a_sweep_is_refused(composer: Composer) -> None:
    with pytest.raises(ConfigurationError, match="no such node to switch off; did you mean 'mask'"):
        SweepConfig.of(composer, ["env=masked_cartpole", "env.wrappers.msk=null", "seed=1,2"])
