"""The programs of docs/use_a_policy.md run as the page says, outside the repository."""

import re
from pathlib import Path

from pages import Page, run, summary

from bbrl_exp.runs.policy import load_policy

PAGE = Page.read("use_a_policy.md")
SHORT = ("tracking=none", "eval.every=0", "eval.final_episodes=3")


def test_the_page_s_programs_play_with_the_policies_of_its_runs(tmp_path: Path) -> None:
    PAGE.write_files(tmp_path)
    train, play, batch, train_with_memory, pause = PAGE.commands
    run(tmp_path, train, *SHORT)
    assert summary(tmp_path, "balance")["status"] == "completed"
    returns = [float(word) for word in re.findall(r"return (\S+)\n", run(tmp_path, play).stdout)]
    assert len(returns) == 3
    assert min(returns) > 30  # a random policy keeps the pole up for 22 steps
    printed = re.fullmatch(r"(\d+) episodes, mean return (\S+)\n", run(tmp_path, batch).stdout)
    assert printed is not None
    assert int(printed[1]) >= 10
    assert float(printed[2]) > 30
    run(tmp_path, train_with_memory, *SHORT, "total_steps=512")
    resumed = re.fullmatch(r"after loading: (\[.*\]), without a break: (\[.*\])\n", run(tmp_path, pause).stdout)
    assert resumed is not None
    assert resumed[1] == resumed[2]
    assert load_policy(tmp_path / "outputs" / "swing").env_spec.env_id == "Pendulum-v1"
