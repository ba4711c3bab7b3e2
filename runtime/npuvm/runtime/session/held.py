"""A value while a model runs: on the host, on the device, or on both."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from npuvm.runtime.device.tensor import Tensor
from npuvm.runtime.session.arena import Arena
from npuvm.runtime.session.carrying import Array
from npuvm.runtime.session.report import HostUse

__all__ = ["Held"]


@dataclass(slots=True, eq=False)
class Held:
    """`array` in the dtype of the model, `tensor` in the one that carries it; `arena` is the memory that it lies in.

    `maker` is the operator of the host that made it; a `constant` is uploaded once for all runs. One that has neither array
    nor tensor is known by its shape alone, where only time is simulated. `on_host`: what is in `tensor` came from the host or
    was read by it, so that it need not cross again, also where there is no array. `uploaded`: it came from the host, to a place
    that others may take once nobody reads it any more.
    """

    dtype: str
    shape: tuple[int, ...]
    array: Array | None = None
    tensor: Tensor | None = None
    arena: Arena | None = None
    maker: HostUse | None = None
    constant: bool = False
    on_host: bool = False
    uploaded: bool = False

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    def anew(self) -> Held:
        """The value as it was before the run: what came from the host is there alone."""
        if self.array is None and not self.on_host:
            return Held(self.dtype, self.shape, None, self.tensor, self.arena)
        return Held(self.dtype, self.shape, self.array)
