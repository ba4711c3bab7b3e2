"""A cube segment with concrete sizes becomes the views of a matrix product."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from npuvm.compiler.cube.spec import MatmulSpec, MatView
from npuvm.compiler.graph.symbols import evaluate
from npuvm.compiler.plan.segments import Access, CubeSegment

__all__ = ["lower_cube"]


def lower_cube(segment: CubeSegment, binding: Mapping[str, int]) -> tuple[MatmulSpec, tuple[str, ...]]:
    """The product for these sizes, and the tensors whose addresses its program takes, in order."""
    accesses = [segment.a, segment.b, segment.c, *([segment.bias] if segment.bias is not None else [])]
    tensors = tuple(dict.fromkeys(access.tensor.name for access in accesses))
    *batch, m, n = evaluate(segment.c.layout.dims, binding)
    a_dims = evaluate(segment.a.layout.dims, binding)
    k = a_dims[-2] if segment.transpose_a else a_dims[-1]

    def view(access: Access, transpose: bool) -> MatView:
        dims, strides = evaluate(access.layout.dims, binding), access.layout.stride_values(binding)
        row, col = strides[-2:]
        if transpose:
            row, col = col, row
        return MatView(
            tensors.index(access.tensor.name),
            access.tensor.dtype,
            row,
            col,
            _broadcast(dims[:-2], strides[:-2], len(batch)),
            access.layout.offset.value(binding),
            cache=access.cache,
        )

    bias = None
    if segment.bias is not None:
        (stride,) = segment.bias.layout.stride_values(binding)
        number = tensors.index(segment.bias.tensor.name)
        offset, cache = segment.bias.layout.offset.value(binding), segment.bias.cache
        bias = MatView(number, segment.bias.tensor.dtype, 0, stride, (0,) * len(batch), offset, cache)
    spec = MatmulSpec(
        m,
        n,
        k,
        view(segment.a, segment.transpose_a),
        view(segment.b, segment.transpose_b),
        view(segment.c, False),
        tuple(batch),
        bias,
        name=segment.name,
    )
    return spec, tensors


def _broadcast(dims: Sequence[int], strides: Sequence[int], rank: int) -> tuple[int, ...]:
    """Strides of all `rank` batch dims of the result; 0 where the operand has size 1 or no such dim."""
    own = tuple(0 if dim == 1 else stride for dim, stride in zip(dims, strides, strict=True))
    return (0,) * (rank - len(own)) + own
