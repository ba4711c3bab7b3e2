"""Segments of a plan, each with the launches that an instance of it becomes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import NamedTuple

from npuvm.compiler.compiled import Launch, TensorSpec
from npuvm.compiler.conv_mix import ConvMixFamily, mix_family_of
from npuvm.compiler.cube_segment import compile_cube_segment, family_of
from npuvm.compiler.errors import CompileError
from npuvm.compiler.fusion.launch_cost import LaunchCost
from npuvm.compiler.joint_segments import CutSegment, Joint, MixSegment, RelaySegment
from npuvm.compiler.mix_cores import MixChosen
from npuvm.compiler.mix_family import MixFamily
from npuvm.compiler.mix_segment import join_products
from npuvm.compiler.padded_launches import PaddedLaunches, PaddedProduct, Padding, ProductLaunches
from npuvm.compiler.pick_codegen import PickFamily
from npuvm.compiler.pick_segment import lower_pick
from npuvm.compiler.reduce_launches import Reduced, ReduceFamily
from npuvm.compiler.relay_family import Chosen, RelayFamily
from npuvm.compiler.segments import CubeSegment, PickSegment, VectorSegment
from npuvm.compiler.split_launches import SplitLaunches, SplitProduct
from npuvm.compiler.symbols import evaluate
from npuvm.compiler.symint import Function, SymInt, compile_values
from npuvm.compiler.types import DTYPES
from npuvm.compiler.vector_codegen import compile_vector
from npuvm.compiler.vector_cost import memory_rates, steady_elements
from npuvm.compiler.vector_family import Rows, VectorFamily
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = [
    "CutLaunches",
    "PickLaunches",
    "RelayLaunches",
    "SegmentLaunches",
    "VectorLaunches",
    "Ways",
    "Weighed",
    "launches_of",
    "mix_of",
]


_TOO_HIGH = 2.0
"""How many times too high estimates of products are at most, which are to tell tiles apart: small ones on `ascend_910b1`."""


_SURE = 0.85
"""Share of the cycles of one vector program that two may take, so that they are sure to be faster."""

_WORTH = 0.04
"""Share of a product's cycles that two launches have to save, as two programs cost a new shape more time of the host."""


