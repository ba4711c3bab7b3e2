"""A case in the modes of fusion, on the simulator in time only."""

from __future__ import annotations

from typing import NamedTuple

from benchmarks.fusing.case import Case, shapes_of

from npuvm.compiler import Pins
from npuvm.compiler.language.pins import FUSIONS
from npuvm.hw.config import NpuConfig
from npuvm.hw.functional.indices import IndexDistribution
from npuvm.runtime import Device

__all__ = ["CALLS", "Timed", "measure"]

CALLS = 10


class Timed(NamedTuple):
    """A case at one shape in one mode, all in simulated time.

    `cycles` of the second call on the chip alone, which is the time without any cost of the host; `l2_bytes` and `hbm_bytes`
    of the same call. `one_us` ends with the result of a single call, `each_us` is from call to call of ten in a row; both have
    the host's time for each launch.
    """

    launches: int
    cycles: int
    l2_bytes: int
    hbm_bytes: int
    one_us: float
    each_us: float


def measure(case: Case, at: int, chip: NpuConfig) -> dict[str, Timed]:
    """The modes of a case at its shape number `at`."""
    return {fusion: _timed(case, at, chip, Pins(fusion=fusion)) for fusion in FUSIONS}


def _timed(case: Case, at: int, chip: NpuConfig, pins: Pins) -> Timed:
    device = Device(chip, timing_only=True, indices=IndexDistribution("uniform"))
    params = case.kernel.graph.params
    shapes = shapes_of(case.kernel, case.sizes[at])
    inputs = {each.name: device.empty(shapes[each.name], each.type.dtype) for each in params}

    def call() -> None:
        for tensor in device.run(case.kernel, inputs, pins=pins).values():
            tensor.free()

    call()
    before, first = len(device.launches), device.stream.end_us
    call()
    results = [record.result for record in device.launches[before:]]
    for _ in range(CALLS - 1):
        call()
    return Timed(
        len(results),
        sum(each.cycles for each in results),
        sum(each.bytes["l2"] for each in results),
        sum(each.bytes["hbm_read"] + each.bytes["hbm_write"] for each in results),
        first,
        (device.stream.end_us - first) / CALLS,
    )
