"""Segments of a plan, each with the launches that an instance of it becomes."""

from __future__ import annotations

from collections.abc import Sequence

from npuvm.compiler.padding.launches import ProductLaunches
from npuvm.compiler.pick.codegen import PickFamily
from npuvm.compiler.pick.segment import lower_pick
from npuvm.compiler.plan.joint import CutSegment, Joint, MixSegment, RelaySegment
from npuvm.compiler.plan.segments import CubeSegment, PickSegment
from npuvm.compiler.program.compiled import Launch
from npuvm.compiler.program.joint_launches import RelayLaunches, product_launches
from npuvm.compiler.vector.launches import CutLaunches, VectorLaunches, Ways
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = ["PickLaunches", "SegmentLaunches", "launches_of"]


class PickLaunches:
    """Launches of rows picked by index."""

    def __init__(
        self, segment: PickSegment, names: Sequence[str], chip: NpuConfig, isa: Isa, buffering: str | None = None
    ) -> None:
        self._segment, self._names = segment, names
        self._family = PickFamily(chip, isa, buffering=buffering)

    def launch(self, values: Sequence[int]) -> Launch | None:
        spec, args = lower_pick(self._segment, dict(zip(self._names, values, strict=True)))
        image = self._family.instance(spec, len(args))
        return None if image is None else Launch(self._segment.name, "vector", image, args, self._segment.written)


SegmentLaunches = VectorLaunches | CutLaunches | ProductLaunches | PickLaunches | RelayLaunches


def launches_of(segment: Joint, ways: Ways) -> SegmentLaunches:
    """What makes the launches of a segment for values of the symbols."""
    if isinstance(segment, RelaySegment):
        return RelayLaunches(segment, ways)
    if isinstance(segment, CutSegment):
        return CutLaunches(segment, ways)
    if isinstance(segment, CubeSegment | MixSegment):
        return product_launches(segment, ways)
    if isinstance(segment, PickSegment):
        return PickLaunches(segment, ways.names, ways.chip, ways.isa, ways.buffering)
    return VectorLaunches(segment, ways)
