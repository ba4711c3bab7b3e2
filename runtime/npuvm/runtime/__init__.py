"""Running kernels: device memory, launches, the program cache, scenarios and their reports."""

from __future__ import annotations

from npuvm.runtime.device.device import Device, LaunchObserver, LaunchRecord
from npuvm.runtime.device.tensor import Tensor
from npuvm.runtime.eager import EagerQueue, EagerValue

__all__ = ["Device", "EagerQueue", "EagerValue", "LaunchObserver", "LaunchRecord", "Tensor"]
