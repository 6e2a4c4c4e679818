"""The errors of bbrl_exp: one tree, each with the exit code that a run ends with.

Every message says what was asked, what was found and what is possible; a name that is nearly right is named.
"""

from __future__ import annotations

import contextlib
import difflib
import opcode
import os
import signal
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar


class BbrlExpError(Exception):
    """Root of the tree. ``exit_code`` is what ``bbrl-exp run`` exits with when the error ends a run."""

    exit_code: ClassVar[int] = 1


class ConfigurationError(BbrlExpError):
    """A configuration, an argument or an input that cannot be used; nothing has been made or changed."""

    exit_code = 2


class GraphError(ConfigurationError):
    """A graph of agents that cannot run: somebody reads what nobody writes."""


class WorkspaceError(BbrlExpError):
    """A read or a write that the workspace refuses."""


class WorkerError(BbrlExpError):
    """An environment worker died, was stuck, or raised."""


class RemoteAgentError(WorkerError):
    """An agent in another process died, was stuck, or raised."""


class UserCodeError(BbrlExpError):
    """User code raised what would have ended the process or a loop without a word, such as SystemExit."""


class DivergedError(BbrlExpError):
    """Non-finite values: the run has nothing more to learn."""

    exit_code = 3


class NonFiniteError(DivergedError):
    """A NaN or an infinity where only finite numbers are allowed.

    Args:
        variable: name of the workspace variable.
        environment: index in the batch of the environment concerned.
        t: time index in the workspace.
        value: what was found.
    """

    def __init__(self, variable: str, environment: int, t: int, value: object) -> None:
        super().__init__(f"non-finite value in '{variable}' from environment {environment} at t={t}: {value}")
        self.variable = variable
        self.environment = environment
        self.t = t
        self.value = value

    def __reduce__(self) -> tuple[type[NonFiniteError], tuple[str, int, int, object]]:
        return type(self), (self.variable, self.environment, self.t, self.value)


# What papers and other libraries call what has another name here.
_ALSO_CALLED: dict[str, tuple[str, ...]] = {
    "actor_lr": ("policy_learning_rate",),
    "alpha": ("initial_temperature", "priority_exponent"),
    "buffer_size": ("replay_capacity",),
    "clip": ("clip_range",),
    "clip_coef": ("clip_range",),
    "critic_lr": ("critic_learning_rate",),
    "ent_coef": ("entropy_weight", "initial_temperature"),
    "entropy_coef": ("entropy_weight", "initial_temperature"),
    "gae_lambda": ("trace_decay",),
    "gamma": ("discount",),
    "lam": ("trace_decay",),
    "lambda": ("trace_decay",),
    "lr": ("learning_rate", "policy_learning_rate"),
    "max_steps": ("total_steps",),
    "n_envs": ("batch_size",),
    "net_arch": ("hidden_sizes",),
    "num_envs": ("batch_size",),
    "polyak": ("target_rate",),
    "q_lr": ("critic_learning_rate",),
    "target_update_interval": ("target_period",),
    "tau": ("target_rate",),
    "total_timesteps": ("total_steps",),
    "train_freq": ("updates_per_step",),
    "update_epochs": ("n_epochs",),
    "vf_coef": ("value_weight",),
}


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error message: ``"; did you mean 'cartpole'?"``, or nothing where no known name is near.

    Near is what is written alike, and what papers and other libraries call ``name``: ``gamma`` is ``discount``.
    """
    names = list(known)
    also = [other for other in _ALSO_CALLED.get(name.lower(), ()) if other in names]
    near = also or difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""


@contextlib.contextmanager
def user_code(label: str) -> Iterator[None]:
    """Keeps user code from ending the process or a loop without a word.

        with user_code(f"environment {index} of {name}"):
            env.reset()

    Whatever :func:`ends_silently` becomes a :class:`UserCodeError`; every other exception passes.

    Args:
        label: whose code runs, for the message.

    Raises:
        UserCodeError: such as ``SystemExit: 3 (in environment 2 of Maze-v0, maze.py:12)``; a note on the exception
            takes the place of the label.
    """
    try:
        yield
    except BaseException as error:
        if ends_silently(error):
            raise user_code_error(error, f"in {label}, {innermost_place(error)}") from error
        raise


def user_code_error(error: BaseException, place: str) -> UserCodeError:
    """What an exception that :func:`ends_silently` becomes; ``place`` is used where the exception has no note."""
    where = [*getattr(error, "__notes__", ()), place][0]
    return UserCodeError(f"{described(error)} ({where})")


def ends_silently(error: BaseException) -> bool:
    """Whether user code raised what ends a process or a loop without a word.

    That is StopIteration, which ends generators, and everything that is not an ``Exception``: SystemExit,
    GeneratorExit, a KeyboardInterrupt that nobody typed. What a signal raises is not meant: Ctrl-C, or the program's
    own signal handlers.
    """
    if isinstance(error, Exception):
        return isinstance(error, StopIteration)
    handlers = {getattr(signal.getsignal(number), "__code__", None) for number in signal.valid_signals()}
    trace, is_raised = error.__traceback__, True
    while trace is not None:
        code = trace.tb_frame.f_code
        if code in handlers:
            return False
        is_raised = code.co_code[trace.tb_lasti] == opcode.opmap["RAISE_VARARGS"]
        trace = trace.tb_next
    # Python's own handler of Ctrl-C raises between two instructions of the innermost frame, which has no raise there.
    return is_raised or not isinstance(error, KeyboardInterrupt)


def is_of_user_code(error: BaseException) -> bool:
    """Whether an error may become a message: all that user code raises, but not a Ctrl-C that somebody typed."""
    return isinstance(error, Exception) or ends_silently(error)


def innermost_place(error: BaseException) -> str:
    """The innermost line outside the standard library: ``"maze.py:12"``."""
    library = str(Path(os.__file__).parent)
    lines = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if "site-packages" in frame.f_code.co_filename or not frame.f_code.co_filename.startswith((library, "<frozen"))
    ]
    return f"{Path(lines[-1][0]).name}:{lines[-1][1]}"


def described(error: BaseException) -> str:
    """``"ValueError: message"`` on one line, whatever the message is: empty, not to be had or not to be encoded."""
    kind = type(error).__name__
    try:
        message = " ".join(str(error).split()).encode("utf-8", "backslashreplace").decode()
    except Exception:
        message = "(its message cannot be printed)"
    return f"{kind}: {message}" if message else kind
