"""Operators by onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
import onnxruntime

from npuvm.runtime.host.provider import HostError, HostProvider, HostValue, host_value

__all__ = ["OnnxruntimeProvider"]

_IR_VERSION = 10
"""A version of the file format that every onnxruntime since 1.18 reads; one operator needs nothing of a later one."""


class OnnxruntimeProvider:
    """Onnxruntime on the CPU, one session an operator. What it cannot load goes to `otherwise`, or is a HostError."""

    name = "onnxruntime"

    def __init__(self, otherwise: HostProvider | None = None) -> None:
        self._otherwise = otherwise
        self._kept: dict[bytes, Any] = {}
        self._errors = (
            onnxruntime.capi.onnxruntime_pybind11_state.Fail,
            onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument,
            onnxruntime.capi.onnxruntime_pybind11_state.InvalidGraph,
            onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented,
            onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException,
        )

    def run(self, node: bytes, inputs: Sequence[HostValue | None]) -> list[HostValue]:
        """See `HostProvider.run`."""
        session = self._session(node)
        if session is None:
            assert self._otherwise is not None
            return self._otherwise.run(node, inputs)
        feeds = {f"i{at}": each for at, each in enumerate(inputs) if each is not None}
        try:
            return [host_value(each) for each in session.run(None, feeds)]
        except self._errors as error:
            raise HostError(f"onnxruntime cannot run it: {' '.join(str(error).split())}") from None
        except RuntimeError as error:  # arrays of a dtype that its Python binding does not have
            if self._otherwise is None:
                raise HostError(f"onnxruntime cannot run it: {' '.join(str(error).split())}") from None
            self._kept[node] = None
            return self._otherwise.run(node, inputs)

    def _session(self, node: bytes) -> Any:
        """The session of an operator; None where the other provider has to run it."""
        if node not in self._kept:
            model = onnx.load_from_string(node)
            model.ir_version = min(model.ir_version, _IR_VERSION)
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 4
            # Sizes of inputs are named in the model for reading only; onnxruntime would warn where they differ.
            for info in (*model.graph.input, *model.graph.output):
                if info.type.HasField("tensor_type"):
                    info.type.tensor_type.ClearField("shape")
            try:
                made = onnxruntime.InferenceSession(
                    model.SerializeToString(), options, providers=["CPUExecutionProvider"]
                )
            except self._errors as error:
                if self._otherwise is None:
                    raise HostError(f"onnxruntime cannot load it: {' '.join(str(error).split())}") from None
                made = None
            self._kept[node] = made
        return self._kept[node]
