"""What compiling a kernel gives: launches, and the tensors they work on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from npuvm.compiler.graph.types import DTYPES
from npuvm.isa import Image
from npuvm.isa.records import quick_record

__all__ = ["CompiledKernel", "Launch", "TensorSpec"]


@quick_record
@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A row-major tensor that the launches read or write; `kind` is param, output or workspace.

    `offset` is where a tensor of kind workspace begins in the kernel's workspace, in bytes; launches that run later may use
    the bytes of what nobody needs any more.
    """

    name: str
    kind: str
    dtype: str
    shape: tuple[int, ...]
    offset: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes in global memory."""
        count = 1
        for size in self.shape:
            count *= size
        return count * DTYPES[self.dtype].item_bytes


@quick_record
@dataclass(frozen=True, slots=True)
class Launch:
    """An image and the tensors whose addresses it takes, in order. `kind` is cube, vector, mix for both in one, or
    stack for several segments.

    `writes` are those of the tensors that it writes; empty when it is not known which. `continues`: it is the next part of
    what the launch before computes, and joins it where launches are not asked for one by one. `beside`: in one launch with the
    one before it runs beside it, as it touches other parts of the tensors that both touch.
    """

    segment: str
    kind: str
    image: Image
    args: tuple[str, ...]
    writes: tuple[str, ...] = ()
    continues: bool = False
    beside: bool = False


@quick_record
@dataclass(frozen=True, slots=True)
class CompiledKernel:
    """A kernel for concrete shapes: launches to run one after the other, and the tensors they need.

    `outputs` names the outputs in the order of the kernel's stores. `seconds` is measured host time by phase: `plan`, not there
    when the graph was planned before, and `instance`, all that this shape took.
    """

    name: str
    launches: tuple[Launch, ...]
    tensors: tuple[TensorSpec, ...]
    outputs: tuple[str, ...]
    seconds: Mapping[str, float]

    @property
    def workspace_bytes(self) -> int:
        """Bytes of the workspace that holds all tensors of that kind."""
        return max((each.offset + each.nbytes for each in self.tensors if each.kind == "workspace"), default=0)
