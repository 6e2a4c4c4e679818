"""Agents for remote processes: some count, some learn, some misbehave."""

from __future__ import annotations

import random
import sys
import time

import numpy as np
import torch

from bbrl_exp.agents import Agent
from bbrl_exp.errors import ConfigurationError


class Counts(Agent):
    """Writes ``n``, ``[B]``: how often it was called; its count is what a run needs to go on."""

    def __init__(self, batch_size=1):
        super().__init__()
        self.batch_size = batch_size
        self.n_calls = 0

    def forward(self, t, **kwargs):
        self.n_calls += 1
        self.set(("n", t), torch.full((self.batch_size,), self.n_calls))

    def run_state(self):
        return {"n_calls": self.n_calls}

    def load_run_state(self, state):
        self.n_calls = state["n_calls"]


class AddsUp(Agent):
    """Writes ``sum``: that of ``n`` over all rows so far, from its last row; and removes ``old``, if there is one."""

    def forward(self, t, **kwargs):
        before = self.get(("sum", t - 1)) if t else 0
        self.set(("sum", t), before + self.get(("n", t)))
        if "old" in self.workspace:
            self.workspace.remove_variable("old")


class LooksBack(Agent):
    """Does ``what`` with the first row of ``n``, wherever it is called."""

    def __init__(self, what):
        super().__init__()
        self.what = what

    def forward(self, t, **kwargs):
        if self.what == "read":
            self.get(("n", 0))
        elif self.what == "read all":
            self.get("n")
        elif self.what == "write":
            self.set(("n", 0), torch.zeros(1, dtype=torch.int64))
        elif self.what == "cut":
            self.workspace.truncate(0)
        elif self.what == "replace":
            self.workspace.remove_variable("n")
            self.set(("n", 0), torch.ones(1))
        elif self.what == "keep":
            self.workspace.copy_n_last_steps(1)


class KeepsMean(Agent):
    """A statistic of what it sees: the mean of ``x``."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, t, **kwargs):
        self.mean.copy_(self.get(("x", t)).mean())
        self.set(("mean", t), self.mean.expand(len(self.get(("x", t)))))


class Blinks(Agent):
    """Writes ``stop``, ``[B]``: true at t > 0 where t is a multiple of the element's period."""

    def __init__(self, periods):
        super().__init__()
        self.register_buffer("periods", torch.tensor(periods), persistent=False)

    def take_slice(self, part):
        self.periods = self.periods[part.first : part.first + part.count]

    def forward(self, t, **kwargs):
        self.set(("stop", t), (t % self.periods == 0) & (t > 0))


class DrawsAlone(Agent):
    """Has a generator of its own, and nothing that says how its numbers are divided."""

    def __init__(self):
        super().__init__()
        self.generator = torch.Generator()

    def forward(self, t, **kwargs):
        self.set(("drawn", t), torch.rand(2, generator=self.generator))


class DrawsGlobally(Agent):
    """Draws from the global generators."""

    def forward(self, t, **kwargs):
        self.set(("drawn", t), torch.tensor([random.random(), np.random.random(), torch.rand(()).item()]))


class Misbehaves(Agent):
    """Does something wrong at t = 2."""

    def __init__(self, wrong):
        super().__init__()
        self.wrong = wrong

    def forward(self, t, **kwargs):
        self.set(("row", t), torch.zeros(2))
        if t == 2 and self.wrong == "raise":
            raise RuntimeError("the toy broke")
        if t == 2 and self.wrong == "refuse":
            raise ConfigurationError("the toy refuses")
        if t == 2 and self.wrong == "exit":
            sys.exit("the toy leaves")
        if t == 2 and self.wrong == "end of file":
            raise EOFError("the toy has read all")
        if t == 2 and self.wrong == "hang":
            time.sleep(600)
