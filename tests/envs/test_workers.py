"""Workers that die, hang or raise are named, and nothing is left behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from toy_envs import Counting, Misbehaving, ShowsTorch

from bbrl_exp.envs import AutoResetGymAgent
from bbrl_exp.errors import BbrlExpError, ConfigurationError, WorkerError
from bbrl_exp.workspace import Workspace


def worker_processes(parent=None):
    children = psutil.Process(parent).children(recursive=True)
    return [child for child in children if any("bbrl-env-worker-" in part for part in child.cmdline())]


def unroll(agent, n_steps):
    workspace = Workspace()
    for t in range(n_steps):
        agent(workspace, t=t)
        workspace.set("action", t, torch.zeros(agent.batch_size, dtype=torch.int64))
    return workspace


def gone(processes, seconds=5.0):
    return not psutil.wait_procs(processes, timeout=seconds)[1]


def test_several_environments_live_in_each_worker_and_all_go_when_closed():
    gc.collect()  # what other tests have left is not to be counted
    n_files = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    agent = AutoResetGymAgent(Counting, 5, workers=2)
    processes = worker_processes()
    assert sorted(part for p in processes for part in p.cmdline() if "bbrl-env-worker-" in part) == [
        "bbrl-env-worker-0",
        "bbrl-env-worker-1",
    ]
    assert unroll(agent, 3)["env/env_obs"][:, 4].flatten().tolist() == [0, 1, 2]
    agent.close()
    agent.close()
    assert gone(processes)
    with pytest.raises(BbrlExpError, match="closed"):
        agent(Workspace(), t=0)
    del agent
    gc.collect()
    if n_files:
        assert len(os.listdir("/proc/self/fd")) == n_files


def test_workers_go_with_the_agent_that_nobody_closed():
    agent = AutoResetGymAgent(Counting, 1, workers=1)
    processes = worker_processes()
    del agent
    gc.collect()
    assert gone(processes)


def test_a_worker_does_not_import_torch():
    agent = AutoResetGymAgent(ShowsTorch, 1, workers=1)
    assert unroll(agent, 2)["env/env_obs"].flatten().tolist() == [0, 0]
    agent.close()


def test_a_killed_worker_is_named_at_once_and_the_others_are_ended():
    agent = AutoResetGymAgent(Counting, 2, workers=2)
    workspace = unroll(agent, 2)
    processes = worker_processes()
    victim = next(p for p in processes if "bbrl-env-worker-1" in p.cmdline())
    victim.kill()
    began = time.monotonic()
    with pytest.raises(WorkerError, match=rf"worker 1 \(pid {victim.pid}\) died: signal 9 \(SIGKILL\)"):
        agent(workspace, t=2)
    assert time.monotonic() - began < 5
    assert gone(processes)


def test_a_worker_that_leaves_by_itself_is_named_with_its_exit_code():
    agent = AutoResetGymAgent(Misbehaving, 1, workers=1, kwargs={"wrong": "exit"})
    with pytest.raises(WorkerError, match=r"worker 0 .* died: exit code 7"):
        unroll(agent, 3)


def test_a_stuck_worker_is_named_after_the_timeout_and_killed():
    agent = AutoResetGymAgent(Misbehaving, 1, workers=1, worker_timeout=0.5, kwargs={"wrong": "hang"})
    processes = worker_processes()
    began = time.monotonic()
    with pytest.raises(WorkerError, match=r"worker 0 .* is stuck: no answer for 0\.5 s"):
        unroll(agent, 3)
    assert time.monotonic() - began < 5
    assert gone(processes)


def test_what_an_environment_raises_in_a_worker_comes_out_with_its_traceback():
    agent = AutoResetGymAgent(Misbehaving, 2, workers=1, kwargs={"wrong": "raise"})
    with pytest.raises(WorkerError, match=r"(?s)worker 0 \(pid \d+\) raised.*the toy broke.*environment 0, .* t=2"):
        unroll(agent, 3)
    assert worker_processes() == []


def test_an_environment_that_cannot_be_made_in_a_worker_leaves_none():
    made_here = os.getpid()

    def only_in_this_process():
        if os.getpid() != made_here:
            raise ConfigurationError("not in a worker")
        return Counting()

    with pytest.raises(ConfigurationError, match="not in a worker"):
        AutoResetGymAgent(only_in_this_process, 2, workers=2)
    assert worker_processes() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_group_leaves_the_decision_to_the_parent(number):
    agent = AutoResetGymAgent(Counting, 1, workers=1)
    workspace = unroll(agent, 1)
    worker_processes()[0].send_signal(number)
    agent(workspace, t=1)
    agent.close()


PARENT = """
import sys
sys.path.insert(0, sys.argv[1])
import torch, time
from toy_envs import Misbehaving
from bbrl_exp.envs import AutoResetGymAgent
from bbrl_exp.workspace import Workspace
agent = AutoResetGymAgent(Misbehaving, 2, workers=2, kwargs={"wrong": sys.argv[2]})
workspace = Workspace()
for t in range(2):
    agent(workspace, t=t)
    workspace.set("action", t, torch.zeros(2, dtype=torch.int64))
print("ready", flush=True)
agent(workspace, t=2)
time.sleep(600)
"""


@pytest.mark.parametrize("doing", ["nothing", "hang"])
def test_workers_go_when_their_parent_is_killed(doing):
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(Path(__file__).parent), doing], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout.readline() == "ready\n"
        time.sleep(0.2)
        processes = worker_processes(parent.pid)
        assert len(processes) == 2
        parent.kill()
    assert gone(processes)
