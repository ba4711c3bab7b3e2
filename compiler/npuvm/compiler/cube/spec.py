"""What a matrix product is to its code generator: sizes, operand views, and the form they are brought into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

from npuvm.compiler.emit.symint import SymInt, several
from npuvm.compiler.errors import CompileError
from npuvm.isa import Isa

__all__ = ["MatView", "MatmulSpec", "Side", "normalise", "operand_side"]


@dataclass(frozen=True, slots=True)
class MatView:
    """A batch of matrices in global memory.

    Element (row, col) of batch index (i, ...) lies `offset + i * batch[0] + ... + row * self.row + col * self.col` elements
    after the address of argument `arg`. A stride of 0 repeats. `cache` is the policy of its accesses.
    """

    arg: int
    dtype: str
    row: int
    col: int
    batch: tuple[int, ...] = ()
    offset: int = 0
    cache: str = "normal"


@dataclass(frozen=True, slots=True)
class MatmulSpec:
    """c[batch, m, n] = a[batch, m, k] @ b[batch, k, n] (+ bias[batch, n]), optionally rectified, cast to c's dtype.

    Every view has one stride per dimension in `batch`. `bias` has row stride 0.
    """

    m: int
    n: int
    k: int
    a: MatView
    b: MatView
    c: MatView
    batch: tuple[int, ...] = ()
    bias: MatView | None = None
    relu: bool = False
    name: str = "matmul"

    @property
    def views(self) -> dict[str, MatView]:
        """The operands by name; `bias` only where there is one."""
        views = {"a": self.a, "b": self.b, "c": self.c}
        return views if self.bias is None else views | {"bias": self.bias}

    @property
    def is_empty(self) -> bool:
        """Whether the result has no elements."""
        return self.m * self.n * prod(self.batch) == 0


@dataclass(frozen=True, slots=True)
class Side:
    """How an operand tile lies in memory: `flipped` when its rows are the columns of the matrix.

    `pitch` and `batch` are in bytes between rows in memory and between batches.
    """

    flipped: bool
    pitch: int
    batch: tuple[int, ...]
    item: int

    def strides(self) -> tuple[int, int]:
        """Bytes from one (row, column) of the matrix to the next."""
        return (self.item, self.pitch) if self.flipped else (self.pitch, self.item)


def operand_side(view: MatView, rows: int, cols: int, isa: Isa, name: str) -> Side:
    """The layout of an operand of `rows` x `cols`; CompileError when no dimension is contiguous, or one runs backwards."""
    item = isa.dtypes[view.dtype].itemsize
    batch = tuple(stride * item for stride in view.batch)
    plain = (view.col == 1 or not several(cols)) and (_forwards(view.row) or not several(rows))
    flipped = (view.row == 1 or not several(rows)) and (_forwards(view.col) or not several(cols))
    if plain:
        return Side(False, view.row * item if several(rows) else 0, batch, item)
    if flipped:
        return Side(True, view.col * item if several(cols) else 0, batch, item)
    raise CompileError(
        f"matmul operand {name} has strides ({view.row}, {view.col}) elements; one of its two dimensions must be "
        "contiguous (stride 1) and the other may not run backwards"
    )


def _forwards(stride: int) -> bool:
    return isinstance(stride, SymInt) or stride >= 0


def normalise(spec: MatmulSpec) -> MatmulSpec:
    """The same product with as few batch dimensions as possible."""
    return _fold_into_rows(_merge_batches(spec))


def _merge_batches(spec: MatmulSpec) -> MatmulSpec:
    """Drop batch dimensions of size 1 and join neighbours that are one range in every operand."""
    sizes: list[int] = []
    strides: dict[str, list[int]] = {name: [] for name in spec.views}
    for at, size in enumerate(spec.batch):
        if size == 1:
            continue
        step = {name: view.batch[at] for name, view in spec.views.items()}
        if sizes and all(strides[name][-1] == step[name] * size for name in step):
            sizes[-1] *= size
            for name, value in step.items():
                strides[name][-1] = value
        else:
            sizes.append(size)
            for name, value in step.items():
                strides[name].append(value)
    views = {name: replace(view, batch=tuple(strides[name])) for name, view in spec.views.items()}
    return _with_views(replace(spec, batch=tuple(sizes)), views)


def _fold_into_rows(spec: MatmulSpec) -> MatmulSpec:
    """Make the last batch dimension part of m when b and the bias do not follow it and the rows of a and c run on."""
    if not spec.batch:
        return spec
    size = spec.batch[-1]
    fixed = [view for name, view in spec.views.items() if name in ("b", "bias")]
    if any(view.batch[-1] != 0 for view in fixed):
        return spec
    rows = {"a": spec.a, "c": spec.c}
    if spec.m == 1:
        rows = {name: replace(view, row=view.batch[-1]) for name, view in rows.items()}
    elif any(view.batch[-1] != spec.m * view.row for view in rows.values()):
        return spec
    if rows["a"].col != 1 and rows["a"].row != 1 and several(spec.k):
        return spec
    views = {name: replace(view, batch=view.batch[:-1]) for name, view in (spec.views | rows).items()}
    return _fold_into_rows(_with_views(replace(spec, m=spec.m * size, batch=spec.batch[:-1]), views))


def _with_views(spec: MatmulSpec, views: Mapping[str, MatView]) -> MatmulSpec:
    return replace(spec, a=views["a"], b=views["b"], c=views["c"], bias=views.get("bias"))
