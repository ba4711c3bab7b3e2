"""Launches of a product whose operands may be copied first to rows that begin at lines of memory, in one launch with it.

The vector cores copy, and behind a barrier of the launch the product reads the copies. Steps over k are those of the product
without copies, so the bits are too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from math import inf, prod
from typing import Literal, NamedTuple, Protocol

from npuvm.compiler.conv.segment import ConvSegment
from npuvm.compiler.cube.family import CubeFamily
from npuvm.compiler.cube.segment import compile_cube_segment
from npuvm.compiler.emit.symint import Function, SymInt, compile_values
from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.symbols import evaluate
from npuvm.compiler.graph.types import DTYPES
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.padding.copies import PaddedCopy
from npuvm.compiler.padding.cost import PaddingCost
from npuvm.compiler.padding.panels import PanelLaunches, Step, edge_axis
from npuvm.compiler.padding.parts import (
    OPERANDS,
    PITCHES,
    PaddedParts,
    padded_parts,
    padded_pitch,
    prepare_pitches,
    product_of,
)
from npuvm.compiler.plan.joint import MixSegment
from npuvm.compiler.plan.segments import CubeSegment
from npuvm.compiler.program.compiled import Launch, TensorSpec
from npuvm.compiler.reduce.launches import Reduced
from npuvm.compiler.split.launches import SplitProduct
from npuvm.compiler.vector.codegen import compile_vector
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = ["PaddedLaunches", "PaddedProduct", "Padding", "ProductLaunches"]

Padding = Literal["cheaper", "always", "never"]


class ProductLaunches(Protocol):
    """Launches of a product, alone or in a mix, which are going to be `linked` with others into one, or each for itself.

    `family` makes the programs of a product that is alone and one launch; None for others.
    """

    @property
    def family(self) -> CubeFamily | None: ...

    def prepare(self) -> None: ...

    def launch(self, values: Sequence[int], *, linked: bool = False) -> Launch | Reduced | None: ...

    def cycles(self, values: Sequence[int]) -> float: ...

    def alike(self, values: Sequence[int]) -> bool: ...


MakeLaunches = Callable[[CubeSegment | MixSegment, Sequence[str], CubeSegment | None], ProductLaunches]
"""Makes the launches of a segment for values of symbols, with the tiles of another product where one is given."""


class PaddedProduct:
    """Which operands of a product are copied, and where to. `names` are the symbols of the kernel."""

    def __init__(
        self,
        segment: CubeSegment | MixSegment,
        names: Sequence[str],
        chip: NpuConfig,
        isa: Isa,
        cost: PaddingCost,
        *,
        always: bool,
        buffering: str | None = None,
    ) -> None:
        self.segment, self.names, self.chip, self.isa = segment, tuple(names), chip, isa
        self.buffering = buffering
        self._cost, self._always = cost, always
        product = product_of(segment)
        binding = {name: SymInt.variable(name) for name in names}
        dims = [evaluate(each.layout.dims, binding) for each in (product.a, product.b)]
        self._dims: Function = compile_values(names, [dim for each in dims for dim in each], "dims")
        self._own = slice(0, len(dims[0])), slice(len(dims[0]), None)
        self._item = DTYPES[product.a.tensor.dtype].item_bytes
        self._parts: dict[tuple[str, ...], PaddedParts] = {}

    @staticmethod
    def of(
        segment: CubeSegment | MixSegment,
        names: Sequence[str],
        chip: NpuConfig,
        isa: Isa,
        padding: Padding,
        buffering: str | None = None,
    ) -> PaddedProduct | None:
        """The product; None where it is never to be padded. Where L2 keeps what is read off blocks, copies save nothing."""
        always = padding == "always"
        product = product_of(segment)
        if padding == "never" or isinstance(product, ConvSegment):
            return None
        if not always and chip.memory.l2.unaligned_reads != "uncached":
            return None
        try:
            cost = PaddingCost(product, names, chip, isa, buffering)
        except CompileError:  # what makes the plain product says why
            return None
        return PaddedProduct(segment, names, chip, isa, cost, always=always, buffering=buffering)

    def operands(self, values: Sequence[int], split: SplitProduct | None = None) -> tuple[str, ...]:
        """The operands to copy for values of the symbols; none where it reads them as they lie, or is better `split`."""
        if self._always:
            return self._cost.off_blocks(values)
        parts = None if split is None else split.split(values)
        return self._cost.worth(values, inf if parts is None or parts.parts == 1 else parts.cycles)

    def parts(self, operands: tuple[str, ...]) -> PaddedParts:
        """The segments with copies of these operands."""
        found = self._parts.get(operands)
        if found is None:
            found = self._parts[operands] = padded_parts(self.segment, operands)
        return found

    def pitches(self, operands: Sequence[str], values: Sequence[int]) -> tuple[int, ...]:
        """Values of the symbols PITCHES of these operands."""
        return tuple([padded_pitch(self._shape(each, values)[-1], self._item, self.chip) for each in operands])

    def _shape(self, operand: str, values: Sequence[int]) -> tuple[int, ...]:
        return self._dims(*values)[self._own[OPERANDS.index(operand)]]

    def panels(self, operands: tuple[str, ...], family: CubeFamily | None) -> PanelLaunches | None:
        """What makes panels of the product with copies of these operands, whose programs are from `family`.

        None where cores that multiply also copy, or for more than one matrix.
        """
        parts, product = self.parts(operands), product_of(self.segment)
        is_one = len(product.a.layout.dims) == len(product.b.layout.dims) == 2
        if family is None or self.chip.core.kind == "unified" or not is_one:
            return None
        return PanelLaunches(parts, operands, self.names, family, self.chip, self.isa, self.buffering)

    def steps(
        self, made: PanelLaunches | None, operands: Sequence[str], values: Sequence[int], pitches: Sequence[int]
    ) -> list[Step]:
        """The panels of the product for values of the symbols; none where it is to be one."""
        if made is None:
            return []
        product = product_of(self.segment)
        a, b = (self._shape(each, values) for each in OPERANDS)
        spent = [
            self._cost.streamed(prod(dims) * self._item) if name in operands else 0.0
            for name, dims in zip(OPERANDS, (a, b), strict=True)
        ]
        sizes = a[edge_axis(product, "a")], b[edge_axis(product, "b")]
        return made.steps(sizes, values, pitches, (spent[0], spent[1]))

    def tensors(
        self, operands: tuple[str, ...], values: Sequence[int], pitches: Sequence[int]
    ) -> tuple[TensorSpec, ...]:
        """The workspace of the copies, whose rows lie these pitches apart."""
        return tuple(
            [
                TensorSpec(each.name, each.kind, each.dtype, (*self._shape(operand, values)[:-1], pitch))
                for each, operand, pitch in zip(self.parts(operands).tensors, operands, pitches, strict=True)
            ]
        )

    def binding(self, operands: Sequence[str], values: Sequence[int]) -> Mapping[str, int]:
        """Values of all symbols that the segments with copies know, by name."""
        pitches = zip((PITCHES[each] for each in operands), self.pitches(operands, values), strict=True)
        return dict(zip(self.names, values, strict=True)) | dict(pitches)

    def pinned(self, binding: Mapping[str, int], pins: Pins) -> Reduced | None:
        """The launches written for pins; None where no operand is copied, or the result has no elements."""
        assert isinstance(self.segment, CubeSegment)
        values = tuple(binding[name] for name in self.names)
        operands = self.operands(values)
        if not operands:
            return None
        parts, sizes = self.parts(operands), self.binding(operands, values)
        assert isinstance(parts.segment, CubeSegment)
        product = compile_cube_segment(parts.segment, sizes, self.chip, self.isa, pins)
        if product is None:
            return None
        made: list[Launch] = []
        for copy in parts.copies:
            kernel = compile_vector(copy, sizes, self.chip, self.isa, Pins(buffering=self.buffering))
            if kernel is not None:
                made.append(Launch(copy.name, "vector", kernel.image, kernel.tensors, copy.written, bool(made)))
        made.append(Launch(self.segment.name, "cube", *product, self.segment.written, bool(made)))
        return Reduced(tuple(made), self.tensors(operands, values, self.pitches(operands, values)))


class _Copied(NamedTuple):
    """The launches of a product that reads copies, the copies, and what makes both in panels."""

    product: ProductLaunches
    copies: list[PaddedCopy]
    panels: PanelLaunches | None


class PaddedLaunches:
    """Launches of a product for values of the symbols that it is known with; those without copies are `plain`.

    They may be in parts of k, as `split` says. With `late` what copies need is made by the shape that needs it.
    """

    family = None

    def __init__(
        self,
        product: PaddedProduct,
        plain: ProductLaunches,
        split: SplitProduct | None,
        make: MakeLaunches,
        *,
        late: bool,
    ) -> None:
        self._product, self.plain, self._split, self._make = product, plain, split, make
        self._copied: dict[tuple[str, ...], _Copied] = {}
        self._prepared = late

    def prepare(self) -> None:
        """Make what almost any shape needs, so that none of them waits for it."""
        self._prepared = True
        self.plain.prepare()
        prepare_pitches(self._product.chip)
        with suppress(CompileError):  # the shape that needs what there is not will say why
            for operands in (OPERANDS, *((each,) for each in OPERANDS)):
                copied = self._of(operands)
                for copy in copied.copies:
                    copy.prepare()
                if copied.panels is not None:
                    copied.panels.prepare()

    def launch(self, values: Sequence[int], *, linked: bool = False) -> Launch | Reduced | None:
        """The launches, those of the copies first."""
        if not self._prepared:
            self.prepare()
        operands = self._product.operands(values, self._split)
        made = self._with_copies(operands, values) if operands else None
        return self.plain.launch(values, linked=linked) if made is None else made

    def cycles(self, values: Sequence[int]) -> float:
        """Estimated cycles of the product as its operands lie, without copies."""
        return self.plain.cycles(values)

    def alike(self, values: Sequence[int]) -> bool:
        """Whether the launches are the same where they are going to be linked with others and where not."""
        return self.plain.alike(values)

    def _with_copies(self, operands: tuple[str, ...], values: Sequence[int]) -> Reduced | None:
        """The product with copies of these operands; None where a shape does not allow a program of its own."""
        copied, pitches = self._of(operands), self._product.pitches(operands, values)
        tensors = self._product.tensors(operands, values, pitches)
        steps = self._product.steps(copied.panels, operands, values, pitches)
        if steps and copied.panels is not None:
            parts = copied.panels.launches(steps, values, pitches)
            if parts is not None:
                return Reduced(parts, tensors)
        last = copied.product.launch((*values, *pitches))
        if not isinstance(last, Launch):
            return None
        made: list[Launch] = []
        for copy, pitch in zip(copied.copies, pitches, strict=True):
            made.append(Launch(copy.name, "vector", *copy.instance((*values, pitch)), copy.written, bool(made)))
        made.append(Launch(last.segment, last.kind, last.image, last.args, last.writes, True))
        return Reduced(tuple(made), tensors)

    def _of(self, operands: tuple[str, ...]) -> _Copied:
        found = self._copied.get(operands)
        if found is None:
            product = self._product
            names, parts = product.names, product.parts(operands)
            pitches = [PITCHES[each] for each in operands]
            launches = self._make(parts.segment, (*names, *pitches), product_of(product.segment))
            copies = [
                PaddedCopy(copy, (*names, pitch), product.chip, product.isa, product.buffering)
                for copy, pitch in zip(parts.copies, pitches, strict=True)
            ]
            found = self._copied[operands] = _Copied(launches, copies, product.panels(operands, launches.family))
        return found
