"""The same addition over and over at given addresses of UB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.validation.builders import Case, Launch, builder
from benchmarks.validation.programs import core_of, image_of

from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = ["bank_conflict_case"]


@builder("bank_conflict")
def bank_conflict_case(chip: NpuConfig, isa: Isa, params: Mapping[str, Any]) -> Case:
    """The launch of one row, in cycles of one addition.

    Each begins when the one before is complete (`order`): in place it must, and the source measured the same time in place
    and not.
    """
    operands = [
        f"desc desc=d{i} space=ub base={params[name]} pitch={4 * params['elements']}" for i, name in enumerate("xyz")
    ]
    body = [
        f"szc size=s0 full={params['adds']}",
        "szc size=s1 full=1",
        f"szc size=s2 full={params['elements']}",
        *operands,
        "loop loop=l0 trip=s0",
        "  vadd.fp32 dst=d2 a=d0 b=d1 rows=s1 cols=s2 | order",
        "endloop",
    ]
    image = image_of(isa, "bank_conflict", core_of(chip, "vector"), 0, [()], "\n".join(body))
    return Case((Launch(image),), operations=params["adds"])
