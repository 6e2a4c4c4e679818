"""A policy as an ONNX model: written by torch's exporter, run by onnxruntime."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bbrl_exp.errors import ConfigurationError, described
from bbrl_exp.export.step import PolicyStep
from bbrl_exp.extras import module_of_extra
from bbrl_exp.records.files import strict_json
from bbrl_exp.runs.policy import SavedRun
from bbrl_exp.training.policy_file import CARD

SUFFIX = ".onnx"
BATCH = "batch"
_WHAT = f"a file {SUFFIX}"
_ROWS = 2  # of the examples: a batch of one would be taken for a constant


class OnnxModel:
    """The model of a policy.

    Args:
        saved: the policy.

    Attributes:
        step: what the model was made from.
        has_batches: whether the size of the batch is free; else it is 1, as an agent depends on it.

    Raises:
        ConfigurationError: the extra is missing, or the policy cannot be exported.
    """

    def __init__(self, saved: SavedRun) -> None:
        for module in ("onnxscript", "onnx", "onnxruntime"):
            module_of_extra(module, "export", _WHAT)
        self.step = PolicyStep(saved, _ROWS)
        self._model = _exported(self.step)
        self.has_batches = _has_free_batches(self._model)
        if not self.has_batches:
            self.step = PolicyStep(saved, 1)
            self._model = _exported(self.step)
        self._session = self._new_session()

    @property
    def facts(self) -> dict[str, Any]:
        """Inputs and outputs by name, dtype and shape of each, and the size of the batch: ``"any"`` or 1."""
        ports = {"inputs": self._session.get_inputs(), "outputs": self._session.get_outputs()}
        found = {kind: {port.name: [port.type, port.shape] for port in each} for kind, each in ports.items()}
        return {**found, "batch": "any" if self.has_batches else 1}

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The outputs for inputs ``[B, …]``."""
        if self.has_batches:
            rows = [inputs]
        else:
            size = len(next(iter(inputs.values())))
            rows = [{name: value[i : i + 1] for name, value in inputs.items()} for i in range(size)]
        found = [self._session.run(None, dict(row)) for row in rows]
        return {
            name: np.concatenate(parts) for name, parts in zip(self.step.outputs, zip(*found, strict=True), strict=True)
        }

    def as_bytes(self, card: Mapping[str, Any]) -> bytes:
        """The file, with a card as JSON in its metadata."""
        del self._model.metadata_props[:]
        entry = self._model.metadata_props.add()
        entry.key, entry.value = CARD, strict_json(card)
        contents: bytes = self._model.SerializeToString()
        return contents

    def _new_session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            return onnxruntime.InferenceSession(self.as_bytes({}), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ConfigurationError(f"the policy cannot be exported to ONNX: {described(error)}") from error


def _exported(step: PolicyStep) -> Any:
    """The model, in which the first dimension of all inputs and outputs is called ``batch`` where it is free."""
    names = tuple(step.inputs)
    free = tuple({0: torch.export.Dim.AUTO} for _ in names)
    try:
        with _quiet():
            program = torch.onnx.export(
                step.eval(),
                tuple(step.inputs.values()),
                input_names=names,
                output_names=step.outputs,
                dynamic_shapes=(free,) if step.observations[0].example.shape[0] > 1 else None,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:
        raise ConfigurationError(f"the policy cannot be exported to ONNX: {_reason(error)}") from error
    assert program is not None
    model = program.model_proto
    for port in (*model.graph.input, *model.graph.output):
        first = port.type.tensor_type.shape.dim[0]
        if first.dim_param:
            first.dim_param = BATCH
    return model


def _has_free_batches(model: Any) -> bool:
    return all(port.type.tensor_type.shape.dim[0].dim_param for port in (*model.graph.input, *model.graph.output))


def _reason(error: BaseException) -> str:
    """The first line of the innermost error: those around it repeat it in a report of pages."""
    while (cause := error.__cause__) is not None:
        error = cause
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What the exporter says of packages that it does without is not for users."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
