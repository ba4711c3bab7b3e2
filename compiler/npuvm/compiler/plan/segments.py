"""Segments: what one vector or cube program computes, and how its tensors lie in global memory."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from npuvm.compiler.graph.ir import NamedOp, Node
from npuvm.compiler.graph.symbols import Product, evaluate
from npuvm.compiler.graph.types import DTYPES, Dim
from npuvm.compiler.language.allowed import Allowance
from npuvm.compiler.plan.views import Layout

__all__ = ["Access", "CubeSegment", "GmTensor", "PickSegment", "Picks", "Segment", "VectorSegment"]


@dataclass(frozen=True, slots=True)
class GmTensor:
    """A row-major tensor in global memory. `kind` is param, output or workspace."""

    name: str
    kind: str
    dtype: str
    shape: tuple[Dim, ...]

    def nbytes(self, binding: Mapping[str, int]) -> int:
        """Bytes for concrete sizes."""
        count = 1
        for size in evaluate(self.shape, binding):
            count *= size
        return count * DTYPES[self.dtype].item_bytes


@dataclass(frozen=True, slots=True)
class Picks:
    """How a value is picked from a table of `count` rows, `row` elements apart: by another read, the indices, of this id."""

    index: int
    count: Dim
    row: Product


@dataclass(frozen=True, slots=True)
class Access:
    """A value read from or written to a tensor; `layout` has the value's dims, and its strides and offset in the tensor.

    With `picks` indices say where its rows are: the dims of these have stride 0. What is written with `adds` is added to what
    is there, atomically.
    """

    tensor: GmTensor
    layout: Layout
    cache: str = "normal"
    picks: Picks | None = None
    adds: bool = False

    def __str__(self) -> str:
        strides = ", ".join(str(stride) for stride in self.layout.strides)
        offset = f" + {self.layout.offset}" if self.layout.offset.terms else ""
        by = f" by %{self.picks.index}" if self.picks is not None else " added" if self.adds else ""
        return f"@{self.tensor.name}[{strides}]{offset}{by}"


@dataclass(slots=True)
class VectorSegment:
    """Operations over one iteration domain, in order.

    `domain` is the shape that all values broadcast to. `reduce_axes` are the axes of the domain, counted from the last
    (-1), that reduces of this segment run over. `form`: "map" has no reduce; "row" holds whole rows of the reduced axes
    (the last ones) in UB, so that reduces and what follows them are one pass; "accumulate" walks over tiles of the reduced
    axes, and what follows a reduce in it is computed after the last of them; "scan" walks over tiles of the axis of prefix sums
    in order; "top" has whole rows in UB and takes from them one element after the other.
    `reads` are the values that come from global memory, `writes` those that go there. A segment without nodes is a copy.
    `named` and `allowed` are those of the graph.
    """

    name: str
    domain: tuple[Dim, ...] = ()
    reduce_axes: tuple[int, ...] = ()
    form: str = "map"
    nodes: list[Node] = field(default_factory=list)
    reads: list[tuple[Node, Access]] = field(default_factory=list)
    writes: list[tuple[Node, Access]] = field(default_factory=list)
    named: Mapping[int, NamedOp] = field(default_factory=dict)
    allowed: Allowance = field(default_factory=Allowance)
    near: frozenset[str] = frozenset()
    """Tensors that the launch before has just written: estimates take them to lie in L2 as far as it holds them."""
    off: frozenset[str] = frozenset()
    """Tensors that are read in part, whose rows lie off blocks of memory even where those of the part end at them."""
    chunked: frozenset[int] | None = None
    """Where what is reduced is cut into chunks (npuvm.compiler.reduce.parts), ids of the values that each has its own of."""
    memo: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)
    """What the code generator keeps of this segment from one shape to the next."""

    @property
    def written(self) -> tuple[str, ...]:
        """Names of the tensors that are written."""
        return tuple(dict.fromkeys(access.tensor.name for _, access in self.writes))

    def __str__(self) -> str:
        domain = ", ".join(str(dim) for dim in self.domain)
        axes = f" over {list(self.reduce_axes)}" if self.reduce_axes else ""
        lines = [f"vector {self.name} {self.form} [{domain}]{axes}"]
        lines += [f"  %{node.id} <- {access}" for node, access in self.reads]
        lines += [f"  {node!r}" for node in self.nodes]
        lines += [f"  %{node.id} -> {access}" for node, access in self.writes]
        return "\n".join(lines)


@dataclass(slots=True)
class CubeSegment:
    """One matrix product: `c = a @ b + bias`.

    `a` and `b` are [batch.., rows, cols] as they lie in memory, with one of rows and cols adjacent (stride 1, the cols); a
    transposed operand is exchanged by the move to L0. Batch dims broadcast against those of `c`. The dims of `c` end in m, n.
    """

    name: str
    node: Node
    a: Access
    b: Access
    bias: Access | None
    c: Access
    transpose_a: bool
    transpose_b: bool

    @property
    def written(self) -> tuple[str, ...]:
        """Names of the tensors that are written."""
        return (self.c.tensor.name,)

    def __str__(self) -> str:
        bias = f" + {self.bias}" if self.bias else ""
        a, b = (
            f"{each}{'^T' if flag else ''}" for each, flag in ((self.a, self.transpose_a), (self.b, self.transpose_b))
        )
        return f"cube {self.name}\n  %{self.node.id} = {a} x {b}{bias} -> {self.c}"


@dataclass(slots=True)
class PickSegment:
    """One gather, scatter or scatter_add. `table` [.., N, ..] is what rows are picked of, `rows` what goes there or comes.

    All tensors are dense: their elements follow each other in the order of their dims. A table that is written holds already
    what it starts as.
    """

    name: str
    node: Node
    table: Access
    index: Access
    rows: Access

    @property
    def written(self) -> tuple[str, ...]:
        """Names of the tensors that are written."""
        return ((self.rows if self.node.op == "gather" else self.table).tensor.name,)

    def __str__(self) -> str:
        if self.node.op == "gather":
            return f"pick {self.name}\n  %{self.node.id} = {self.table} by {self.index} -> {self.rows}"
        return f"pick {self.name}\n  %{self.node.id} = {self.node.op} {self.rows} by {self.index} -> {self.table}"


Segment = VectorSegment | CubeSegment | PickSegment
