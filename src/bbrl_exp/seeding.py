"""One root seed, many named independent streams of random numbers.

A stream is named by a path of words and small integers, ``("train", 3, 17)``. Its numbers come from
``numpy.random.SeedSequence(entropy=seed, spawn_key=path)``, so that two seeds, or two paths, never share a stream and
the stream of environment 3 depends neither on the batch size nor on the process that it lives in. Episodes have seeds
of fewer bits: see :class:`EpisodeSeeds`.
"""

from __future__ import annotations

import contextlib
import random
import sys
import zlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bbrl_exp.errors import ConfigurationError

if TYPE_CHECKING:
    import torch

_ENVIRONMENTS_PER_GROUP = 2**10
_EPISODES_PER_BLOCK = 2**20
_ROUNDS = 4


def _sequence(seed: int, path: tuple[str | int, ...]) -> np.random.SeedSequence:
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ConfigurationError(f"seed={seed!r}: a seed is an integer of 0 or more")
    key = tuple(zlib.crc32(part.encode()) if isinstance(part, str) else int(part) for part in path)
    return np.random.SeedSequence(entropy=int(seed), spawn_key=key)


def stream_seed(seed: int, *path: str | int) -> int:
    """An integer seed in [0, 2**63) for the stream ``path`` of the root ``seed``.

    Raises:
        ConfigurationError: ``seed`` is not an integer of 0 or more.
    """
    return int(_sequence(seed, path).generate_state(1, np.uint64)[0] >> np.uint64(1))


def numpy_generator(seed: int, *path: str | int) -> np.random.Generator:
    """A numpy generator for the stream ``path`` of the root ``seed``."""
    return np.random.Generator(np.random.PCG64(_sequence(seed, path)))


def torch_generator(seed: int, *path: str | int, device: str | torch.device = "cpu") -> torch.Generator:
    """A torch generator on ``device`` for the stream ``path`` of the root ``seed``."""
    import torch

    return torch.Generator(device=device).manual_seed(stream_seed(seed, *path))


def seed_global_generators(seed: int, *path: str | int) -> None:
    """Seeds the global generators from the stream ``path`` of the root ``seed``.

    These are those of ``random``, numpy and, where it has been imported, torch (CPU and CUDA).
    """
    random.seed(stream_seed(seed, *path, "global", "random"))
    np.random.seed(stream_seed(seed, *path, "global", "numpy") % 2**32)
    if "torch" in sys.modules:
        import torch

        torch.manual_seed(stream_seed(seed, *path, "global", "torch"))


def global_generator_states() -> dict[str, Any]:
    """Where the global generators of ``random``, numpy and torch (CPU and CUDA) are, as tensors and plain Python."""
    import torch

    name, keys, position, has_gauss, cached_gaussian = np.random.get_state()
    return {
        "random": random.getstate(),
        "numpy": (str(name), torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached_gaussian),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def load_global_generator_states(states: Mapping[str, Any]) -> None:
    """Puts the global generators to where :func:`global_generator_states` found them."""
    import torch

    version, numbers, gaussian = states["random"]
    random.setstate((version, tuple(numbers), gaussian))
    name, keys, position, has_gauss, cached_gaussian = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached_gaussian))
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])


@contextlib.contextmanager
def untouched_global_generators() -> Iterator[None]:
    """Puts the global generators back to where they were before the block, those of :func:`seed_global_generators`."""
    with contextlib.ExitStack() as afterwards:
        afterwards.callback(random.setstate, random.getstate())
        afterwards.callback(np.random.set_state, np.random.get_state())
        if "torch" in sys.modules:
            import torch

            afterwards.enter_context(torch.random.fork_rng(range(torch.cuda.device_count())))
        yield


class EpisodeSeeds:
    """The seeds with which one environment is reset, one per episode: numbers of 31 bits.

    Code that seeds ``np.random.RandomState`` takes no longer ones. Random numbers of so few bits would soon repeat
    themselves: of 55,000, two are equal as a rule. Instead, (environment, episode) is an index of 30 bits, and a
    permutation of all such indexes, chosen by the root seed and the role, makes the seed of it. Within a role of a run,
    the first 2**20 episodes of the first 1,024 environments therefore have different seeds; beyond them, other
    permutations follow. The 31st bit keeps training apart from every other role, whatever the root seeds. Other pairs
    share a seed with the probability of 2**-30.

    Args:
        seed: the root seed.
        role: what the environment is for, ``"train"``, ``"eval"``, …; each has its own seeds.
        environment: index of the environment in its batch.
    """

    def __init__(self, seed: int, role: str, environment: int) -> None:
        self._seed = seed
        group, index = divmod(environment, _ENVIRONMENTS_PER_GROUP)
        self._path = (role, "episodes", group)
        self._index = index * _EPISODES_PER_BLOCK
        self._half = 0 if role == "train" else 2**30
        self._block = -1
        self._keys: list[int] = []

    def __call__(self, episode: int) -> int:
        """The seed in [0, 2**31) of episode number ``episode``, counted from 0."""
        block, offset = divmod(episode, _EPISODES_PER_BLOCK)
        if block != self._block:
            self._keys = _sequence(self._seed, (*self._path, block)).generate_state(_ROUNDS).tolist()
            self._block = block
        # A Feistel network (Luby and Rackoff, 1988): a permutation, whatever the function of ``right`` is.
        left, right = divmod(self._index + offset, 2**15)
        for key in self._keys:
            mixed = (right ^ key) * 0x9E3779B1 & 0xFFFFFFFF
            mixed = (mixed ^ mixed >> 15) * 0x85EBCA77 & 0xFFFFFFFF
            left, right = right, left ^ mixed >> 17
        return self._half | left << 15 | right
