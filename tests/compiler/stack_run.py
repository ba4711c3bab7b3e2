"""Runs compiled kernels on the simulator with verifier and hazard checks on, and in the compiled engine for the same cycles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tests.compiler.vector_run import limits_of, the_isa

from npuvm.compiler import DTYPES, CompiledKernel
from npuvm.hw.config import NpuConfig
from npuvm.hw.functional.state import GlobalMemory
from npuvm.hw.simulator import simulate
from npuvm.isa.verifier import verify

Array = npt.NDArray[Any]

_GUARD = 512
"""Bytes between tensors, outside every window, so that a stray access traps."""


@dataclass(frozen=True)
class Ran:
    """Outputs by name, and the cycles of every launch."""

    outputs: dict[str, Array]
    cycles: tuple[int, ...]


def run_compiled(compiled: CompiledKernel, inputs: dict[str, Array], chip: NpuConfig) -> Ran:
    """All launches of a kernel; results and workspace start as garbage, so that what is not written is seen."""
    isa = the_isa()
    memory = GlobalMemory(1 << 28)
    places: dict[str, tuple[int, int]] = {}
    at = _GUARD

    def reserve(nbytes: int) -> int:
        nonlocal at
        start, at = at, (at + nbytes + 2 * _GUARD) // _GUARD * _GUARD
        memory.reserve(at)
        if nbytes:
            memory.write(start, np.full(nbytes, 0x4D, dtype=np.uint8))
        return start

    workspace = reserve(compiled.workspace_bytes)
    for spec in compiled.tensors:
        shared = spec.kind == "workspace"
        places[spec.name] = workspace + spec.offset if shared else reserve(spec.nbytes), spec.nbytes
        if spec.kind == "param" and spec.nbytes:
            memory.write(places[spec.name][0], np.frombuffer(inputs[spec.name].tobytes(), dtype=np.uint8))
    cycles = []
    for launch in compiled.launches:
        windows = [places[name] for name in launch.args]
        addresses = [address for address, _ in windows]
        verify(isa, launch.image, limits_of(chip.name), argument_bytes=[nbytes for _, nbytes in windows])
        ran = simulate(chip, isa, launch.image, memory=memory, addresses=addresses, windows=windows)
        timed = simulate(chip, isa, launch.image, addresses=addresses, windows=windows, data=False, engine="compiled")
        assert timed.cycles == ran.cycles
        cycles.append(ran.cycles)
    outputs = {}
    for spec in compiled.tensors:
        if spec.kind == "output":
            raw = memory.read(*places[spec.name]).tobytes()
            outputs[spec.name] = np.frombuffer(raw, dtype=DTYPES[spec.dtype].numpy).reshape(spec.shape)
    return Ran(outputs, tuple(cycles))
