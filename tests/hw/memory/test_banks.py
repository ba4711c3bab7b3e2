"""Bank conflicts in UB: the maker's measured cases, cases worked out by hand, and a slow reference block by block."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.hw.test_timing import UB, desc, one, sizes

from npuvm.hw.config import NpuConfig, UbBanksConfig, load_chip
from npuvm.hw.expansion.expand import Expansions
from npuvm.hw.expansion.stream import Stream
from npuvm.hw.memory.banks import BankOperand, Pattern, conflict_cycles
from npuvm.isa import Insn, encode_program, load_isa

ASCEND = load_chip("ascend_910b1")
CLASS = ASCEND.core.vector.classes["valu"]


def banks(groups: int = 4, per_group: int = 2, rows: int = 8, delay: int = 1) -> UbBanksConfig:
    return UbBanksConfig(
        groups=groups, banks_per_group=per_group, block_bytes=32, rows_per_bank=rows, write_delay_cycles=delay
    )


def add(x: int, y: int, z: int, rows: int = 1, cols: int = 4096) -> Pattern:
    """z = x + y of fp32 tiles without a gap, repeats of 256 bytes, one a cycle."""
    operands = [
        BankOperand(z, 4, cols * 4, True, True, False, True),
        BankOperand(x, 4, cols * 4, True, True, True, False),
        BankOperand(y, 4, cols * 4, True, True, True, False),
    ]
    return Pattern(rows, cols, 64, True, 1, 0, 1, tuple(operands))


def repeated(x_pitch: int) -> Pattern:
    """y = x + y where each repeat reads a single block of x, `x_pitch` bytes after the one before."""
    operands = [
        BankOperand(0x10100, 4, 256, True, True, False, True),
        BankOperand(0, 32, x_pitch, True, False, True, False),
        BankOperand(0x10100, 4, 256, True, True, True, False),
    ]
    return Pattern(64, 64, 64, False, 1, 0, 1, tuple(operands))


MEASURED = [
    (add(0, 0x10100, 0x20000), 2390),
    (add(0, 0x4000, 0x10000), 4167),
    (add(0, 0x10000, 0x14100), 4167),
    (add(0, 0x10100, 0x4000), 2389),
    (add(0, 0x10100, 0x4020), 3751),
    (add(0, 0x10100, 0x10100), 2390),
    (repeated(32), 3584),
    (repeated(256), 2389),
]
"""The eight cases of asc-devkit bank_conflict_ub on a 910B: ticks of 50 MHz (37 cycles) for 1000 Adds of 64 repeats."""


@pytest.mark.parametrize(("pattern", "ticks"), MEASURED)
def test_the_measured_cases_of_the_910b(pattern: Pattern, ticks: int) -> None:
    """Startup, repeats, conflicts and latency, within 1.5 percent."""
    assert ASCEND.core.ub_banks is not None
    conflicts = conflict_cycles(ASCEND.core.ub_banks, pattern)
    total = CLASS.startup_cycles + 64 + conflicts + CLASS.latency_cycles
    assert total == pytest.approx(ticks * 37 / 1000, rel=0.015)
    assert (conflicts == 0) == (ticks <= 2390)


def test_two_reads_of_a_group_take_two_cycles() -> None:
    """Four groups, two blocks a repeat: blocks 0 and 1 of x, 4 and 5 of y are in groups 0 and 1 in every repeat."""
    x = BankOperand(0, 1, 64, True, True, True, False)
    y = BankOperand(128, 1, 64, True, True, True, False)
    apart = BankOperand(128 + 64, 1, 64, True, True, True, False)
    assert conflict_cycles(banks(), Pattern(5, 64, 64, False, 1, 0, 1, (x, y))) == 5
    assert conflict_cycles(banks(), Pattern(5, 64, 64, False, 1, 0, 1, (x, apart))) == 0
    # The same tile twice is read once.
    assert conflict_cycles(banks(), Pattern(5, 64, 64, False, 1, 0, 1, (x, x))) == 0
    # Half of each repeat's blocks are the same: y begins with the second block of x, and ends in another group.
    shifted = BankOperand(32, 1, 64, True, True, True, False)
    assert conflict_cycles(banks(), Pattern(5, 64, 64, False, 1, 0, 1, (x, shifted))) == 0


def test_a_write_has_its_bank_before_a_read() -> None:
    """One block a repeat, two groups with two banks each: repeat r reads block r and, a cycle later, writes its result.

    Into block r + 1 of the same bank range (delay 1): repeat 1 finds its bank written in cycle 1 and waits for cycle 2, when
    nothing is written; repeat 2 in cycle 3 finds the write of repeat 1, waits for cycle 4, and so on: 0, 2, 4, 6.
    """
    config = banks(groups=2, rows=8)
    x = BankOperand(0, 1, 32, True, True, True, False)

    def cost(z: int, delay: int = 1) -> int:
        out = BankOperand(z, 1, 32, True, True, False, True)
        return conflict_cycles(
            config.model_copy(update={"write_delay_cycles": delay}), Pattern(4, 32, 32, False, 1, 0, 1, (out, x))
        )

    assert cost(32) == 3
    # In the other bank of the group (from block 16 on), in the other group, or a cycle later: no conflict.
    assert (cost(16 * 32 + 32), cost(64), cost(32, delay=2)) == (0, 0, 0)
    # Two cycles later into block r + 2: repeat 2 waits for the write in cycle 2; in 3 the other group is written.
    assert cost(64, delay=2) == 1


def test_slow_classes_hide_conflicts() -> None:
    """Two blocks of one group need two cycles a repeat: 5 repeats 10. At 1.5 a repeat 8 cycles are charged anyway, at 2 all
    ten, at 1/2 the 2.5 become 5; a cycle more a row hides them as well."""
    x = BankOperand(0, 1, 64, True, True, True, False)
    y = BankOperand(128, 1, 64, True, True, True, False)

    def cost(num: int, den: int, row_num: int = 0) -> int:
        return conflict_cycles(banks(), Pattern(5, 64, 64, False, num, row_num, den, (x, y)))

    assert (cost(1, 1), cost(3, 2), cost(2, 1), cost(8, 1), cost(1, 2), cost(1, 1, 1)) == (5, 2, 0, 0, 3, 0)


def test_a_block_is_read_once_while_it_is_repeated() -> None:
    """y is one element for each row; x has three repeats a row in four groups of which y's block is one. Only the first repeat
    of each row reads y: row 0 in group 0 beside x in 0 and 1; row 1 the same."""
    x = BankOperand(0, 1, 256, True, True, True, False)
    y = BankOperand(1024, 1, 256, True, False, True, False)
    assert conflict_cycles(banks(), Pattern(2, 192, 64, False, 1, 0, 1, (x, y))) == 2
    # One row of y for all rows of x, one repeat each: read once.
    same = BankOperand(1024, 1, 0, True, True, True, False)
    assert conflict_cycles(banks(), Pattern(6, 64, 64, False, 1, 0, 1, (x, same))) == 1


def test_more_blocks_than_groups_take_turns() -> None:
    """Eight blocks a repeat in four groups: two cycles to read them."""
    x = BankOperand(0, 1, 256, True, True, True, False)
    assert conflict_cycles(banks(), Pattern(3, 256, 256, False, 1, 0, 1, (x,))) == 3


def slow(config: UbBanksConfig, pattern: Pattern) -> int:
    """The same, block by block and cycle by cycle, in fractions."""
    size, groups = config.block_bytes, config.groups

    def bank(block: int) -> tuple[int, int]:
        return block % groups, block // (groups * config.rows_per_bank) % config.banks_per_group

    rows, cols = (1, pattern.rows * pattern.cols) if pattern.dense else (pattern.rows, pattern.cols)
    steps = ceil(Fraction(cols, pattern.elements))
    touched: list[list[list[int]]] = []
    starts: list[Fraction] = []
    per_repeat, per_row = Fraction(pattern.repeat_num, pattern.den), Fraction(pattern.row_num, pattern.den)
    slot = min(Fraction(1), per_repeat)
    for row in range(rows):
        for step in range(steps):
            of_row = floor(Fraction(step * pattern.rows, steps)) if pattern.dense else row
            starts.append(len(starts) * per_repeat + of_row * per_row)
            blocks = []
            for each in pattern.operands:
                first = each.address + (row * each.pitch if each.by_row else 0)
                elements = (
                    range(step * pattern.elements, min(cols, (step + 1) * pattern.elements)) if each.by_col else [0]
                )
                found = [
                    byte // size
                    for element in elements
                    for byte in range(first + element * each.itemsize, first + (element + 1) * each.itemsize)
                ]
                blocks.append(sorted(set(found)))
            touched.append(blocks)
    now = 0
    written: dict[int, set[tuple[int, int]]] = {}
    for index, blocks in enumerate(touched):
        now = max(now, floor(starts[index] / slot))
        left: list[int] = []
        for each, mine, before in zip(
            pattern.operands, blocks, touched[index - 1] if index else [[]] * 9, strict=False
        ):
            if each.reads and mine != before:
                left.extend(block for block in mine if block not in left)
        while True:
            busy: set[int] = set()
            for block in list(left):
                if block % groups not in busy and bank(block) not in written.get(now, set()):
                    busy.add(block % groups)
                    left.remove(block)
            now += 1
            if not left:
                break
        for number, (each, mine) in enumerate(zip(pattern.operands, blocks, strict=True)):
            if each.writes and (index + 1 == len(touched) or touched[index + 1][number] != mine):
                for place, block in enumerate(mine):
                    at = now - 1 + config.write_delay_cycles + place // groups
                    written.setdefault(at, set()).add(bank(block))
    free = ceil((len(touched) * per_repeat + pattern.rows * per_row) / slot)
    return ceil(max(0, now - free) * slot)


@st.composite
def patterns(draw: st.DrawFn) -> Pattern:
    rows, cols = draw(st.integers(1, 12)), draw(st.integers(1, 100))
    dense = draw(st.booleans())
    operands = []
    for number in range(draw(st.integers(1, 4))):
        itemsize = draw(st.sampled_from([1, 2, 4]))
        gap = 0 if dense else draw(st.integers(0, 5)) * 32
        pitch = cols * itemsize if dense else draw(st.sampled_from([0, -(-cols * itemsize // 32) * 32 + gap]))
        by_row, by_col = (True, True) if dense else draw(st.sampled_from([(True, True), (True, False), (False, True)]))
        reads, writes = (
            draw(st.sampled_from([(True, False), (True, False), (False, True), (True, True)]))
            if number
            else (False, True)
        )
        operands.append(BankOperand(draw(st.integers(0, 80)) * 32, itemsize, pitch, by_row, by_col, reads, writes))
    slopes = draw(st.sampled_from([(1, 0, 1), (2, 0, 1), (3, 1, 2), (1, 0, 2), (1, 3, 4), (5, 2, 3), (2, 1, 3)]))
    return Pattern(rows, cols, draw(st.sampled_from([8, 32, 64])), dense, *slopes, tuple(operands))


@settings(max_examples=300)
@given(
    patterns(),
    st.builds(banks, st.sampled_from([2, 3, 4, 16]), st.integers(1, 3), st.sampled_from([1, 4, 16]), st.integers(0, 7)),
)
def test_conflicts_are_those_of_the_reference(pattern: Pattern, config: UbBanksConfig) -> None:
    found = conflict_cycles(config, pattern)
    assert found == slow(config, pattern)
    assert found >= 0


def test_no_more_groups_than_blocks_and_one_operand_cannot_conflict() -> None:
    """The cost of a read alone is that without conflicts, wherever it lies."""
    for address in range(0, 4096, 32):
        x = BankOperand(address, 2, 128, True, True, True, False)
        assert conflict_cycles(banks(), Pattern(7, 60, 64, False, 1, 0, 1, (x,))) == 0


def chip(*overrides: str) -> NpuConfig:
    """The 910B1's vector unit, with a repeat every cycle and nothing else to pay in a vadd."""
    costs = [
        f"core.vector.classes.valu.{name}_cycles={n}" for name, n in {"startup": 13, "row": 0, "latency": 12}.items()
    ]
    return load_chip("ascend_910b1", [*costs, *overrides])


