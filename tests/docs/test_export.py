"""The example of docs/export.md runs as the page says, outside the repository."""

import re
from pathlib import Path

import pytest
from pages import Page, run, summary

for _package in ("safetensors", "onnxscript", "onnxruntime", "imageio_ffmpeg"):
    pytest.importorskip(_package)

PAGE = Page.read("export.md")
SHORT = ("tracking=none", "eval.every=0", "eval.final_episodes=2", "total_steps=2048")


def test_the_page_s_policy_plays_without_bbrl_exp_and_comes_back_from_its_file(tmp_path: Path) -> None:
    PAGE.write_files(tmp_path)
    install, train, to_onnx, play, to_file, load, to_folder = PAGE.commands
    assert install == 'pip install "bbrl_exp[export,video]"\n'
    run(tmp_path, train, *SHORT)
    assert summary(tmp_path, "balance")["status"] == "completed"
    said = run(tmp_path, to_onnx).stdout.splitlines()
    assert re.fullmatch(r"ONNX: the policy's actions in all [\d,]+ steps of these episodes", said[1])
    assert said[2] == "exported policy.onnx"
    returns = re.findall(r"^return (\S+)$", run(tmp_path, play).stdout, re.MULTILINE)
    assert len(returns) == 3
    assert min(map(float, returns)) > 15  # it keeps the pole up for longer than one that falls to one side
    run(tmp_path, to_file)
    loaded = run(tmp_path, load).stdout.splitlines()
    assert re.fullmatch(r"action [01], return \S+", loaded[0])
    assert loaded[1] == f"recurrent_ppo, seed 0, returns {summary(tmp_path, 'balance')['eval_returns']}"
    assert to_folder == "bbrl-exp export outputs/balance --to hub\n"  # as tests/export/test_folders.py does
