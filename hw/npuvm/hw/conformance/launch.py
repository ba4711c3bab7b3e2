"""A program case as a launch: its image, its arguments in global memory between guards, and what became of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.errors import TrapError
from npuvm.hw.functional.state import GlobalMemory
from npuvm.hw.launch import capacity_limits
from npuvm.isa import Image, Isa, assemble, verify
from npuvm.isa.conformance import Outcome, ProgramCase
from npuvm.isa.errors import NpuvmError

__all__ = ["Launch", "run_case"]

_GRAIN = 512
"""Arguments begin at multiples of this many bytes, with as many untouched ones at least on both sides."""

_GUARD = 0xA5
"""What the bytes around the arguments hold."""


@dataclass(frozen=True)
class Launch:
    """What a target needs to run a case: a chip, an image, memory with the arguments at `addresses`, the launch's windows."""

    chip: NpuConfig
    isa: Isa
    image: Image
    memory: GlobalMemory
    addresses: tuple[int, ...]
    windows: tuple[tuple[int, int], ...]
    cycle_limit: int | None


def run_case(isa: Isa, case: ProgramCase, run: Callable[[Launch], Any]) -> Outcome:
    """Assemble a case, verify it unless it is to trap, hand it to `run`, and take its arguments back.

    A program that is to trap is run as it stands, for most of what traps is refused by the verifier. Any error of this
    package is an outcome, among them that of a verifier rule, whose message ends in the rule's name in brackets. That a
    byte outside all arguments changed is an error, too.
    """
    try:
        launch = _launch(isa, case)
        if case.trap is None:
            sizes = [array.nbytes for array in case.arguments]
            verify(isa, launch.image, capacity_limits(launch.chip), argument_bytes=sizes)
        run(launch)
    except TrapError as exc:
        return Outcome(trap=exc.trap)
    except NpuvmError as exc:
        return Outcome(error=str(exc))
    found = tuple(launch.memory.read(base, size) for base, size in launch.windows)
    stray = _stray_writes(launch)
    return Outcome(found, error=f"wrote outside its arguments, at {stray:#x}") if stray is not None else Outcome(found)


def _launch(isa: Isa, case: ProgramCase) -> Launch:
    chip = _chip(case.chip)
    image = assemble(isa, case.text, case.id)
    windows = []
    at = _GRAIN
    for array in case.arguments:
        windows.append((at, array.nbytes))
        at += -(-array.nbytes // _GRAIN) * _GRAIN + _GRAIN
    memory = GlobalMemory(chip.capacity_bytes("gm"))
    memory.write(0, np.full(at, _GUARD, dtype=np.uint8))
    for (base, _), array in zip(windows, case.arguments, strict=True):
        memory.write(base, array)
    addresses = tuple(base for base, _ in windows)
    return Launch(chip, isa, image, memory, addresses, tuple(windows), case.cycle_limit)


def _stray_writes(launch: Launch) -> int | None:
    """The first byte outside the windows that is no guard any more."""
    start = 0
    end = launch.windows[-1][0] + launch.windows[-1][1] + _GRAIN if launch.windows else 0
    for base, size in (*launch.windows, (end, 0)):
        around: npt.NDArray[np.uint8] = launch.memory.read(start, base - start)
        changed = np.flatnonzero(around != _GUARD)
        if len(changed):
            return start + int(changed[0])
        start = base + size
    return None


@lru_cache(maxsize=16)
def _chip(name: str) -> NpuConfig:
    return load_chip(name)
