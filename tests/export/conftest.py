"""What the tests of exported policies share."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _operators_are_collected_once() -> Iterator[None]:
    """The exporter of torch collects its operators again for each model, which takes as long as all the rest."""
    registration = pytest.importorskip("torch.onnx._internal.exporter._registration")
    with pytest.MonkeyPatch.context() as patch:
        registry = registration.ONNXRegistry
        patch.setattr(registry, "from_torchlib", staticmethod(functools.cache(registry.from_torchlib)))
        yield
