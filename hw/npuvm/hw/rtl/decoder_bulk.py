"""cocotb bench of `npu_decoder_vectors`: starts it and waits for the end. Runs inside the simulator."""

from __future__ import annotations

from typing import Any

import cocotb
from cocotb.triggers import RisingEdge, Timer

__all__ = ["decode_all"]


@cocotb.test()
async def decode_all(dut: Any) -> None:
    """Decode the whole file."""
    await Timer(1, "ns")
    dut.start.value = 1
    await RisingEdge(dut.done)