class Weighed(NamedTuple):
    """Whether segments share a program for some sizes, with the estimates for that and for a program of each part.

    `together` is 0 where there is no program for all of them. `ub` are bytes of UB of the tile of that program, and of each
    part's, where they are known.
    """

    taken: bool
    together: float
    apart: tuple[float, ...]
    ub: int | None = None
    ub_apart: tuple[int | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Ways:
    """What launches are made for, and how: with `always` segments share a program wherever they can.

    For the others see `KernelFamily`.
    """

    names: tuple[str, ...]
    chip: NpuConfig
    isa: Isa
    atomic: bool = False
    always: bool = False
    padding: Padding = "cheaper"
    split: int | None = None


class VectorLaunches:
    """Launches of a vector segment."""

    def __init__(self, segment: VectorSegment, ways: Ways) -> None:
        self._segment, self._names, self._chip, self._isa = segment, ways.names, ways.chip, ways.isa
        self._family = VectorFamily(segment, ways.names, ways.chip, ways.isa)
        self._written = segment.written
        self._prepared = False
        self.name, self.reduces = segment.name, ReduceFamily.of(segment, self._family, ways.names, atomic=ways.atomic)

    def launch(self, values: Sequence[int]) -> Launch | Reduced | None:
        if not self._prepared:
            self.prepare()
        shared = self.reduces.launches(values) if self.reduces is not None else None
        if shared is not None:
            return shared
        made = self._family.instance(values)
        if made is not None:
            return Launch(self._segment.name, "vector", *made, self._written)
        binding = dict(zip(self._names, values, strict=True))
        kernel = compile_vector(self._segment, binding, self._chip, self._isa)
        if kernel is None:
            return None
        return Launch(self._segment.name, "vector", kernel.image, kernel.tensors, self._written)

    def prepare(self) -> None:
        """Make what almost any shape needs, so that none of them waits for it. Raises what `launch` does."""
        self._prepared = True
        if not self._family.empty:
            self._family.prepare()
            if self.reduces is not None:
                self.reduces.prepare()

    def cycles(self, values: Sequence[int]) -> float:
        """Estimated cycles of the launch; see `VectorFamily.cycles`."""
        return self._family.cycles(values)

    def ub_bytes(self, values: Sequence[int]) -> int | None:
        """Bytes of UB of the tile that is chosen for these values."""
        found = self._family.located(values)
        if found is None:
            return None
        (_, rows, cols), way = found[0].choose(found[1])
        return int(way.chooser.nbytes(rows, cols)[0])

    @property
    def rows(self) -> Rows | None:
        """What the last launch was made by."""
        return self._family.rows


class CutLaunches:
    """Launches of a vector segment that can be cut in two: one, but where a shape leaves it too little room in UB."""

    def __init__(self, segment: CutSegment, ways: Ways) -> None:
        self._segment, self._ways = segment, ways
        self.whole = VectorLaunches(segment.whole, ways)
        self._costs = tuple(LaunchCost.of(ways.chip, linked=linked) for linked in (False, True))
        self._steady: dict[int, float] = {}
        dims = [dim for tensor in segment.handed for dim in tensor.shape]
        named = [SymInt.variable(dim) if isinstance(dim, str) else dim for dim in dims]
        self._dims: Function = compile_values(ways.names, named)
        domain = evaluate(segment.whole.domain, {name: SymInt.variable(name) for name in ways.names})
        self._elements: Function = compile_values(ways.names, (prod(domain),))
        # No estimate of a part is lower than what memory takes for its elements.
        far, near = memory_rates(ways.chip)
        self._for_element = [max(_bytes(each, far=True) / far, _bytes(each) / near) for each in segment.parts]

    def launch(self, values: Sequence[int], *, linked: bool = False) -> Launch | Reduced | None:
        """The launches, two where UB holds tiles so small that these are estimated to be faster."""
        made = self.whole.launch(values)
        if not isinstance(made, Launch) or not self._is_crowded(linked) or self._pays(values, linked):
            return made
        return self._cut(values)

    def weighed(self, values: Sequence[int], *, linked: bool = False) -> Weighed:
        """What is known of both ways."""
        together, made = self.whole.cycles(values), self.whole.launch(values)
        apart = tuple([each.cycles(values) for each in self._apart])
        room = tuple([each.ub_bytes(values) for each in self._apart])
        crowded = isinstance(made, Launch) and self._is_crowded(linked)
        taken = not crowded or self._pays(values, linked)
        return Weighed(taken, together, apart, self.whole.ub_bytes(values), room)

    def cycles(self, values: Sequence[int]) -> float:
        """Estimated cycles of the launch, or of those of the parts behind each other."""
        found = self.weighed(values)
        return found.together if found.taken else self._costs[False](found.apart)

    def alike(self, values: Sequence[int]) -> bool:
        """Whether the launches are the same where they are going to be linked with others and where not."""
        return self.weighed(values).taken == self.weighed(values, linked=True).taken

    def _is_crowded(self, linked: bool) -> bool:
        """Whether UB holds tiles so small that what goes before instructions is much of what the last instance takes."""
        rows = self.whole.rows
        found = None if rows is None else rows.last
        if found is None:
            return False
        (cycles, high, wide), way = found
        if cycles <= self._costs[linked].least(2):
            return False
        steady = self._steady.get(id(way))
        if steady is None:
            steady = self._steady[id(way)] = steady_elements(way.program, self._ways.chip, self._ways.isa)
        return high * wide < steady and not way.chooser.fits(2 * high, wide)

    def _pays(self, values: Sequence[int], linked: bool) -> bool:
        """Whether one launch is estimated to take no longer than one of each part, by more than estimates may be wrong."""
        enough = _SURE * self.whole.cycles(values)
        (elements,) = self._elements(*values)
        if enough <= self._costs[linked]([elements * each for each in self._for_element]):
            return True
        return enough <= self._costs[linked]([each.cycles(values) for each in self._apart])

    def _cut(self, values: Sequence[int]) -> Reduced:
        found = _together([each.launch(values) for each in self._apart])
        dims, at = self._dims(*values), 0
        tensors: list[TensorSpec] = []
        for each in self._segment.handed:
            tensors.append(TensorSpec(each.name, each.kind, each.dtype, tuple(dims[at : at + len(each.shape)])))
            at += len(each.shape)
        return Reduced(found.launches, (*found.tensors, *tensors))

    @cached_property
    def _apart(self) -> tuple[VectorLaunches, ...]:
        return tuple(VectorLaunches(each, self._ways) for each in self._segment.parts)


def _bytes(segment: VectorSegment, *, far: bool = False) -> int:
    """Bytes that are moved for each element of the domain, or those of them that come from main memory."""
    moved = [node for node, access in segment.reads if not (far and access.tensor.name in segment.near)]
    moved += [] if far else [node for node, _ in segment.writes]
    return sum(DTYPES[node.type.dtype].item_bytes for node in moved if node.type.shape == segment.domain)


class _CubeLaunches:
    """Launches of a matrix product or a convolution."""

    def __init__(
        self,
        segment: CubeSegment,
        names: Sequence[str],
        chip: NpuConfig,
        isa: Isa,
        like: CubeSegment | None = None,
    ) -> None:
        self._segment, self._names, self._chip, self._isa = segment, names, chip, isa
        self._family = family_of(segment, names, chip, isa, like)

    def launch(self, values: Sequence[int], *, linked: bool = False) -> Launch | None:
        image = self._family.instance(values)
        if image is not None:
            return Launch(self._segment.name, "cube", image, self._family.tensors, self._segment.written)
        binding = dict(zip(self._names, values, strict=True))
        made = compile_cube_segment(self._segment, binding, self._chip, self._isa)
        return None if made is None else Launch(self._segment.name, "cube", *made, self._segment.written)

    def cycles(self, values: Sequence[int]) -> float:
        """Estimated cycles of the launch; see `CubeFamily.cycles`."""
        return self._family.cycles(values)

    def alike(self, values: Sequence[int]) -> bool:
        """One launch is one, linked with others or not."""
        return True


class PickLaunches:
    """Launches of rows picked by index."""

    def __init__(self, segment: PickSegment, names: Sequence[str], chip: NpuConfig, isa: Isa) -> None:
        self._segment, self._names, self._family = segment, names, PickFamily(chip, isa)

    def launch(self, values: Sequence[int]) -> Launch | None:
        spec, args = lower_pick(self._segment, dict(zip(self._names, values, strict=True)))
        image = self._family.instance(spec, len(args))
        return None if image is None else Launch(self._segment.name, "vector", image, args, self._segment.written)


def _together(made: Iterable[Launch | Reduced | None]) -> Reduced:
    """Launches of several segments, in order."""
    parts = [Reduced((each,), ()) if isinstance(each, Launch) else each for each in made if each is not None]
    return Reduced(
        tuple(launch for each in parts for launch in each.launches),
        tuple(tensor for each in parts for tensor in each.tensors),
    )


class MixLaunches:
    """Launches of a product and the vector operations on it: one, or one for each where a shape does not allow that, or where
    that is estimated to be faster.
    """

    def __init__(
        self,
        segment: MixSegment,
        ways: Ways,
        like: CubeSegment | None = None,
        plain: ProductLaunches | None = None,
    ) -> None:
        self._segment, self._ways = segment, ways
        names, chip, isa = ways.names, ways.chip, ways.isa
        self._name, self._written = segment.name, segment.written
        known = plain._family if isinstance(plain, MixLaunches) and isinstance(plain._family, MixFamily) else None
        try:
            self._family: MixFamily | ConvMixFamily | None = mix_family_of(segment, names, chip, isa, like, known)
        except CompileError:
            self._family = None
        self._always = ways.always or like is not None
        """Operands that were copied lie as a mix wants them, in one launch with it."""
        self._prepared = self._always
        self._costs = tuple(LaunchCost.of(chip, linked=linked) for linked in (False, True))

    def launch(self, values: Sequence[int], *, linked: bool = False) -> Launch | Reduced | None:
        """The launches; where they are going to be `linked` with others into one, launches cost the host nothing."""
        if not self._prepared:
            self._prepared = True
            with suppress(CompileError):  # the shape that needs the parts will say why there are none
                _ = self._apart
        chosen = None if self._family is None else self._family.choose(values)
        if self._family is None or chosen is None or not self._pays(values, chosen, linked):
            return _together(each.launch(values) for each in self._apart)
        return Launch(self._name, "mix", self._family.image(values, chosen), self._family.tensors, self._written)

    def behind(self, values: Sequence[int]) -> float:
        """Estimated cycles that vector operations take beyond the product."""
        chosen = None if self._family is None else self._family.choose(values)
        return self._apart[1].cycles(values) if chosen is None else chosen.behind

    def weighed(self, values: Sequence[int], *, linked: bool = False) -> Weighed:
        """What is known of both ways."""
        chosen = None if self._family is None else self._family.choose(values)
        if chosen is None or self._family is None:
            return Weighed(False, 0.0, tuple([each.cycles(values) for each in self._apart]))
        apart = chosen.product, self._apart[1].cycles(values)
        room = None, self._apart[1].ub_bytes(values)
        together, own = chosen.product + chosen.behind, self._family.ub_bytes(chosen)
        return Weighed(self._pays(values, chosen, linked), together, apart, own, room)

    def cycles(self, values: Sequence[int]) -> float:
        """Estimated cycles of the launch, or of those of the parts behind each other."""
        chosen = None if self._family is None else self._family.choose(values)
        if chosen is None or not self._pays(values, chosen, False):
            return self._costs[False]([each.cycles(values) for each in self._apart])
        return chosen.product + chosen.behind

    def alike(self, values: Sequence[int]) -> bool:
        """Whether the launches are the same where they are going to be linked with others and where not."""
        chosen = None if self._family is None else self._family.choose(values)
        return chosen is None or self._pays(values, chosen, False) == self._pays(values, chosen, True)

    def _pays(self, values: Sequence[int], chosen: MixChosen, linked: bool) -> bool:
        """Whether one launch is estimated to take no longer than one of each part.

        The time that the host needs for a launch passes while the product runs, whose estimate may be too high.
        """
        cost, product = self._costs[linked], chosen.product / _TOO_HIGH
        # What the product takes is the same both ways, or less than the host needs for the next launch.
        room = cost.between + max(0.0, cost.host - product) + _WORTH * product
        if self._always or chosen.behind <= room + chosen.alone:
            return True
        return chosen.behind <= room + self._apart[1].cycles(values)

    @cached_property
    def _apart(self) -> tuple[ProductLaunches, VectorLaunches]:
        """Both parts for themselves, ready to be asked."""
        product, vector = self._segment.apart
        alone = VectorLaunches(vector, self._ways)
        alone.prepare()
        return _product_launches(product, self._ways), alone


class RelayLaunches:
    """Launches of a relay: one, where a shape allows it and it is estimated to take no longer than one for each part."""

    def __init__(self, segment: RelaySegment, ways: Ways) -> None:
        self._segment, self._ways = segment, ways
        self._name, self._written = segment.name, segment.written
        try:
            self._family: RelayFamily | None = RelayFamily(segment, ways.names, ways.chip, ways.isa)
        except CompileError:
            self._family = None
        self._prepared = ways.always
        self._costs = tuple(LaunchCost.of(ways.chip, linked=linked) for linked in (False, True))

    def launch(self, values: Sequence[int], *, linked: bool = False) -> Launch | Reduced | None:
        """The launches; where they are going to be `linked` with others into one, launches cost the host nothing."""
        if not self._prepared:
            self._prepared = True
            with suppress(CompileError):  # the shape that needs the parts will say why there are none
                _ = self._apart
        chosen = None if self._family is None else self._family.choose(values)
        if self._family is None or chosen is None or not self._pays(values, chosen, linked):
            return _together(
                each.launch(values) if isinstance(each, VectorLaunches) else each.launch(values, linked=linked)
                for each in self._apart
            )
        image, between = self._family.image(values, chosen)
        return Reduced((Launch(self._name, "mix", image, self._family.tensors, self._written),), between)

    def weighed(self, values: Sequence[int], *, linked: bool = False) -> Weighed:
        """What is known of both ways."""
        chosen = None if self._family is None else self._family.choose(values)
        if chosen is None:
            return Weighed(False, 0.0, tuple([each.cycles(values) for each in self._apart]))
        return Weighed(
            self._pays(values, chosen, linked), chosen.cycles, tuple(self._lower(values, self._like(values, chosen)))
        )

    def alike(self, values: Sequence[int]) -> bool:
        """Whether the launches are the same where they are going to be linked with others and where not."""
        chosen = None if self._family is None else self._family.choose(values)
        taken = [chosen is not None and self._pays(values, chosen, linked) for linked in (False, True)]
        if any(taken):
            return all(taken)
        return all(isinstance(each, VectorLaunches) or each.alike(values) for each in self._apart)

    def cycles(self, values: Sequence[int]) -> float:
        """Estimated cycles of the launch, or of those of the parts behind each other."""
        found = self.weighed(values)
        return found.together if found.taken else self._costs[False](found.apart)

    def _pays(self, values: Sequence[int], chosen: Chosen, linked: bool) -> bool:
        """Whether one launch takes no longer than one of each part.

        A product has two estimates: its own, and that of the rule by which the relay's was made. The own are to tell tiles
        apart, and are too high for many small matrices, so the lower one counts.
        """
        cost, parts = self._costs[linked], self._apart
        if self._ways.always or chosen.cycles <= cost.least(len(parts)):
            return True
        like = self._like(values, chosen)
        return chosen.cycles <= cost(like) and chosen.cycles <= cost(self._lower(values, like))

    def _like(self, values: Sequence[int], chosen: Chosen) -> list[float]:
        """Estimates of the parts, of products by the rule by which the relay's was made."""
        likes = iter(chosen.products)
        found: list[float] = []
        for each in self._apart:
            if isinstance(each, VectorLaunches):
                found.append(each.cycles(values))
            else:
                mix = mix_of(each)
                found.append(next(likes) + (0.0 if mix is None else mix.behind(values)))
        return found

    def _lower(self, values: Sequence[int], like: Sequence[float]) -> list[float]:
        """The lower estimates of the parts."""
        return [
            found if isinstance(each, VectorLaunches) else min(each.cycles(values), found)
            for each, found in zip(self._apart, like, strict=True)
        ]

    @cached_property
    def _apart(self) -> tuple[VectorLaunches | ProductLaunches, ...]:
        """The parts for themselves, ready to be asked; a product still together with what follows it element by element."""
        found: list[VectorLaunches | ProductLaunches] = []
        for part in join_products(self._segment.parts):
            if isinstance(part, CubeSegment | MixSegment):
                product = _product_launches(part, self._ways)
                if isinstance(product, PaddedLaunches | SplitLaunches):
                    product.prepare()
                found.append(product)
            elif isinstance(part, VectorSegment):
                vector = VectorLaunches(part, self._ways)
                vector.prepare()
                found.append(vector)
        return tuple(found)


def mix_of(launches: ProductLaunches) -> MixLaunches | None:
    """What decides whether a product and what follows it share a program; None of a product alone."""
    while isinstance(launches, PaddedLaunches | SplitLaunches):
        launches = launches.plain
    return launches if isinstance(launches, MixLaunches) else None


def _product_launches(segment: CubeSegment | MixSegment, ways: Ways) -> ProductLaunches:
    """Launches of a product, alone or in a mix, with copies of its operands and in parts of k where these may pay."""

    def make(each: CubeSegment | MixSegment, symbols: Sequence[str], like: CubeSegment | None) -> ProductLaunches:
        if isinstance(each, MixSegment):
            # Operands that were copied are not copied again for parts on their own.
            again: Padding = "never" if like else ways.padding
            own = replace(ways, names=tuple(symbols), padding=again, split=1)
            return MixLaunches(each, own, like, plain if like else None)
        return _CubeLaunches(each, symbols, ways.chip, ways.isa, like)

    product = PaddedProduct.of(segment, ways.names, ways.chip, ways.isa, ways.padding)
    plain = make(segment, ways.names, None)
    parts = SplitProduct.of(segment, ways.names, ways.chip, ways.isa, ways.split)
    whole = plain if parts is None else SplitLaunches(parts, plain)
    return whole if product is None else PaddedLaunches(product, whole, parts, make)


SegmentLaunches = VectorLaunches | CutLaunches | ProductLaunches | PickLaunches | RelayLaunches


def launches_of(segment: Joint, ways: Ways) -> SegmentLaunches:
    """What makes the launches of a segment for values of the symbols."""
    if isinstance(segment, RelaySegment):
        return RelayLaunches(segment, ways)
    if isinstance(segment, CutSegment):
        return CutLaunches(segment, ways)
    if isinstance(segment, CubeSegment | MixSegment):
        return _product_launches(segment, ways)
    if isinstance(segment, PickSegment):
        return PickLaunches(segment, ways.names, ways.chip, ways.isa)
    return VectorLaunches(segment, ways)