def vadd(x: int, y: int, z: int, config: NpuConfig, cols: int = 4096, pitch: int = 16384) -> tuple[int, int]:
    """Occupancy and bank conflicts of a vadd of one row of fp32."""
    insn = Insn("vadd", "fp32", args={"dst": 0, "a": 1, "b": 2, "rows": 0, "cols": 1})
    program = [*sizes(1, cols), desc(0, UB, pitch, z), desc(1, UB, pitch, x), desc(2, UB, pitch, y), insn]
    occupancy, _, stream = one(program, config)
    return occupancy, int(stream.bank[-1])


def test_an_instruction_is_charged_its_conflicts() -> None:
    """13 + 64 cycles, 64 more with x and y in the same groups; a chip without banks has none."""
    assert vadd(0, 0x10100, 0x20000, chip()) == (77, 0)
    assert vadd(0, 0x4000, 0x10000, chip()) == (141, 64)
    assert vadd(0, 0x4000, 0x10000, chip("core.ub_banks=null")) == (77, 0)
    # Rows with a gap behind them have the same repeats, and a class of two cycles a repeat hides the second read.
    assert vadd(0, 0x4000, 0x10000, chip(), pitch=17024) == (141, 64)
    assert vadd(0, 0x4000, 0x10000, chip("core.vector.classes.valu.cycles_per_repeat=2")) == (141, 0)


def test_each_iteration_is_charged_its_own_addresses() -> None:
    """b moves on by 256 bytes an iteration: in every other one it is in the groups of a."""
    isa = load_isa()
    loop = [
        Insn("szc", args={"size": 2, "full": 4}),
        Insn("dstr", args={"desc": 2, "loop": 0, "stride": 256}),
        Insn("loop", args={"loop": 0, "trip": 2}),
        Insn("vadd", "fp32", args={"dst": 0, "a": 1, "b": 2, "rows": 0, "cols": 1}),
        Insn("endloop"),
        Insn("halt"),
    ]
    head = [*sizes(1, 4096), desc(0, UB, 16384, 0x20000), desc(1, UB, 16384, 0), desc(2, UB, 16384, 0x10000)]
    regions = Expansions(isa, encode_program(isa, [*head, *loop]), chip()).core(0)
    (stream,) = [region for region in regions if isinstance(region, Stream)]
    assert stream.bank.tolist() == [64, 0, 64, 0]
    np.testing.assert_array_equal(stream.occupancy - stream.bank, [77] * 4)
