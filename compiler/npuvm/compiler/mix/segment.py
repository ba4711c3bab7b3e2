"""Mix segments: a matrix product, and what is computed element by element of its result, in one program.

Tiles of the result go from the cube to the vector unit one by one, while the cube works on the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from npuvm.compiler.conv.segment import ConvSegment
from npuvm.compiler.graph.sums import times
from npuvm.compiler.graph.symbols import product as dims_product
from npuvm.compiler.plan.joint import Joint, MixSegment, readers_by_tensor, writes_in_all_dims
from npuvm.compiler.plan.segments import Access, CubeSegment, VectorSegment
from npuvm.compiler.plan.views import Layout

__all__ = ["join_products"]


def join_products(segments: Sequence[Joint]) -> list[Joint]:
    """The segments of a plan in an order that runs, products joined with the first vector segment that reads them.

    A vector segment takes one product, the last one where it reads several.
    """
    joined: list[Joint | None] = list(segments)
    read_by = readers_by_tensor(segments)
    for at in reversed(range(len(segments))):
        product = segments[at]
        if not isinstance(product, CubeSegment) or not _walks_tiles(product):
            continue
        name = product.c.tensor.name
        readers = [number for number in read_by.get(name, ()) if number > at]
        vector = joined[readers[0]] if readers else None
        if not isinstance(vector, VectorSegment):
            continue
        product = _as_read(product, vector)
        if not _follows(vector, product.c):
            continue
        kept = product.c.tensor.kind != "workspace" or len(readers) > 1
        mixed = MixSegment(product, vector, kept) if kept else _in_place(product, vector)
        # The product runs where its reader does.
        joined[at], joined[readers[0]] = None, mixed
    return [each for each in joined if each is not None]


def _walks_tiles(product: CubeSegment) -> bool:
    """Whether its result is one matrix for each of a batch: that of a convolution in groups is several side by side."""
    return not isinstance(product, ConvSegment) or product.node.attrs["groups"] == (1,)


def _as_read(product: CubeSegment, vector: VectorSegment) -> CubeSegment:
    """A product of one matrix with its rows as a vector segment reads them: pixels of images, where they are several dims."""
    reads = [access.layout for _, access in vector.reads if access.tensor.name == product.c.tensor.name]
    result, left = product.c.layout, product.a.layout
    if (
        len(reads) != 1
        or len(reads[0].dims) < 3
        or isinstance(product, ConvSegment)
        or product.transpose_a
        or not len(left.dims) == len(result.dims) == 2
    ):
        return product
    seen, (row, col) = reads[0], result.strides
    *rows, last = seen.dims
    inner = [dims_product(rows[at + 1 :]) for at in range(len(rows))]
    if last != result.dims[-1] or seen.strides != (*(times(row, each) for each in inner), col):
        return product
    own = Layout(
        (*rows, left.dims[-1]), (*(times(left.strides[0], each) for each in inner), left.strides[1]), left.offset
    )
    return replace(product, a=replace(product.a, layout=own), c=replace(product.c, layout=seen))


def _follows(vector: VectorSegment, result: Access) -> bool:
    """Whether a vector segment works on the result element by element, as it lies in memory."""
    reads = [access for _, access in vector.reads if access.tensor.name == result.tensor.name]
    return (
        vector.form == "map"
        and len(reads) == 1
        and reads[0].layout == result.layout
        and vector.domain == result.layout.dims
        and all(access.picks is None for _, access in vector.reads)
        and not any(node.op == "iota" for node in vector.nodes)
        and writes_in_all_dims(vector, len(vector.domain))
    )


def _in_place(product: CubeSegment, vector: VectorSegment) -> MixSegment:
    """Tiles of the product go where those of a result of the same form come to lie; it needs no memory of its own then."""
    name, layout = product.c.tensor.name, product.c.layout
    read = {access.tensor.name for _, access in vector.reads}
    for node, access in vector.writes:
        same = access.layout == layout and node.type.dtype == product.c.tensor.dtype
        if same and access.tensor.name not in read:
            place = Access(access.tensor, layout, product.c.cache)
            reads = [(node, place if each.tensor.name == name else each) for node, each in vector.reads]
            return MixSegment(replace(product, c=place), replace(vector, reads=reads, memo={}), kept=False)
    return MixSegment(product, vector, kept=False)
