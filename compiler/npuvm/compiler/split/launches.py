"""Launches of a product that cores may share along k: the products of the parts, and behind a barrier what adds them up.

Parts are added in their order, so nothing depends on which core is done first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from npuvm.compiler.cube.family import CubeFamily
from npuvm.compiler.cube.segment import compile_cube_segment
from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.symbols import evaluate
from npuvm.compiler.language.pins import Pins, pin_error
from npuvm.compiler.padding.parts import product_of
from npuvm.compiler.plan.joint import MixSegment
from npuvm.compiler.plan.segments import CubeSegment
from npuvm.compiler.program.compiled import Launch, TensorSpec
from npuvm.compiler.reduce.launches import Reduced, joined_parts
from npuvm.compiler.split.cost import WHOLE, Split, SplitCost
from npuvm.compiler.split.parts import SYMBOLS, SplitParts, split_parts
from npuvm.compiler.vector.codegen import compile_vector
from npuvm.compiler.vector.family import VectorFamily
from npuvm.hw.config import NpuConfig
from npuvm.isa import Image, Isa

__all__ = ["SplitLaunches", "SplitProduct"]


_Program = tuple[Image, tuple[str, ...]]
"""An image and the tensors whose addresses it takes."""


_LINKED = 12, 200, 10
"""Parts, their length and what they leave of a product that is linked before any other: its loops are those that most have."""


class _Launches(Protocol):
    """Launches of a product as it is."""

    @property
    def family(self) -> CubeFamily | None: ...

    def prepare(self) -> None: ...

    def launch(self, values: Sequence[int], *, linked: bool = False) -> Launch | Reduced | None: ...

    def cycles(self, values: Sequence[int]) -> float: ...

    def alike(self, values: Sequence[int]) -> bool: ...


class SplitProduct:
    """In how many parts a product is computed, alone or in a mix. `names` are the symbols of the kernel.

    `pinned` is the number that a pin wants; without it estimates decide.
    """

    def __init__(
        self,
        segment: CubeSegment | MixSegment,
        parts: SplitParts,
        names: Sequence[str],
        chip: NpuConfig,
        isa: Isa,
        pinned: int | None,
        buffering: str | None = None,
    ) -> None:
        self.segment, self.parts, self.names, self.chip, self.isa = segment, parts, tuple(names), chip, isa
        self.cost = SplitCost(product_of(segment), parts, names, chip, isa, buffering)
        self._pinned, self.buffering = pinned, buffering

    @staticmethod
    def of(
        segment: CubeSegment | MixSegment,
        names: Sequence[str],
        chip: NpuConfig,
        isa: Isa,
        pinned: int | None,
        buffering: str | None = None,
    ) -> SplitProduct | None:
        """The product; None where it is never split. `pinned` as in `SplitProduct`, 1 for never."""
        if pinned == 1 or (pinned is None and chip.cores_with("cube") == 1):
            return None
        parts = split_parts(segment, isa)
        if parts is None:
            if pinned is not None:
                pin_error("split_k", pinned, "1: this product is not added up in floating-point numbers", segment.name)
            return None
        try:
            return SplitProduct(segment, parts, names, chip, isa, pinned, buffering)
        except CompileError:  # what makes the plain product says why
            return None

    def split(self, values: Sequence[int]) -> Split:
        """The split for values of the symbols. CompileError when k has not as many parts as are pinned."""
        if self._pinned is None:
            return self.cost.best(values)
        depth = self.cost.depth(values)
        if depth == 0:
            return WHOLE
        if depth < self._pinned:
            pin_error("split_k", self._pinned, f"1 to {depth}, the k of this product", self.segment.name)
        return self.cost.pinned(values, self._pinned)

    def bindings(self, split: Split, values: Sequence[int]) -> list[Mapping[str, int]]:
        """Values of all symbols that the segments know, by name: those for the parts, and for the rest where there is one."""
        names = *self.names, *SYMBOLS
        return [dict(zip(names, (*values, *piece), strict=True)) for piece in split.pieces()]

    def tensors(self, sizes: Mapping[str, int]) -> tuple[TensorSpec, ...]:
        """The workspace of the parts."""
        each = self.parts.tensor
        return (TensorSpec(each.name, each.kind, each.dtype, evaluate(each.shape, sizes)),)

    def written(self, binding: Mapping[str, int], pins: Pins) -> Reduced | None:
        """The launches written for pins; None where the product is left as it is, or the result has no elements."""
        values = tuple(binding[name] for name in self.names)
        if not self.cost.depth(values):
            return None
        sizes = self.bindings(self.split(values), values)
        products = [compile_cube_segment(self.parts.product, each, self.chip, self.isa, pins) for each in sizes]
        own = Pins(cores=pins.cores, buffering=pins.buffering)
        join = compile_vector(self.parts.join, sizes[0], self.chip, self.isa, own)
        made = [each for each in products if each is not None]
        if join is None or len(made) < len(products):
            return None
        return self.launches(made, (join.image, join.tensors), sizes[0])

    def launches(self, products: Sequence[_Program], join: _Program, sizes: Mapping[str, int]) -> Reduced:
        """The launches of programs for the parts, for the rest, and for the sum."""
        name, written = self.parts.product.name, self.parts.product.written
        made = [Launch(name, "cube", *products[0], written)]
        made += [Launch(f"{name}.rest", "cube", *rest, written, True, True) for rest in products[1:]]
        made.append(Launch(self.parts.join.name, "vector", *join, self.parts.join.written, True))
        return Reduced(tuple(made), self.tensors(sizes))


class SplitLaunches:
    """Launches of a product for values of the symbols that it is known with; those of the product as it is are `plain`."""

    family = None

    def __init__(self, product: SplitProduct, plain: _Launches) -> None:
        self._product, self.plain = product, plain
        self._made: tuple[CubeFamily, VectorFamily] | None = None
        self._prepared = False

    def prepare(self) -> None:
        """Make what any shape that is split needs, so that none of them waits for it."""
        self._prepared = True
        self.plain.prepare()
        self._product.cost.prepare()
        with suppress(CompileError):  # the shape that needs what there is not will say why
            self._made = self._families()
            self._made[1].prepare()
            self._link()

    def _link(self) -> None:
        """Link a product in parts, so that the first one finds done all that linking keeps. Single shapes have no others."""
        parts, length, rest = _LINKED
        values = [parts * length + rest] * len(self._product.names)
        if not values or not self._product.cost.depth(values):
            return
        product, join = self._product.parts.product, self._product.parts.join
        accesses = (product.a, product.b, *(each for _, each in (*join.reads, *join.writes)))
        kinds = {each.tensor.name: each.tensor.kind for each in accesses}
        made = self._in_parts(Split(*_LINKED, 0.0), values)
        joined_parts(made, kinds, self._product.chip, self._product.isa)

    def launch(self, values: Sequence[int], *, linked: bool = False) -> Launch | Reduced | None:
        """The launches, those of the parts first."""
        if not self._prepared:
            self.prepare()
        split = self._product.split(values)
        if split.parts == 1:
            return self.plain.launch(values, linked=linked)
        return self._in_parts(split, values)

    def _in_parts(self, split: Split, values: Sequence[int]) -> Reduced:
        if self._made is None:
            self._made = self._families()
        product, own = self._made
        sizes = [(*values, *piece) for piece in split.pieces()]
        programs: list[_Program] = []
        for each in sizes:
            image = product.instance(each)
            assert image is not None, "what is split has elements"
            programs.append((image, product.tensors))
        join = own.instance(sizes[0])
        assert join is not None, "what is split has elements"
        binding = dict(zip((*self._product.names, *SYMBOLS), sizes[0], strict=True))
        return self._product.launches(programs, join, binding)

    def alike(self, values: Sequence[int]) -> bool:
        """Whether the launches are the same where they are going to be linked with others and where not."""
        return self.plain.alike(values)

    def _families(self) -> tuple[CubeFamily, VectorFamily]:
        """Those of the parts and of their sum."""
        names, chip, isa = (*self._product.names, *SYMBOLS), self._product.chip, self._product.isa
        parts, buffering = self._product.parts, self._product.buffering
        return (
            CubeFamily(parts.product, names, chip, isa, buffering=buffering, copied=False),
            VectorFamily(parts.join, names, chip, isa, narrow=False, buffering=buffering),
        )

    def cycles(self, values: Sequence[int]) -> float:
        """Estimated cycles of the launches."""
        found = self._product.split(values)
        return self.plain.cycles(values) if found.parts == 1 else found.cycles
