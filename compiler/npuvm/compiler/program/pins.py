"""Which pins of a kernel reach which of its segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from npuvm.compiler.cube.problem import RINGS
from npuvm.compiler.language.pins import Pins, pin_error
from npuvm.compiler.plan.segments import CubeSegment, PickSegment, Segment

__all__ = ["pins_of_segment"]

T = TypeVar("T")

_CUBE_NAMES = frozenset((*RINGS, "a", "b", "bias", "c", "ones"))
_CUBE_LEVELS = ("l1", "l0")


def pins_of_segment(pins: Pins, segment: Segment, segments: Sequence[Segment]) -> Pins:
    """The pins of a kernel that hold for one of its segments.

    In a kernel of several segments an operand may be named for one of them ("c0.l0a", "v1.x"). Without that, the names of a
    matrix product and tiles at l1 and l0 go to its products, everything else by name, tile.vector and repeat to its vector
    segments. Events are for kernels of one segment.
    """
    if len(segments) == 1 or pins == Pins():
        return pins
    if pins.events is not None:
        pin_error("events", pins.events, "a kernel of one segment; this one has " + ", ".join(s.name for s in segments))
    if isinstance(segment, PickSegment):
        return Pins(cores=pins.cores, buffering=pins.buffering)
    names = {each.name for each in segments}
    for field in ("ring_depth", "address", "cache", "transfer"):
        for operand, value in getattr(pins, field).items():
            first, dot, _ = operand.partition(".")
            if dot and first not in names and operand not in _CUBE_NAMES:
                pin_error(f"{field}.{operand}", value, f"operands of segments {', '.join(sorted(names))}")
    cube = isinstance(segment, CubeSegment)
    mixed = len({isinstance(each, CubeSegment) for each in segments}) == 2

    def select(given: Mapping[str, T]) -> dict[str, T]:
        kept = {}
        for operand, value in given.items():
            first, _, rest = operand.partition(".")
            if first in names:
                if first == segment.name:
                    kept[rest] = value
            elif not mixed or (operand in _CUBE_NAMES) == cube:
                kept[operand] = value
        return kept

    tile = {level: shape for level, shape in pins.tile.items() if not mixed or (level in _CUBE_LEVELS) == cube}
    return replace(
        pins,
        tile=tile,
        l1_depth=None if mixed and not cube else pins.l1_depth,
        l1_k={} if mixed and not cube else pins.l1_k,
        l0c_parts=None if mixed and not cube else pins.l0c_parts,
        part=None if mixed and not cube else pins.part,
        repeat=None if mixed and cube else pins.repeat,
        ring_depth=select(pins.ring_depth),
        address=select(pins.address),
        cache=select(pins.cache),
        transfer=select(pins.transfer),
    )
