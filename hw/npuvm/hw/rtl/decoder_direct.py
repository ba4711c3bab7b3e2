"""cocotb bench of `npu_decoder` itself: one vector at a time, every output looked at. Runs inside the simulator.

Words past the end of the program are given as X where the simulator knows X: a prefetch buffer holds nothing there, and no
output may depend on it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cocotb
from cocotb.triggers import Timer
from cocotb.types import LogicArray

__all__ = ["decode_each"]


@cocotb.test()
async def decode_each(dut: Any) -> None:
    """Decode each vector of the file and write all outputs; fails on the first vector that leaves an output unknown."""
    task = json.loads(Path(os.environ["NPUVM_DECODER_TASK"]).read_text(encoding="utf-8"))
    rows: list[list[int]] = []
    for words, avail in task["vectors"]:
        missing = 64 * (len(words) - avail)
        known = "".join(f"{word:064b}" for word in reversed(words[:avail]))
        dut.words.value = LogicArray(("X" if task["unknown"] else "0") * missing + known)
        dut.avail.value = avail
        await Timer(1, "ns")
        values = [getattr(dut, name).value for name in task["outputs"]]
        unknown = [name for name, value in zip(task["outputs"], values, strict=True) if not value.is_resolvable]
        assert not unknown, f"unknown for {words[:avail]}: {', '.join(unknown)}"
        rows.append([int(value.to_unsigned()) if hasattr(value, "to_unsigned") else int(value) for value in values])
    Path(task["rows"]).write_text(json.dumps(rows), encoding="utf-8")
