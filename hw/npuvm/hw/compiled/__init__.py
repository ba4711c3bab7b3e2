"""The compiled engine: the timing of `npuvm.hw.engine.chip`, to the cycle, as a few loops over arrays of integers."""

from __future__ import annotations

from npuvm.hw.compiled.backend import Backend, BackendName, backend_of
from npuvm.hw.compiled.machine import CompiledMachine
from npuvm.hw.compiled.sections import timed_semaphores
from npuvm.hw.compiled.table import LineTable

__all__ = ["Backend", "BackendName", "CompiledMachine", "LineTable", "backend_of", "timed_semaphores"]
