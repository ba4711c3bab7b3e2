"""A compiled kernel's launches on the simulator, time only."""

from __future__ import annotations

from npuvm.compiler import CompiledKernel
from npuvm.hw.config import NpuConfig
from npuvm.hw.errors import TrapError
from npuvm.hw.memory.l2 import L2State
from npuvm.hw.simulator import l2_state, simulate, timing_engine
from npuvm.isa import Isa

__all__ = ["simulate_kernel"]

_ALIGN = 512


def simulate_kernel(
    made: CompiledKernel, chip: NpuConfig, isa: Isa, limit: int | None = None, gap: int = 0
) -> int | None:
    """Cycles of a kernel's launches, one after the other; the first finds nothing in L2. None where they are over `limit`.

    Tensors lie one after the other, with a gap of `gap` times 512 bytes before each, those of the workspace where the kernel
    has them in it.
    """
    windows: dict[str, tuple[int, int]] = {}
    at = gap * _ALIGN
    for each in made.tensors:
        if each.kind != "workspace":
            windows[each.name] = at, each.nbytes
            at += (-(-each.nbytes // _ALIGN) + gap) * _ALIGN
    windows |= {each.name: (at + each.offset, each.nbytes) for each in made.tensors if each.kind == "workspace"}
    l2: L2State = l2_state(chip)
    cycles = 0
    for launch in made.launches:
        own = [windows[name] for name in launch.args]
        left = None if limit is None else limit - cycles
        if left is not None and left <= 0:
            return None
        try:
            cycles += simulate(
                chip,
                isa,
                launch.image,
                addresses=[address for address, _ in own],
                windows=own,
                data=False,
                l2=l2,
                cycle_limit=left,
                engine=timing_engine(),
            ).cycles
        except TrapError:
            return None
    return cycles
