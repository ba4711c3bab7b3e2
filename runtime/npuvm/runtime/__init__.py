"""Running kernels: device memory, launches, the program cache, scenarios and their reports."""

from __future__ import annotations

from npuvm.runtime.device import Device, LaunchObserver, LaunchRecord
from npuvm.runtime.eager import EagerQueue, EagerValue
from npuvm.runtime.tensor import Tensor

__all__ = ["Device", "EagerQueue", "EagerValue", "LaunchObserver", "LaunchRecord", "Tensor"]
