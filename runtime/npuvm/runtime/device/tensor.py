"""Tensors in the memory of a device."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

if TYPE_CHECKING:
    from npuvm.runtime.device.device import Device

__all__ = ["Tensor"]


@dataclass(frozen=True, eq=False)
class Tensor:
    """A row-major tensor: `nbytes` bytes at `address` in global memory. `dtype` is the name of an ISA data type.

    `whole` is the tensor of which it is a part (`Device.part`); None for one with memory of its own.
    """

    device: Device
    address: int
    shape: tuple[int, ...]
    dtype: str
    whole: Tensor | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.size * self.device.isa.dtypes[self.dtype].itemsize

    def numpy(self) -> npt.NDArray[Any]:
        """A copy on the host. DeviceError on a device that simulates time only: it holds no data."""
        return self.device.read(self)

    def free(self) -> None:
        """Give the memory back; the tensor must not be used afterwards. DeviceError when it was freed before."""
        self.device.free(self)
