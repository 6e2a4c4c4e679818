"""A remote agent that dies, hangs or raises is named within seconds, and nothing outlives the run."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from remote_toys import Counts, Misbehaves

from bbrl_exp.agents import TemporalAgent
from bbrl_exp.agents.remote import AsynchronousAgent, NRemoteAgent, RemoteAgent
from bbrl_exp.errors import ConfigurationError, RemoteAgentError, UserCodeError
from bbrl_exp.workspace import Workspace


def remote_processes(parent=None):
    children = psutil.Process(parent).children(recursive=True)
    return [child for child in children if any("bbrl-remote-agent-" in part for part in child.cmdline())]


def gone(processes, seconds=5.0):
    return not psutil.wait_procs(processes, timeout=seconds)[1]


def test_what_an_agent_raises_there_comes_out_with_its_traceback():
    with pytest.raises(RemoteAgentError, match=r"(?s)remote agent 0 \(pid \d+\) raised.*in forward.*the toy broke"):
        RemoteAgent(TemporalAgent(Misbehaves("raise")))(Workspace(), t=0, n_steps=4)
    assert remote_processes() == []


def test_what_would_end_the_process_silently_is_an_error_that_names_the_agent_and_the_process():
    with pytest.raises(UserCodeError, match=r"^SystemExit: the toy leaves \(in Misbehaves, ") as raised:
        RemoteAgent(TemporalAgent(Misbehaves("exit")))(Workspace(), t=0, n_steps=4)
    assert raised.value.__notes__[0].startswith("in remote agent 0 (pid ")


def test_what_would_look_like_the_end_of_the_connection_is_an_error():
    with pytest.raises(RemoteAgentError, match=r"^remote agent 0 \(pid \d+\) raised EOFError: the toy has read all\n"):
        RemoteAgent(TemporalAgent(Misbehaves("end of file")))(Workspace(), t=0, n_steps=4)


def test_an_error_of_this_project_stays_what_it_is_and_a_note_names_the_process():
    with pytest.raises(ConfigurationError, match="the toy refuses") as raised:
        RemoteAgent(TemporalAgent(Misbehaves("refuse")))(Workspace(), t=0, n_steps=4)
    assert raised.value.__notes__[0].startswith("in remote agent 0 (pid ")


def test_a_killed_copy_is_named_at_once_and_the_others_are_ended():
    agent = NRemoteAgent(Counts(2), 2)
    agent.agent.batch_size = 2
    with pytest.raises(RemoteAgentError, match=r"copies of an agent share rows \[1, …\], copy 0 wrote \[2\]"):
        agent(Workspace(), t=0)
    processes = remote_processes()
    victim = next(p for p in processes if "bbrl-remote-agent-1" in p.cmdline())
    victim.send_signal(signal.SIGINT)  # signals to the whole group leave the decision to the parent
    victim.kill()
    began = time.monotonic()
    with pytest.raises(RemoteAgentError, match=rf"agent 1 \(pid {victim.pid}\) died: signal 9 \(SIGKILL\)"):
        agent(Workspace(), t=0)
    assert time.monotonic() - began < 5
    assert gone(processes)


def look_again_and_again(agent):
    while agent.is_running():
        time.sleep(0.05)


def test_a_stuck_agent_is_named_after_its_timeout_even_if_nobody_waits_for_it():
    agent = AsynchronousAgent(TemporalAgent(Misbehaves("hang")), timeout=1.0)
    agent(Workspace(), t=0, n_steps=4)
    processes = remote_processes()
    began = time.monotonic()
    with pytest.raises(RemoteAgentError, match=r"remote agent 0 .* is stuck: no answer for 1 s \(timeout\)"):
        look_again_and_again(agent)
    assert 0.5 < time.monotonic() - began < 10
    assert gone(processes)


PARENT = """
import sys
sys.path.insert(0, sys.argv[1])
from remote_toys import Misbehaves
from bbrl_exp.agents import TemporalAgent
from bbrl_exp.agents.remote import AsynchronousAgent
from bbrl_exp.workspace import Workspace
agent = AsynchronousAgent(TemporalAgent(Misbehaves("hang")))
agent(Workspace(), t=0, n_steps=4)
print("ready", flush=True)
agent.result()
"""


def test_remote_agents_go_when_their_parent_is_killed():
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(Path(__file__).parent)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout.readline() == "ready\n"
        processes = remote_processes(parent.pid)
        assert len(processes) == 1
        parent.kill()
    assert gone(processes)
