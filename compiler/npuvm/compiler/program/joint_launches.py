"""Launches of products, and of what shares a program with them where that is estimated to be faster."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property

from npuvm.compiler.conv.mix import ConvMixFamily, mix_family_of
from npuvm.compiler.conv.relay import RelayChosen, RelayPrograms, relay_family_of
from npuvm.compiler.conv.segment import ConvSegment
from npuvm.compiler.cube.family import CubeFamily
from npuvm.compiler.cube.segment import compile_cube_segment, family_of
from npuvm.compiler.errors import CompileError
from npuvm.compiler.fusion.launch_cost import LaunchCost
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.mix.cores import MixChosen
from npuvm.compiler.mix.family import MixFamily
from npuvm.compiler.mix.segment import join_products
from npuvm.compiler.padding.launches import PaddedLaunches, PaddedProduct, Padding, ProductLaunches
from npuvm.compiler.plan.joint import MixSegment, RelaySegment
from npuvm.compiler.plan.segments import CubeSegment, VectorSegment
from npuvm.compiler.program.compiled import Launch
from npuvm.compiler.reduce.launches import Reduced
from npuvm.compiler.split.launches import SplitLaunches, SplitProduct
from npuvm.compiler.vector.launches import VectorLaunches, Ways, Weighed, in_order
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = ["MixLaunches", "RelayLaunches", "mix_of", "product_launches"]


_TOO_HIGH = 2.0
"""How many times too high estimates of products are at most, which are to tell tiles apart: small ones on `ascend_910b1`."""


_WORTH = 0.04
"""Share of a product's cycles that two launches have to save, as two programs cost a new shape more time of the host."""


class _CubeLaunches:
    """Launches of a matrix product or a convolution."""

    def __init__(
        self,
        segment: CubeSegment,
        names: Sequence[str],
        chip: NpuConfig,
        isa: Isa,
        like: CubeSegment | None = None,
        buffering: str | None = None,
    ) -> None:
        self._segment, self._names, self._chip, self._isa = segment, names, chip, isa
        self._family = family_of(segment, names, chip, isa, like, buffering)
        self.family = self._family if isinstance(self._family, CubeFamily) else None
        self._pins = Pins(buffering=buffering)

    def prepare(self) -> None:
        """Nothing is made late."""

    def launch(self, values: Sequence[int], *, linked: bool = False) -> Launch | None:
        image = self._family.instance(values)
        if image is not None:
            return Launch(self._segment.name, "cube", image, self._family.tensors, self._segment.written)
        binding = dict(zip(self._names, values, strict=True))
        made = compile_cube_segment(self._segment, binding, self._chip, self._isa, self._pins)
        return None if made is None else Launch(self._segment.name, "cube", *made, self._segment.written)

    def cycles(self, values: Sequence[int]) -> float:
        """Estimated cycles of the launch; see `CubeFamily.cycles`."""
        return self._family.cycles(values)

    def alike(self, values: Sequence[int]) -> bool:
        """One launch is one, linked with others or not."""
        return True


class _JointLaunches(ABC):
    """Launches of segments that share a program where that pays, and have programs of their own where not."""

    family = None

    def __init__(self, ways: Ways, *, always: bool) -> None:
        self._ways, self._always = ways, always
        self._prepared = always
        self._costs = tuple(LaunchCost.of(ways.chip, linked=linked) for linked in (False, True))

    def prepare(self) -> None:
        """Make the parts for themselves, so that no shape that needs them waits for it."""
        if self._prepared:
            return
        self._prepared = True
        with suppress(CompileError):  # the shape that needs the parts will say why there are none
            _ = self._apart

    @cached_property
    @abstractmethod
    def _apart(self) -> tuple[VectorLaunches | ProductLaunches, ...]:
        """The parts for themselves, ready to be asked."""


