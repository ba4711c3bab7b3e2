"""cocotb bench of the front stage: runs 0 to FRONT_RUNS - 1, each from its files to its log (`hw/rtl/bench/front_bench.sv`).

The hardware description does the work and writes what happened; this only gives the clock and waits. Loaded by the simulator.
"""

from __future__ import annotations

import os
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge

__all__ = ["run_all"]


@cocotb.test()
async def run_all(dut: Any) -> None:
    """Load, reset, start and wait, for each run."""
    dut.load.value = dut.start.value = 0
    dut.rst.value = 1
    Clock(dut.clk, 2, unit="ns").start()
    for run in range(int(os.environ["FRONT_RUNS"])):
        await FallingEdge(dut.clk)
        dut.rst.value = 1
        dut.run.value = run
        dut.load.value = 1
        await FallingEdge(dut.clk)
        dut.load.value = 0
        await FallingEdge(dut.clk)
        dut.rst.value = 0
        dut.start.value = 1
        await FallingEdge(dut.clk)
        dut.start.value = 0
        await RisingEdge(dut.over)
