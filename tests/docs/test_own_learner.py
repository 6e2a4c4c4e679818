"""The policy and the learner of docs/own_learner.md run as the page says, learn, and resume with the same bits."""

from pathlib import Path

from pages import Page, run, summary

PAGE = Page.read("own_learner.md")
SHORT = ("total_steps=12800", "eval.every=0", "eval.final_episodes=10", "tracking=none", "checkpoint.every=1280")


def returns(folder: Path, *options: str) -> list[float]:
    """The returns of the last policy of the page's command; none where the run is not over."""
    run(folder, PAGE.commands[0], *SHORT, *options)
    name = next(option.removeprefix("name=") for option in options if option.startswith("name="))
    return summary(folder, name)["eval_returns"] or []


def test_the_page_s_learner_learns_and_resumes_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    PAGE.write_files(tmp_path)
    straight = returns(tmp_path, "name=straight")
    assert sum(straight) / len(straight) > 100  # a random policy keeps the pole up for 22 steps
    assert returns(tmp_path, "name=stopped", "pause_after=6400") == []
    assert returns(tmp_path, "name=stopped") == straight