class MixLaunches(_JointLaunches):
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
        # Operands that were copied lie as a mix wants them, in one launch with it.
        super().__init__(ways, always=ways.always or like is not None)
        self._segment = segment
        names, chip, isa = ways.names, ways.chip, ways.isa
        self._name, self._written = segment.name, segment.written
        known = plain._family if isinstance(plain, MixLaunches) and isinstance(plain._family, MixFamily) else None
        try:
            self._family: MixFamily | ConvMixFamily | None = mix_family_of(
                segment, names, chip, isa, like, known, ways.buffering
            )
        except CompileError:
            self._family = None

    def launch(self, values: Sequence[int], *, linked: bool = False) -> Launch | Reduced | None:
        """The launches; where they are going to be `linked` with others into one, launches cost the host nothing."""
        if not self._prepared:
            self.prepare()
        chosen = None if self._family is None else self._family.choose(values)
        if self._family is None or chosen is None or not self._pays(values, chosen, linked):
            return in_order(each.launch(values) for each in self._apart)
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
        # Where the product alone is worth copies, the mix is: they are needed where it cannot be had with them.
        return product_launches(product, self._ways, late=True), alone


class RelayLaunches(_JointLaunches):
    """Launches of a relay: one, where a shape allows it and it is estimated to take no longer than one for each part."""

    def __init__(self, segment: RelaySegment, ways: Ways) -> None:
        super().__init__(ways, always=ways.always)
        self._segment = segment
        self._name, self._written = segment.name, segment.written
        try:
            self._family: RelayPrograms | None = relay_family_of(
                segment, ways.names, ways.chip, ways.isa, ways.buffering
            )
        except CompileError:
            self._family = None

    def launch(self, values: Sequence[int], *, linked: bool = False) -> Launch | Reduced | None:
        """The launches; where they are going to be `linked` with others into one, launches cost the host nothing."""
        if not self._prepared:
            self.prepare()
        chosen = None if self._family is None else self._family.choose(values)
        if self._family is None or chosen is None or not self._pays(values, chosen, linked):
            return in_order(
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

    def linked_cycles(self, values: Sequence[int]) -> tuple[float, ...]:
        """Estimated cycles of each program where all are going to be linked into one launch."""
        found = self.weighed(values, linked=True)
        return (found.together,) if found.taken else found.apart

    def _pays(self, values: Sequence[int], chosen: RelayChosen, linked: bool) -> bool:
        """Whether one launch takes no longer than one of each part.

        A product has two estimates: its own, and that of the rule by which the relay's was made. The own are to tell tiles
        apart, and are too high for many small matrices, so the lower one counts.
        """
        cost, parts = self._costs[linked], self._apart
        if self._always or chosen.cycles <= cost.least(len(parts)):
            return True
        found = self._like(values, chosen)
        if isinstance(self._segment.after, ConvSegment):
            # Its tiles are the same both ways, and so is what their estimate is wrong by.
            return chosen.cycles <= cost.repeated(found)
        if chosen.cycles > cost(found):
            return False
        for at, each in enumerate(parts):
            if not isinstance(each, VectorLaunches):
                found[at] = min(each.cycles(values), found[at])
                if chosen.cycles > cost(found):
                    return False
        return True

    def _like(self, values: Sequence[int], chosen: RelayChosen) -> list[float]:
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
                product = product_launches(part, self._ways)
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


def product_launches(segment: CubeSegment | MixSegment, ways: Ways, *, late: bool = False) -> ProductLaunches:
    """Launches of a product, alone or in a mix, with copies of its operands and in parts of k where these may pay.

    For `late` see `PaddedLaunches`.
    """

    def make(each: CubeSegment | MixSegment, symbols: Sequence[str], like: CubeSegment | None) -> ProductLaunches:
        if isinstance(each, MixSegment):
            # Operands that were copied are not copied again for parts on their own.
            again: Padding = "never" if like else ways.padding
            own = replace(ways, names=tuple(symbols), padding=again, split=1)
            return MixLaunches(each, own, like, plain if like else None)
        return _CubeLaunches(each, symbols, ways.chip, ways.isa, like, ways.buffering)

    product = PaddedProduct.of(segment, ways.names, ways.chip, ways.isa, ways.padding, ways.buffering)
    plain = make(segment, ways.names, None)
    parts = SplitProduct.of(segment, ways.names, ways.chip, ways.isa, ways.split, ways.buffering)
    whole = plain if parts is None else SplitLaunches(parts, plain)
    return whole if product is None else PaddedLaunches(product, whole, parts, make, late=late)
