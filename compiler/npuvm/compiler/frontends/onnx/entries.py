"""Values of an ONNX graph while it is read: constants, sizes known as symbols, and tensors of the device or the host."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt
import onnx

from npuvm.compiler.graph.types import Dim
from npuvm.compiler.language.value import Value

__all__ = ["Entry", "Unsupported"]


class Unsupported(Exception):
    """The device cannot run an operator, for the reason given; it goes to the host."""


@dataclass(slots=True, eq=False)
class Entry:
    """A value: `dtype` of the source by numpy's name, dims (None where the rank is not known).

    `const` is its content where that is known now; `sizes`, an array of sums, where it is integers that follow from
    sizes. `on_device` holds its tensor by the number of the region; `level` is that of the first region that can use it,
    where it is made if it is `computed` on the device. `bounds` are the least and the largest integer that it can hold,
    where known. `kind` is the type of what is no tensor: a sequence, an optional value.
    """

    name: str
    dtype: str
    shape: tuple[Dim, ...] | None
    const: npt.NDArray[Any] | None = None
    sizes: npt.NDArray[Any] | None = None
    on_device: dict[int, Value] = field(default_factory=dict)
    level: int = 0
    computed: bool = False
    bounds: tuple[int, int] | None = None
    kind: onnx.TypeProto | None = None

    @property
    def rank(self) -> int:
        """Number of dims. Unsupported where it is not known."""
        if self.shape is None:
            raise Unsupported(f"the rank of '{self.name}' is not known before it is computed")
        return len(self.shape)

    @property
    def dims(self) -> tuple[Dim, ...]:
        """The dims. Unsupported where their number is not known."""
        if self.shape is None:
            raise Unsupported(f"the rank of '{self.name}' is not known before it is computed")
        return self.shape
