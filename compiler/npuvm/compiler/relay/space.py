"""The dims that the parts of a relay share, and where what they hand to each other lies.

All parts have the same batch dims and rows. What goes from one to the next lies in a ring of global memory: a slot has a block
of rows for every core group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from npuvm.compiler.cube.lower import lower_cube
from npuvm.compiler.cube.spec import MatmulSpec, MatView
from npuvm.compiler.emit.blocks import align_up
from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.symbols import evaluate
from npuvm.compiler.mix.space import in_dims
from npuvm.compiler.plan.joint import RelaySegment
from npuvm.compiler.plan.segments import CubeSegment
from npuvm.compiler.vector.space import Space, Transfer, make_space
from npuvm.isa import Isa

__all__ = ["Exchange", "RelaySpace", "relay_space"]


@dataclass(frozen=True, slots=True)
class Exchange:
    """A tensor that parts hand over: rows of `pitch` elements of `item` bytes."""

    name: str
    dtype: str
    item: int
    pitch: int


@dataclass(frozen=True, slots=True)
class RelaySpace:
    """Batch dims, rows, and the parts over them; `space` has the vector segment's columns as its last dim.

    `given` is what the vector segment reads of a product, `taken` what it writes for one. `tensors` are those whose addresses
    all parts take.
    """

    batch: tuple[int, ...]
    rows: int
    space: Space
    before: MatmulSpec | None
    after: MatmulSpec | None
    given: Exchange | None
    taken: Exchange | None
    tensors: tuple[str, ...]


def relay_space(segment: RelaySegment, binding: Mapping[str, int], isa: Isa) -> RelaySpace | None:
    """The common dims, as few as possible; None where the vector segment's rows are not those of the products.

    CompileError where nothing is to be added up, whatever the symbols are.
    """
    domain = evaluate(segment.vector.domain, binding)
    lowered = [None if each is None else lower_cube(each, binding) for each in (segment.before, segment.after)]
    specs = [None if each is None else each[0] for each in lowered]
    if 0 in (*domain, *(size for spec in specs if spec is not None for size in (spec.n, spec.k))):
        raise CompileError(
            "a size of 0 leaves nothing to add up; allowed in one program: sizes from 1 up", segment.name
        )
    beside: list[tuple[int, ...]] = []
    for spec in specs:
        if spec is not None:
            beside += [(*spec.a.batch, spec.a.row, 0), (*spec.b.batch, 0, 1), (*spec.c.batch, spec.c.row, 0)]
    space = make_space(segment.vector, binding, lambda sizes, dims: dims[-1] if dims else None, beside)
    last = len(space.sizes) - 1
    if last < 1 or space.col != last or space.row != last - 1 or domain[-1] == 1 or domain[-2] == 1:
        return None
    if any(space.reduced[:-1]):
        return None
    given = _exchange(segment.before, space.cols, isa, "c")
    taken = _exchange(segment.after, space.cols, isa, "a")
    names = [name for each in lowered if each is not None for name in each[1]]
    names += [each.access.tensor.name for each in (*space.reads, *space.writes)]
    tensors = tuple(dict.fromkeys(names))
    before, after = (
        None if each is None else _renamed(in_dims(each[0], domain, space), tensors, each[1]) for each in lowered
    )
    if before is not None and given is not None:
        before = replace(before, c=_handed(before.c, given))
    if after is not None and taken is not None:
        after = replace(after, a=_handed(after.a, taken))
    handed = {each.name: each for each in (given, taken) if each is not None}
    space = replace(
        space,
        reads=tuple(_in_ring(each, handed) for each in space.reads),
        writes=tuple(_in_ring(each, handed) for each in space.writes),
    )
    return RelaySpace(space.sizes[:-2], space.sizes[-2], space, before, after, given, taken, tensors)


def _exchange(product: CubeSegment | None, cols: int, isa: Isa, name: str) -> Exchange | None:
    if product is None:
        return None
    tensor = (product.c if name == "c" else product.a).tensor
    item = isa.dtypes[tensor.dtype].itemsize
    return Exchange(tensor.name, tensor.dtype, item, align_up(cols * item) // item)


def _renamed(spec: MatmulSpec, tensors: tuple[str, ...], own: tuple[str, ...]) -> MatmulSpec:
    """The product whose views name their places in `tensors` and no longer those in its own."""
    views = {name: replace(view, arg=tensors.index(own[view.arg])) for name, view in spec.views.items()}
    return replace(spec, a=views["a"], b=views["b"], c=views["c"], bias=views.get("bias"))


def _handed(view: MatView, exchange: Exchange) -> MatView:
    return replace(view, row=exchange.pitch, col=1, batch=(0,) * len(view.batch), offset=0)


def _in_ring(transfer: Transfer, handed: Mapping[str, Exchange]) -> Transfer:
    exchange = handed.get(transfer.access.tensor.name)
    if exchange is None:
        return transfer
    outer = len(transfer.strides) - 2
    return replace(transfer, strides=(*(0 for _ in range(outer)), exchange.pitch, 1), offset=0)
