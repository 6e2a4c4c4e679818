"""An environment worker: ``python -m bbrl_exp.envs.worker bbrl-env-worker-<i> <socket> <parent> <bound> <memory>``.

It runs the scalar kernel on its slice of the batch and does not import torch. It ends when it is asked to, and when
its parent dies in whatever way.
"""

from __future__ import annotations

import os
import pickle
import socket
import sys

from bbrl_exp.envs.make import make_envs
from bbrl_exp.envs.scalar import ScalarKernel
from bbrl_exp.envs.worker_protocol import FORGET, LOAD, RESET, SEED, STATE, STEP, WorkerSetup, shared_arrays
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.processes.child import serve
from bbrl_exp.processes.messages import DONE, LEAVE, receive, send
from bbrl_exp.seeding import seed_global_generators, untouched_global_generators


def step_environments(connection: socket.socket, content: bytes, memory: int) -> None:
    """Does what the parent asks for, until it says to leave.

    Args:
        connection: to the parent.
        content: a pickled :class:`~bbrl_exp.envs.worker_protocol.WorkerSetup`.
        memory: descriptor of the shared arrays.
    """
    setup: WorkerSetup = pickle.loads(content)
    end = setup.first + setup.count
    time, *arrays = shared_arrays(memory, setup.layout)
    os.close(memory)
    actions = [array[setup.first : end] for array in arrays[: setup.n_actions]]
    rows = [array[setup.first : end] for array in arrays[setup.n_actions :]]
    stream = setup.batch.role, "worker", setup.batch.first + setup.first
    seed_global_generators(setup.batch.seed, *stream)
    envs = make_envs(setup.batch.recipe, setup.count, setup.first)
    seed_global_generators(setup.batch.seed, *stream, "episodes")  # once more: the environments may have imported torch
    kernel = ScalarKernel(envs, setup.batch, setup.first)
    found = (envs[0].observation_space, envs[0].action_space)
    if found != setup.spaces:
        raise ConfigurationError(f"environment {setup.first} has spaces {found}; the first one made has {setup.spaces}")
    send(connection, DONE)
    while True:
        kind, content = receive(connection)
        if kind == STEP:
            kernel.step(int(time[0]), actions, rows)
        elif kind == RESET:
            kernel.reset(int(time[0]), rows)
        elif kind == SEED:
            kernel.seed(int(content))
            seed_global_generators(int(content), *stream, "episodes")
        elif kind == LOAD:
            with untouched_global_generators():
                kernel.load_state(pickle.loads(content))
        elif kind == FORGET:
            kernel.forget_actions()
        elif kind == LEAVE:
            kernel.close()
            return
        send(connection, DONE, pickle.dumps(kernel.state()) if kind == STATE else b"")


if __name__ == "__main__":
    serve(sys.argv[1:], step_environments)
