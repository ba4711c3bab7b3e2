"""Relays: products and a vector segment that hand blocks of rows to each other, in one program.

A relay is a product and what is computed of whole rows of its result (softmax, a normalisation); what is computed of rows
before a product takes them as its left operand; or both with the same vector segment between them, as in attention.
"""

from __future__ import annotations

from collections.abc import Sequence

from npuvm.compiler.joint_segments import MixSegment, RelaySegment, tensors_read, writes_in_all_dims
from npuvm.compiler.mix_segment import join_products
from npuvm.compiler.segments import Access, CubeSegment, Segment, VectorSegment

__all__ = ["join_relays"]


def join_relays(segments: Sequence[Segment]) -> list[Segment | RelaySegment]:
    """The segments of a plan in an order that runs; what can be a relay is one."""
    joined: list[Segment | RelaySegment | None] = list(segments)
    for at, vector in enumerate(segments):
        if not isinstance(vector, VectorSegment) or joined[at] is None or vector.form not in ("map", "row"):
            continue
        if any(access.picks is not None for _, access in vector.reads) or any(n.op == "iota" for n in vector.nodes):
            continue
        if not writes_in_all_dims(vector, len(vector.domain) - 1):
            continue
        before = _before(segments, joined, at)
        after = _after(segments, joined, at)
        if before is None and after is not None and _is_mixed(segments, after):
            after = None  # tiles of a product spread better over the cores than blocks of rows
        if after is None and (before is None or vector.form == "map"):
            continue
        first, last = _product(joined, before), _product(joined, after)
        place = at if after is None else after
        for number in (before, at, after):
            if number is not None:
                joined[number] = None
        joined[place] = RelaySegment(first, vector, last)
    return [each for each in joined if each is not None]


def _product(joined: Sequence[Segment | RelaySegment | None], at: int | None) -> CubeSegment | None:
    found = None if at is None else joined[at]
    return found if isinstance(found, CubeSegment) else None


def _before(segments: Sequence[Segment], joined: Sequence[Segment | RelaySegment | None], at: int) -> int | None:
    """The last product that only this vector segment reads, as it lies in memory."""
    vector = segments[at]
    assert isinstance(vector, VectorSegment)
    for number in reversed(range(at)):
        product = joined[number]
        if type(product) is not CubeSegment:
            continue
        reads = [access for _, access in vector.reads if access.tensor.name == product.c.tensor.name]
        whole = len(reads) == 1 and reads[0].layout == product.c.layout and vector.domain == product.c.layout.dims
        if whole and _only_reader(segments, number, at, product.c):
            return number
    return None


def _after(segments: Sequence[Segment], joined: Sequence[Segment | RelaySegment | None], at: int) -> int | None:
    """The next product whose left operand this vector segment alone computes."""
    vector = segments[at]
    assert isinstance(vector, VectorSegment)
    for number in range(at + 1, len(segments)):
        product = joined[number]
        if type(product) is not CubeSegment or product.transpose_a:
            continue
        if product.b.tensor.name == product.a.tensor.name:
            continue
        writes = [access for _, access in vector.writes if access.tensor.name == product.a.tensor.name]
        if len(writes) == 1 and writes[0].layout == product.a.layout and vector.domain == product.a.layout.dims:
            same = product.a.layout.dims[:-1] == product.c.layout.dims[:-1]
            early = any(tensors_read(each) & set(vector.written) for each in segments[at + 1 : number])
            if same and not early and _only_reader(segments, at, number, product.a):
                return number
    return None


def _is_mixed(segments: Sequence[Segment], number: int) -> bool:
    """Whether a product can run together with what follows it element by element."""
    product = segments[number]
    mixes = (each for each in join_products(segments) if isinstance(each, MixSegment))
    return isinstance(product, CubeSegment) and any(each.product.node is product.node for each in mixes)


def _only_reader(segments: Sequence[Segment], writer: int, reader: int, access: Access) -> bool:
    """Whether a value between two segments is nobody else's, and they can run together: what the reader needs is there."""
    name = access.tensor.name
    if access.tensor.kind != "workspace":
        return False
    return all(
        (number == writer or name not in each.written) and (number == reader or name not in tensors_read(each))
        for number, each in enumerate(segments)
    )
