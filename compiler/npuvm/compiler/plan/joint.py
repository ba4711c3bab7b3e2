"""Segments that run together in one program: mixes hand tiles of a product on, relays blocks of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from npuvm.compiler.plan.segments import CubeSegment, GmTensor, PickSegment, Segment, VectorSegment

__all__ = [
    "CutSegment",
    "Joint",
    "MixSegment",
    "RelaySegment",
    "readers_by_tensor",
    "sources_of",
    "tensors_read",
    "writes_in_all_dims",
]


@dataclass(frozen=True, slots=True)
class MixSegment:
    """The segments `product` and `vector`, of which the second reads what the first computes, in its shape.

    `kept` says that the result of the product itself is wanted too, by others or as an output.
    """

    product: CubeSegment
    vector: VectorSegment
    kept: bool

    @property
    def parts(self) -> tuple[Segment, ...]:
        """The segments in order."""
        return self.product, self.vector

    @property
    def apart(self) -> tuple[CubeSegment, VectorSegment]:
        """The segments in launches of their own: what the product has just written is in L2 when the other reads it."""
        return self.product, replace(self.vector, near=frozenset(self.product.written), memo={})

    @property
    def name(self) -> str:
        """The names of both."""
        return f"{self.product.name}+{self.vector.name}"

    @property
    def written(self) -> tuple[str, ...]:
        """Names of the tensors that are written."""
        return tuple(dict.fromkeys((*self.product.written, *self.vector.written)))


@dataclass(frozen=True, slots=True)
class RelaySegment:
    """The vector segment, the product `before` whose rows it reads, and the product `after` whose left operand it writes.

    `behind` follows a convolution `after` element by element, and is the only one that reads its result.
    """

    before: CubeSegment | None
    vector: VectorSegment
    after: CubeSegment | None
    behind: VectorSegment | None = None

    @property
    def parts(self) -> tuple[Segment, ...]:
        """The segments in order."""
        return tuple(each for each in (self.before, self.vector, self.after, self.behind) if each is not None)

    @property
    def name(self) -> str:
        """The names of all."""
        return "+".join(each.name for each in self.parts)

    @property
    def written(self) -> tuple[str, ...]:
        """Names of the tensors that are written for others."""
        handed = {each.c.tensor.name for each in (self.before,) if each is not None}
        handed |= {each.a.tensor.name for each in (self.after,) if each is not None}
        if self.after is not None and self.behind is not None:
            handed.add(self.after.c.tensor.name)
        names = dict.fromkeys(name for each in self.parts for name in each.written)
        return tuple(name for name in names if name not in handed)


@dataclass(frozen=True, slots=True)
class CutSegment:
    """A vector segment, and the same cut in two, of which the second reads what the first hands over in memory."""

    whole: VectorSegment
    first: VectorSegment
    second: VectorSegment

    @property
    def parts(self) -> tuple[VectorSegment, ...]:
        """The segments in order."""
        return self.first, self.second

    @property
    def name(self) -> str:
        """The name of the whole."""
        return self.whole.name

    @property
    def handed(self) -> tuple[GmTensor, ...]:
        """The tensors between the parts that the whole does not have."""
        known = {access.tensor.name for _, access in self.whole.writes}
        return tuple(each.tensor for _, each in self.first.writes if each.tensor.name not in known)

    @property
    def written(self) -> tuple[str, ...]:
        """Names of the tensors that are written for others."""
        return self.whole.written


Joint = Segment | MixSegment | RelaySegment | CutSegment


def sources_of(segment: Joint) -> set[str]:
    """The operators of the source, by name, whose nodes a segment has."""
    if isinstance(segment, MixSegment | RelaySegment):
        return {name for each in segment.parts for name in sources_of(each)}
    if isinstance(segment, CutSegment):
        return sources_of(segment.whole)
    if isinstance(segment, VectorSegment):
        picked = [node for node, access in segment.reads if access.picks is not None]
        return {node.source for node in (*segment.nodes, *picked)}
    return {segment.node.source}


def tensors_read(segment: Joint) -> set[str]:
    """Names of the tensors that a segment reads."""
    if isinstance(segment, MixSegment):
        return tensors_read(segment.product) | tensors_read(segment.vector)
    if isinstance(segment, RelaySegment):
        return {name for each in segment.parts for name in tensors_read(each)}
    if isinstance(segment, CutSegment):
        return tensors_read(segment.whole)
    if isinstance(segment, VectorSegment):
        return {access.tensor.name for _, access in segment.reads}
    if isinstance(segment, PickSegment):
        return {access.tensor.name for access in (segment.table, segment.index, segment.rows)}
    accesses = (segment.a, segment.b, *([segment.bias] if segment.bias is not None else []))
    return {access.tensor.name for access in accesses}


def readers_by_tensor(segments: Sequence[Joint]) -> dict[str, list[int]]:
    """By name of a tensor, the numbers of the segments that read it, in order."""
    found: dict[str, list[int]] = {}
    for number, segment in enumerate(segments):
        for name in tensors_read(segment):
            found.setdefault(name, []).append(number)
    return found


def writes_in_all_dims(vector: VectorSegment, dims: int) -> bool:
    """Whether all that a segment writes has the first `dims` dims of its domain; every core would write what lacks one."""
    first = vector.domain[:dims]
    return all(
        len(access.layout.dims) == len(vector.domain) and access.layout.dims[:dims] == first
        for _, access in vector.writes
    )
