"""What runs single operators on the host, and which provider is there."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Protocol, TypeAlias

import numpy as np

from npuvm.hw.errors import DeviceError

__all__ = ["HostError", "HostProvider", "HostValue", "default_provider", "host_value"]

HostValue: TypeAlias = Any
"""What operators of the host take and give: an array of numpy; a sequence is a list of them, which only other operators of the
host take."""


def host_value(made: object) -> HostValue:
    """What an evaluator gives: an array, also where that is a number, or a list as it is."""
    return made if isinstance(made, list) else np.asarray(made)


class HostError(DeviceError):
    """A provider cannot run an operator."""


class HostProvider(Protocol):
    """Runs operators. `name` stands in reports."""

    name: str

    def run(self, node: bytes, inputs: Sequence[HostValue | None]) -> list[HostValue]:
        """Outputs of the operator that `node` holds, a serialised ONNX model with inputs i0, i1, ... and outputs o0, o1, ...

        An input that is left out is None; outputs that the model does not name are left out. HostError where it cannot be run.
        """


def default_provider() -> HostProvider:
    """Onnxruntime where it is installed, with ONNX's reference for what it does not have; else that alone.

    HostError where the onnx package is missing too.
    """
    if find_spec("onnx") is None:
        raise HostError("operators of the host need the onnx package; install it: pip install npuvm[onnx]")
    from npuvm.runtime.host.reference import ReferenceProvider

    reference = ReferenceProvider()
    if find_spec("onnxruntime") is None:
        return reference
    from npuvm.runtime.host.ort import OnnxruntimeProvider

    return OnnxruntimeProvider(otherwise=reference)
