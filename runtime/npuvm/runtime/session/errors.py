"""What is wrong with a use of a session."""

from __future__ import annotations

from npuvm.hw.errors import DeviceError

__all__ = ["SessionError"]


class SessionError(DeviceError):
    """A model cannot be run as it was asked: inputs, options or sizes do not fit it."""

    exit_code = 2
