"""Convolution windows on the way from L1 to L0: what they touch, what they wait for, what they cost."""

from __future__ import annotations

import pytest
from tests.compiler.vector_run import limits_of, the_chip, the_isa
from tests.hw.hazards.plants import find

from npuvm.hw.errors import TrapError
from npuvm.hw.functional.state import GlobalMemory
from npuvm.hw.simulator import simulate
from npuvm.isa import Image, assemble
from npuvm.isa.errors import VerifyError
from npuvm.isa.verifier import verify

CHIP = the_chip("edge")


def program(*, apart: int = 0, base: int = 0, waits: bool = True, height: int = 4, op: str = "mvim2col") -> Image:
    """Loads 4 x 32 elements to L1 at `base` + `apart` and moves windows of the image at `base` to L0."""
    space, rows, cols = ("l0a", 6, 16) if op == "mvim2col" else ("l0b", 16, 6)
    wait, sets = (" | wait m0", " | set m0") if waits else ("", "")
    numbers = f"height={height} span=32 width=3 apart=8 channels=8 kernel_h=2 kernel_w=2 stride_h=1 stride_w=1"
    text = f"""
        .image windows
        .isa {the_isa().name} {the_isa().version} {the_isa().hash}
        .args 1
        .entry unified 0
        szc size=s0 full=4
        szc size=s1 full=32
        szc size=s2 full={rows}
        szc size=s3 full={cols}
        szc size=s4 full=1
        sem sem=m0 value=0
        desc desc=d0 space=gm base=@arg0 pitch=64
        desc desc=d1 space=l1 base={base + apart} pitch=64
        desc desc=d2 space=l1 base={base} pitch=64
        desc desc=d3 space={space} base=0 pitch=32
        ld.fp16 dst=d1 src=d0 rows=s0 cols=s1{sets}
        {op}.fp16 dst=d3 src=d2 rows=s2 cols=s3 start=s4 {numbers} dilation_h=1 dilation_w=1{wait}
        halt
    """
    return assemble(the_isa(), text)


def test_a_move_that_does_not_wait_for_its_image_is_found() -> None:
    assert not find(program(), CHIP)
    (hazard,) = find(program(waits=False), CHIP)
    assert "mvim2col" in str(hazard) and "ld" in str(hazard)
    with pytest.raises(VerifyError, match="mvim2col"):
        verify(the_isa(), program(waits=False), limits_of("edge"))


def test_an_image_has_as_many_rows_as_its_instruction_says() -> None:
    """Behind them the load and the move do not meet."""
    assert not find(program(apart=4 * 64, waits=False), CHIP)
    assert find(program(apart=4 * 64, waits=False, height=5), CHIP)
    verify(the_isa(), program(apart=4 * 64, waits=False), limits_of("edge"))


@pytest.mark.parametrize("op", ["mvim2col", "mvim2colt"])
def test_an_image_beyond_l1_traps_and_is_refused(op: str) -> None:
    end = CHIP.capacity_bytes("l1") - 4 * 64
    inside, beyond = program(base=end, op=op), program(base=end, height=5, op=op)
    memory = GlobalMemory(1 << 12)
    simulate(CHIP, the_isa(), inside, memory=memory, addresses=[0], windows=[(0, 4096)])
    verify(the_isa(), inside, limits_of("edge"))
    with pytest.raises(TrapError, match=r"buffer_range.*operand src"):
        simulate(CHIP, the_isa(), beyond, memory=memory, addresses=[0], windows=[(0, 4096)])
    with pytest.raises(VerifyError, match="reaches bytes"):
        verify(the_isa(), beyond, limits_of("edge"))


@pytest.mark.parametrize(("op", "side"), [("mvim2col", "l0a"), ("mvim2colt", "l0b")])
def test_windows_cost_what_is_written(op: str, side: str) -> None:
    """6 x 16 elements of 2 bytes: ceil(192 / rate) cycles behind the start, and 192 bytes of L1 and of L0."""
    rate, move = {"l0a": 32, "l0b": 64}[side], CHIP.core.move
    rates = {"l0a_bytes_per_cycle": 32, "l0b_bytes_per_cycle": 64, "row_cycles": 0}
    core = CHIP.core.model_copy(update={"move": move.model_copy(update=rates)})
    run = simulate(CHIP.model_copy(update={"core": core}), the_isa(), program(op=op), addresses=[0], data=False)
    assert run.cores[0].units["move"].busy == move.startup_cycles + -(-192 // rate)
    assert (run.bytes[side], run.bytes["l1"]) == (192, 192 + 4 * 64)
