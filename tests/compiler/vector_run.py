"""Compiles a plan and runs its segments one after the other on the simulator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from tests.compiler.graphs import CASTS

from npuvm.compiler import DTYPES, Graph
from npuvm.compiler.cube.segment import compile_cube_segment, family_of
from npuvm.compiler.graph.symbols import evaluate
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.pick.codegen import compile_pick
from npuvm.compiler.pick.segment import lower_pick
from npuvm.compiler.plan.plan import Plan, make_plan
from npuvm.compiler.plan.segments import PickSegment, VectorSegment
from npuvm.compiler.program.pins import pins_of_segment
from npuvm.compiler.vector.codegen import VectorKernel, compile_vector
from npuvm.compiler.vector.family import VectorFamily
from npuvm.compiler.vector.space import RowsDoNotFit
from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.functional.state import GlobalMemory
from npuvm.hw.results.stats import RunResult
from npuvm.hw.simulator import simulate
from npuvm.isa import Image, Isa, load_isa
from npuvm.isa.verifier import CapacityLimits, verify

Array = npt.NDArray[Any]

CHIPS = ("ascend_910a", "ascend_910b1", "edge")
GUARD = 256
"""Bytes between tensors, outside every window, so that a stray access traps."""


@cache
def the_isa() -> Isa:
    """The instruction set, loaded once."""
    return load_isa()


@cache
def the_chip(name: str) -> NpuConfig:
    """A shipped chip, loaded once."""
    return load_chip(name)


@cache
def limits_of(name: str) -> CapacityLimits:
    """What the static verifier allows on a shipped chip."""
    chip = the_chip(name)
    spaces: dict[str, dict[str, int]] = {}
    units: dict[str, frozenset[str]] = {}
    cores: dict[str, int] = {}
    for each in chip.core_types():
        spaces[each] = {space: chip.capacity_bytes(space) for space in chip.spaces(each) if space != "gm"}
        units[each] = frozenset(chip.units(each))
        cores[each] = cores.get(each, 0) + 1
    return CapacityLimits(spaces, units, cores, chip.group_core_types)


@dataclass
class Ran:
    """Outputs by name, and the vector kernels with their runs in order."""

    outputs: dict[str, Array]
    plan: Plan
    kernels: list[VectorKernel] = field(default_factory=list)
    runs: list[RunResult] = field(default_factory=list)


def run_graph(
    graph: Graph, inputs: dict[str, Array], chip: NpuConfig, pins: Pins | None = None, isa: Isa | None = None
) -> Ran:
    """The outputs of a kernel; cut at its reduces when whole rows do not fit."""
    try:
        return run_plan_on(make_plan(graph, CASTS), inputs, chip, pins, isa)
    except RowsDoNotFit:
        return run_plan_on(make_plan(graph, CASTS, whole_rows=False), inputs, chip, pins, isa)


def instance(
    segment: VectorSegment, binding: Mapping[str, int], chip: NpuConfig, isa: Isa
) -> tuple[Image, tuple[str, ...]]:
    """The image of a segment from its templates, as `compile_kernel` makes it."""
    made = VectorFamily(segment, tuple(binding), chip, isa).instance(tuple(binding.values()))
    if made is not None:
        return made
    kernel = compile_vector(segment, binding, chip, isa)
    assert kernel is not None
    return kernel.image, kernel.tensors


def run_plan_on(
    plan: Plan, inputs: dict[str, Array], chip: NpuConfig, pins: Pins | None = None, isa: Isa | None = None
) -> Ran:
    """Run every segment of a plan; results start as garbage, so that what is not written is seen."""
    binding = plan.graph.bind({name: array.shape for name, array in inputs.items()})
    isa = isa or the_isa()
    memory = GlobalMemory(1 << 28)
    places: dict[str, tuple[int, int]] = {}
    at = GUARD
    for tensor in plan.tensors:
        size = tensor.nbytes(binding)
        places[tensor.name] = at, size
        memory.reserve(at + size)
        data = inputs[tensor.name].tobytes() if tensor.kind == "param" else b"\x4d" * size
        if size:
            memory.write(at, np.frombuffer(data, dtype=np.uint8))
        at = (at + size + 2 * GUARD) // GUARD * GUARD
    ran = Ran({}, plan)
    for segment in plan.segments:
        if isinstance(segment, VectorSegment):
            kernel = compile_vector(segment, binding, chip, isa, pins)
            if kernel is None:
                continue
            image, names = kernel.image, kernel.tensors
            ran.kernels.append(kernel)
            if pins is None:
                image, names = instance(segment, binding, chip, isa)
            verify(isa, image, limits_of(chip.name), argument_bytes=[places[name][1] for name in names])
        elif isinstance(segment, PickSegment):
            rows, names = lower_pick(segment, binding)
            picked = compile_pick(rows, len(names), chip, isa, pins_of_segment(pins or Pins(), segment, plan.segments))
            if picked is None:
                continue
            image = picked.image
            verify(isa, image, limits_of(chip.name), argument_bytes=[places[name][1] for name in names])
        else:
            product = compile_cube_segment(segment, binding, chip, isa)
            if product is None:
                continue
            image, names = product
            image = family_of(segment, tuple(binding), chip, isa).instance(tuple(binding.values())) or image
            verify(isa, image, limits_of(chip.name), argument_bytes=[places[name][1] for name in names])
        windows = [places[name] for name in names]
        addresses = [address for address, _ in windows]
        ran.runs.append(simulate(chip, isa, image, memory=memory, addresses=addresses, windows=windows))
    for tensor in plan.tensors:
        if tensor.kind == "output":
            address, size = places[tensor.name]
            raw = memory.read(address, size).tobytes()
            shape = evaluate(tensor.shape, binding)
            ran.outputs[tensor.name] = np.frombuffer(raw, dtype=DTYPES[tensor.dtype].numpy).reshape(shape)
    return ran
