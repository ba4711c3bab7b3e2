"""Relays: products and a vector segment that hand blocks of rows to each other, in one program.

A relay is a product and what is computed of whole rows of its result (softmax, a normalisation); what is computed of rows
before a product takes them as its left operand; or both with the same vector segment between them, as in attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from npuvm.compiler.conv.segment import ConvSegment
from npuvm.compiler.mix.segment import join_products
from npuvm.compiler.plan.joint import (
    MixSegment,
    RelaySegment,
    readers_by_tensor,
    writes_in_all_dims,
)
from npuvm.compiler.plan.segments import Access, CubeSegment, Segment, VectorSegment

__all__ = ["join_relays"]


def join_relays(segments: Sequence[Segment]) -> list[Segment | RelaySegment]:
    """The segments of a plan in an order that runs; what can be a relay is one."""
    return _Relays(segments).joined()


class _Relays:
    def __init__(self, segments: Sequence[Segment]) -> None:
        self._segments = segments
        self._joined: list[Segment | RelaySegment | None] = list(segments)
        self._readers = readers_by_tensor(segments)
        self._writers: dict[str, list[int]] = {}
        self._left: dict[str, list[int]] = {}
        """By tensor, the products that take it as their left operand, and the convolutions that take it as their images."""
        for number, segment in enumerate(segments):
            for name in segment.written:
                self._writers.setdefault(name, []).append(number)
            if isinstance(segment, CubeSegment):
                self._left.setdefault(segment.a.tensor.name, []).append(number)

    def joined(self) -> list[Segment | RelaySegment]:
        for at, vector in enumerate(self._segments):
            if not isinstance(vector, VectorSegment) or self._joined[at] is not vector:
                continue
            if vector.form not in ("map", "row"):
                continue
            if any(access.picks is not None for _, access in vector.reads) or any(n.op == "iota" for n in vector.nodes):
                continue
            if not writes_in_all_dims(vector, len(vector.domain) - 1):
                continue
            before, after = self._before(at, vector), self._after(at, vector)
            if after is not None and isinstance(self._segments[after], ConvSegment):
                self._join_images(at, vector, after)
                continue
            if before is None and after is not None and self._is_mixed(after):
                after = None  # tiles of a product spread better over the cores than blocks of rows
            if vector.form == "map" and self._follow_each(before, after):
                continue  # each product with what follows it are as few launches, on more cores
            if after is None and (before is None or vector.form == "map"):
                continue
            first, last = self._product(before), self._product(after)
            place = at if after is None else after
            for number in (before, at, after):
                if number is not None:
                    self._joined[number] = None
            self._joined[place] = RelaySegment(first, vector, last)
        return [each for each in self._joined if each is not None]

    def _join_images(self, at: int, vector: VectorSegment, after: int) -> None:
        """What makes the images of a convolution joins it, with what follows that element by element and nobody else reads."""
        product = self._product(after)
        behind = self._behind(after)
        if product is None or (behind is None and self._is_mixed(after)):
            return
        follows = None if behind is None else self._segments[behind]
        assert follows is None or isinstance(follows, VectorSegment)
        self._joined[at] = self._joined[after] = None
        self._joined[after if behind is None else behind] = RelaySegment(None, vector, product, follows)

    def _behind(self, number: int) -> int | None:
        """The vector segment that can run together with a convolution, whose result nobody else reads."""
        product = self._segments[number]
        assert isinstance(product, ConvSegment)
        for mix in self._mixes:
            if mix.product.node.id == product.node.id and not mix.kept:
                found = next(at for at, each in enumerate(self._segments) if each.name == mix.vector.name)
                return found if self._joined[found] is self._segments[found] else None
        return None

    def _product(self, at: int | None) -> CubeSegment | None:
        found = None if at is None else self._joined[at]
        return found if isinstance(found, CubeSegment) else None

    def _before(self, at: int, vector: VectorSegment) -> int | None:
        """The last product that only this vector segment reads, as it lies in memory."""
        writers = {number for _, access in vector.reads for number in self._writers.get(access.tensor.name, ())}
        for number in sorted((each for each in writers if each < at), reverse=True):
            product = self._joined[number]
            if type(product) is not CubeSegment:
                continue
            reads = [access for _, access in vector.reads if access.tensor.name == product.c.tensor.name]
            whole = len(reads) == 1 and reads[0].layout == product.c.layout and vector.domain == product.c.layout.dims
            if whole and self._only_reader(number, at, product.c):
                return number
        return None

    def _after(self, at: int, vector: VectorSegment) -> int | None:
        """The next product whose left operand, or convolution whose images, this vector segment alone computes."""
        takers = {number for name in vector.written for number in self._left.get(name, ())}
        for number in sorted(each for each in takers if each > at):
            product = self._joined[number]
            if not isinstance(product, CubeSegment) or product.transpose_a:
                continue
            if product.b.tensor.name == product.a.tensor.name:
                continue
            if isinstance(product, ConvSegment):
                # Behind a product each element is made once.
                follows = vector.name in self._following
                if not follows and _makes_images(vector, product) and self._only_reader(at, number, product.a):
                    return number
                continue
            writes = [access for _, access in vector.writes if access.tensor.name == product.a.tensor.name]
            if len(writes) == 1 and writes[0].layout == product.a.layout and vector.domain == product.a.layout.dims:
                same = product.a.layout.dims[:-1] == product.c.layout.dims[:-1]
                early = any(at < each < number for name in vector.written for each in self._readers.get(name, ()))
                if same and not early and self._only_reader(at, number, product.a):
                    return number
        return None

    @cached_property
    def _mixes(self) -> list[MixSegment]:
        return [each for each in join_products(self._segments) if isinstance(each, MixSegment)]

    @cached_property
    def _mixed(self) -> set[int]:
        return {each.product.node.id for each in self._mixes}

    @cached_property
    def _following(self) -> set[str]:
        """Names of the vector segments that can run together with a product that they follow element by element."""
        return {each.vector.name for each in self._mixes}

    def _is_mixed(self, number: int) -> bool:
        """Whether a product can run together with what follows it element by element."""
        product = self._segments[number]
        return isinstance(product, CubeSegment) and product.node.id in self._mixed

    def _follow_each(self, before: int | None, after: int | None) -> bool:
        """Whether both products can run together with what follows each."""
        if before is None or after is None or not self._is_mixed(before):
            return False
        return self._is_mixed(after) or self._is_followed(after)

    def _is_followed(self, number: int) -> bool:
        """Whether what is computed of whole rows of a product's result can run together with it."""
        readers = self._readers.get(next(iter(self._segments[number].written)), ())
        return any(
            isinstance(vector, VectorSegment) and vector.form == "row" and self._before(at, vector) == number
            for at, vector in ((at, self._segments[at]) for at in readers)
        )

    def _only_reader(self, writer: int, reader: int, access: Access) -> bool:
        """Whether a value between two segments is nobody else's, and they can run together: what the reader needs is there."""
        name = access.tensor.name
        if access.tensor.kind != "workspace":
            return False
        return set(self._writers.get(name, ())) <= {writer} and set(self._readers.get(name, ())) <= {reader}


def _makes_images(vector: VectorSegment, product: ConvSegment) -> bool:
    """Whether a vector segment makes the images of a convolution, and nothing else, element by element, as they lie in memory.

    A convolution in groups takes parts of their channels.
    """
    writes = [access for _, access in vector.writes]
    if vector.form != "map" or len(writes) != 1 or product.node.attrs["groups"] != (1,):
        return False
    made, taken = writes[0].layout, product.a.layout
    if made.offset != taken.offset or vector.domain != made.dims:
        return False
    kept = [
        [(dim, stride) for dim, stride in zip(each.dims, each.strides, strict=True) if dim != 1]
        for each in (made, taken)
    ]
    return kept[0] == kept[1]
