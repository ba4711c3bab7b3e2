"""What a launch may use of a chip: its capacities as the verifier wants them, and the core groups of an image's entries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npuvm.hw.errors import DeviceError
from npuvm.isa.verifier import CapacityLimits

if TYPE_CHECKING:
    from npuvm.hw.config import NpuConfig
    from npuvm.isa import Image

__all__ = ["capacity_limits", "core_groups"]


def capacity_limits(chip: NpuConfig) -> CapacityLimits:
    """What the verifier holds programs for a chip to."""
    kinds = tuple(dict.fromkeys(chip.group_core_types))
    every = chip.core_types()
    return CapacityLimits(
        space_bytes={
            kind: {space: chip.capacity_bytes(space) for space in chip.spaces(kind) if space != "gm"} for kind in kinds
        },
        units={kind: frozenset(chip.units(kind)) for kind in kinds},
        cores={kind: every.count(kind) for kind in kinds},
        group=chip.group_core_types,
    )


def core_groups(chip: NpuConfig, image: Image) -> list[int]:
    """The core group of each entry; DeviceError when the entries are not a prefix of the chip's cores."""
    types = [entry.core_type for entry in image.entries]
    order = chip.group_core_types
    kinds = set(types)
    if len(kinds) == 1 and kinds <= set(order):
        order = tuple(kind for kind in order if kind in kinds)
    whole = len(order) * chip.core.count
    if not types or len(types) > whole or any(kind != order[i % len(order)] for i, kind in enumerate(types)):
        allowed = f"up to {whole} cores in the order {', '.join(order)}, {chip.core.count} times"
        raise DeviceError(
            f"a launch on {len(types)} cores ({', '.join(sorted(kinds))}); {chip.name} has {allowed}", image.name
        )
    return [i // len(order) for i in range(len(types))]
