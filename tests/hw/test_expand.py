from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.hw.expansion_oracle import Costs, Generator, Interpreter

from npuvm.hw.config import load_chip
from npuvm.hw.expand import Expansions
from npuvm.hw.stream import Barrier, Halt, ScalarLoad, SetSemaphores, Stream
from npuvm.isa import Insn, Pred, encode_program, load_isa

ISA = load_isa()
CHIP = load_chip("edge", ["core.sequencer.start_cycles=7", "core.sequencer.decode_cycles_per_word=2"])
SEQ = CHIP.core.sequencer
COSTS = Costs(SEQ.decode_cycles_per_word, SEQ.dispatch_cycles, SEQ.loop_cycles, SEQ.scalar_cycles, SEQ.start_cycles)
LIMITS = (1, 5, 1 << 16)


def make(
    op: str, dtype: str | None = None, *, set: tuple[int, ...] = (), pred: Pred | None = None, **args: int
) -> Insn:
    return Insn(op, dtype, args=args, set=set, pred=pred)


def expand(
    insns: list[Insn], ranges: list[tuple[int, int]] | None = None, loads: list[int] | None = None, limit: int = 1 << 16
) -> list[tuple[Any, ...]]:
    """What expansion gives, in the form of the oracle."""
    regions = Expansions(ISA, encode_program(ISA, insns), CHIP, limit).core(0, ranges or [])
    values = list(loads or [])
    out: list[tuple[Any, ...]] = []
    sent: int | None = None
    while True:
        try:
            region = regions.send(sent)
        except StopIteration:
            return out
        sent = None
        if isinstance(region, Stream):
            for i, s in enumerate(region.rows.site):
                site = region.sites[s]
                addresses = tuple(region.addr_rows[i][: len(site.operands)])
                sizes = tuple(region.size_rows[i][: len(site.sizes)])
                out.append(("insn", site.pc, region.rows.gap[i], addresses, sizes, tuple(region.origin_rows[i])))
        elif isinstance(region, SetSemaphores):
            out.append(("sems", region.gap, dict(region.values)))
        elif isinstance(region, Barrier):
            out.append(("barrier", region.gap, region.scope))
        elif isinstance(region, ScalarLoad):
            out.append(("load", region.gap, region.addr))
            sent = values.pop(0)
        else:
            assert isinstance(region, Halt)
            out.append(("halt", region.gap))


@settings(max_examples=100)
@given(st.integers(0, 2**40))
def test_expansion_is_what_a_plain_interpreter_does(seed: int) -> None:
    insns, shares = Generator(seed).program()
    numbers = random.Random(seed + 1)
    loads = [numbers.randint(-2, 5) for _ in range(300)]
    oracle = Interpreter(ISA, encode_program(ISA, insns), COSTS, shares, list(loads))
    expected = oracle.run()
    for limit in LIMITS:
        assert expand(insns, oracle.ranges, loads, limit) == expected
