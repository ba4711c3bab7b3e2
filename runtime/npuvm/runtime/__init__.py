"""Running kernels: device memory, launches, the program cache, scenarios and their reports."""

from __future__ import annotations

from .device import Device, LaunchObserver, LaunchRecord
from .tensor import Tensor

__all__ = ["Device", "LaunchObserver", "LaunchRecord", "Tensor"]
