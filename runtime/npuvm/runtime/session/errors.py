"""What is wrong with a use of a session."""

from __future__ import annotations

from npuvm.hw.errors import DeviceError

__all__ = ["NO_ONNX", "SessionError"]

NO_ONNX = "ONNX models need the package onnx; install it: pip install npuvm[onnx]"
"""What is said of a model in a file where its reader is missing."""


class SessionError(DeviceError):
    """A model cannot be run as it was asked: inputs, options or sizes do not fit it."""

    exit_code = 2
