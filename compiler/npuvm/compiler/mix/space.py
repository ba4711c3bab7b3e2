"""The dims that a product and the vector segment behind it share: both walk the same tiles of the same matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from npuvm.compiler.cube.lower import lower_cube
from npuvm.compiler.cube.spec import MatmulSpec, MatView
from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.symbols import evaluate
from npuvm.compiler.plan.segments import CubeSegment, VectorSegment
from npuvm.compiler.vector.space import Space, make_space

__all__ = ["MixSpace", "in_dims", "mix_space"]


@dataclass(frozen=True, slots=True)
class MixSpace:
    """A product whose batch, m and n are the dims of `space`, in this order; `tensors` are those whose addresses both take."""

    space: Space
    spec: MatmulSpec
    tensors: tuple[str, ...]


def mix_space(product: CubeSegment, vector: VectorSegment, binding: Mapping[str, int]) -> MixSpace | None:
    """The common dims, as few as possible; None where the vector segment does not work on tiles of the matrix.

    CompileError where nothing is to be added up, whatever the symbols are.
    """
    spec, own = lower_cube(product, binding)
    domain = evaluate(vector.domain, binding)
    if 0 in (*domain, spec.k):
        raise CompileError(
            "a size of 0 leaves nothing to add up; allowed in one program: sizes from 1 up", product.name
        )
    left, right = (*spec.a.batch, spec.a.row, 0), (*spec.b.batch, 0, spec.b.col)
    bias = () if spec.bias is None else ((*spec.bias.batch, 0, spec.bias.col),)
    space = make_space(vector, binding, lambda sizes, dims: dims[-1] if dims else None, (left, right, *bias))
    last = len(space.sizes) - 1
    if last < 1 or space.col != last or space.row != last - 1 or domain[-1] == 1 or domain[-2] == 1:
        return None
    common = in_dims(spec, domain, space)
    others = (each.access.tensor.name for each in (*space.reads, *space.writes))
    return MixSpace(space, common, tuple(dict.fromkeys((*own, *others))))


def in_dims(spec: MatmulSpec, domain: Sequence[int], space: Space) -> MatmulSpec:
    """The product with the batch dims and rows of a space over this domain, whose last two dims have a size other than 1."""
    # A dim of the space is a run of dims of the domain, and strides along it are those of the last one.
    batch = _ends(domain, space.sizes)[:-2]

    def joined(view: MatView) -> MatView:
        return replace(view, batch=tuple(view.batch[axis] for axis in batch))

    views = {name: joined(view) for name, view in spec.views.items()}
    return replace(
        spec,
        m=space.sizes[-2],
        batch=space.sizes[:-2],
        a=views["a"],
        b=views["b"],
        c=views["c"],
        bias=views.get("bias"),
    )


def _ends(domain: Sequence[int], sizes: Sequence[int]) -> list[int]:
    """For each size, the product of a run of dims of the domain, the last axis of the run that is not 1."""
    ends: list[int] = []
    axis = 0
    for size in sizes:
        product = 1
        while product != size:
            product *= domain[axis]
            axis += 1
        ends.append(axis - 1)
    return ends
