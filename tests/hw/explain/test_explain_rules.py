"""Every rule of advice is provoked by a chip or a program made for it, and silent on the same without."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from benchmarks.simulator_speed import cube_program, desc, image, ring, size, stride, vector_program
from tests.hw.engine_kit import ISA

from npuvm.hw.config import load_chip
from npuvm.hw.explain import RULES, Advice, advise, break_down
from npuvm.hw.results.stats import CoreStats, UnitStats
from npuvm.hw.simulator import l2_state, simulate
from npuvm.isa import Entry, Image, Insn, encode_program

UB, PRODUCER, CONSUMER = 1, 1, 2
EASY = (
    "clock_ghz=1", "core.count=4", "core.sync.set_to_visible_cycles=1", "core.sequencer.queue_depth=64",
    "core.load.ub_bytes_per_cycle=64", "core.load.l1_bytes_per_cycle=256", "core.store.bytes_per_cycle=64",
    "core.load.outstanding=64", "core.store.outstanding=64", "core.load.startup_cycles=4", "core.store.startup_cycles=4",
    "memory.l2.bandwidth_gbps=4096", "memory.l2.latency_cycles=10",
    "memory.hbm.bandwidth_gbps=1024", "memory.hbm.latency_cycles=40",
)  # fmt: skip
"""An edge chip on which nothing is scarce."""


def stream(slots: int = 4, tiles: Sequence[int] = (12, 12, 12, 12), barrier: bool = False) -> Image:
    """Load 32 x 64 fp32, one vector instruction, store, for each tile, in rings of `slots`; one core for each of `tiles`.

    With `barrier` as many times the same tile, unrolled, with a barrier of the core after each.
    """
    pitch, tile = 256, 8192
    per_tile = [
        Insn("ld", "fp32", args={"dst": 1, "src": 0, "rows": 0, "cols": 1}, wait=(1,), set=(0,)),
        Insn("vadds", "fp32", args={"dst": 3, "a": 2, "rows": 0, "cols": 1, "imm": 0}, wait=(0, 3), set=(1, 2)),
        Insn("st", "fp32", args={"dst": 5, "src": 4, "rows": 0, "cols": 1}, wait=(2,), set=(3,)),
    ]
    insns = [
        size(0, 32), size(1, 64), size(2, sum(tiles)), ring(0, tile, slots, 0, 1), ring(1, tile, slots, 2, 3),
        desc(0, 0, 0, pitch), stride(0, 0, tile), desc(1, UB, 0, pitch, 0, PRODUCER), desc(2, UB, 0, pitch, 0, CONSUMER),
        desc(3, UB, slots * tile, pitch, 1, PRODUCER), desc(4, UB, slots * tile, pitch, 1, CONSUMER),
        desc(5, 0, 1 << 22, pitch), stride(5, 0, tile),
    ]  # fmt: skip
    if barrier:
        insns += [*per_tile, Insn("barrier", args={"scope": 0})] * tiles[0]
    else:
        insns += [Insn("grid", args={"loops": 1, "phase": 0, "t0": 2}), *per_tile, Insn("endgrid")]
    ends = [sum(tiles[: core + 1]) for core in range(len(tiles))]
    ranges = [(end - n, end) for end, n in zip(ends, tiles, strict=True)]
    return image(ISA, [*insns, Insn("halt")], "unified", ranges)


@dataclass(frozen=True)
class Provoked:
    """A rule with what makes it speak: overrides laid over `EASY`, the program, and whether L2 is warm."""

    rule: str
    overrides: tuple[str, ...] = ()
    program: Image | None = None
    warm: bool = False


def cube(tiles: int = 3) -> Image:
    """Products of 64 x 64 x 64 on four cores."""
    return cube_program(ISA, "unified", 4, tiles, 4, (64, 64, 64))


def sums(apart: int) -> Image:
    """16 sums of 32 x 64 fp32 whose first operand lies at 0 and the second at 64 KiB + `apart` bytes, on one core."""
    places = (0, 0x10000 + apart, 0x14000 + 2 * apart)
    add = Insn("vadd", "fp32", args={"dst": 2, "a": 0, "b": 1, "rows": 0, "cols": 1})
    descs = [desc(index, UB, address, 256) for index, address in enumerate(places)]
    insns = [size(0, 32), size(1, 64), *descs, *[add] * 16, Insn("halt")]
    return Image("sums", ISA.hash, encode_program(ISA, insns), (Entry("unified", 0, ()),))


BANKS = (
    "core.count=1", "core.ub_kib=192", "core.ub_banks.groups=16", "core.ub_banks.banks_per_group=3",
    "core.ub_banks.block_bytes=32", "core.ub_banks.rows_per_bank=128", "core.ub_banks.write_delay_cycles=8",
)  # fmt: skip
CONFLICTS = sums(0)

PROVOKED = [
    Provoked("hbm", ("memory.hbm.bandwidth_gbps=16",)),
    Provoked("l2", ("memory.l2.bandwidth_gbps=32",), warm=True),
    Provoked("port", ("core.load.ub_bytes_per_cycle=8",)),
    Provoked("vector", ("core.vector.classes.valu.cycles_per_repeat=8",)),
    Provoked("cube", ("core.cube.cycles_per_block.fp16=16",), cube()),
    Provoked("move", ("core.move.l0b_bytes_per_cycle=8",), cube()),
    Provoked("fixpipe", ("core.fixpipe.startup_cycles=4000",), cube()),
    Provoked("dispatch", ("core.sequencer.decode_cycles_per_word=64",)),
    Provoked("bank", BANKS, CONFLICTS),
    Provoked("issue", ("core.load.startup_cycles=1000",)),
    Provoked("memory", ("core.load.outstanding=1", "memory.hbm.latency_cycles=400")),
    Provoked("latency", ("memory.hbm.latency_cycles=1000",), stream(slots=1)),
    Provoked("order", ("core.vector.classes.valu.latency_cycles=150",), vector_program(ISA, "unified", 4, 8)),
    Provoked("queue", ("core.sequencer.queue_depth=1", "memory.hbm.latency_cycles=600")),
    Provoked("decode", ("core.sequencer.decode_cycles_per_word=40",)),
    Provoked("sync", ("core.sequencer.barrier_cycles=300",), stream(barrier=True)),
    Provoked("wait", ("core.store.bytes_per_cycle=24", "memory.hbm.latency_cycles=600"), stream(slots=1)),
    Provoked("startup", ("core.sequencer.start_cycles=2000",)),
    Provoked("tail", ("core.vector.classes.valu.latency_cycles=4000",)),
    Provoked("imbalance", (), stream(tiles=(12, 12, 12, 24))),
    Provoked("cores", ("core.count=64",)),
]


def ask(case: Provoked, overrides: tuple[str, ...]) -> tuple[Advice, ...]:
    """The advice on a case, on its chip with these overrides."""
    chip = load_chip("edge", [*EASY, *overrides])
    l2 = l2_state(chip)
    program = case.program or stream()
    for _ in range(1 + case.warm):
        result = simulate(chip, ISA, program, data=False, l2=l2)
    return advise(chip, break_down(result))


@pytest.mark.parametrize("case", PROVOKED, ids=[case.rule for case in PROVOKED])
def test_a_rule_is_provoked(case: Provoked) -> None:
    lines = {line.rule: line for line in ask(case, case.overrides)}
    assert case.rule in lines, list(lines)
    rule = next(rule for rule in RULES if rule.name == case.rule)
    line = lines[case.rule]
    assert line.kind == rule.kind
    assert 1 >= line.share >= rule.threshold
    assert f"{line.share:.0%}" in line.text or case.rule == "cores"
    # Without what provokes it, the same rule has less to say, or nothing.
    healthy = {line.rule: line for line in ask(replace(case, program=None, warm=False), ())}
    assert case.rule not in healthy or healthy[case.rule].share < line.share


@pytest.mark.parametrize(
    "rule", ["hbm", "l2", "port", "vector", "cube", "move", "fixpipe", "dispatch", "issue", "latency", "startup"]
)
def test_what_bounds_a_launch_comes_first(rule: str) -> None:
    case = next(case for case in PROVOKED if case.rule == rule)
    assert ask(case, case.overrides)[0].rule == rule


def test_requests_that_queue_in_memory_are_told_from_those_on_their_way() -> None:
    def text(*overrides: str) -> str:
        return next(line.text for line in ask(Provoked("memory"), overrides) if line.rule == "memory")

    # 4 cores x 8 requests of 128 bytes in 50 cycles are 82 bytes a cycle.
    assert "which queue in memory" in text("core.load.outstanding=8", "memory.hbm.bandwidth_gbps=40")
    assert "20.5 bytes per cycle and core" in text("core.load.outstanding=8", "memory.hbm.bandwidth_gbps=400")


def test_every_rule_is_provoked_somewhere() -> None:
    elsewhere = {"host"}
    assert {case.rule for case in PROVOKED} | elsewhere == {rule.name for rule in RULES}
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_the_reference_page_has_every_rule_with_its_threshold() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs/reference/explain.md").read_text(encoding="utf-8")
    table = page.split("## Advice", 1)[1].split("##", 1)[0]
    listed = {
        name: int(percent) / 100
        for names, percent in re.findall(r"^\| (`[^|]*`) \|[^|]*\| (\d+) % \|", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", names)
    }
    assert listed == {rule.name: rule.threshold for rule in RULES}


def test_the_distance_of_the_advice_removes_the_conflicts() -> None:
    (conflict, *_), apart = (
        ask(Provoked("bank", BANKS, CONFLICTS), BANKS),
        ask(Provoked("bank", BANKS, sums(256)), BANKS),
    )
    assert conflict.rule == "bank"
    assert conflict.text.endswith("place operands 256 bytes apart modulo 512")
    assert "bank" not in {line.rule for line in apart}


def test_small_losses_do_not_bound_a_launch() -> None:
    """12 % at full queues is told, after the largest part of the stack; without a cycle there is nothing to tell."""
    vector = UnitStats(60, {"startup": 10, "queue": 12, "order": 14, "tail": 4}, 9)
    core = CoreStats("unified", 100, {"seq": UnitStats(100, {}, 9), "vector": vector})
    chip = load_chip("edge")
    result = replace(simulate(chip, ISA, stream(tiles=(1,)), data=False), cycles=100, cores=(core,), bounds={})
    first, *others = advise(chip, break_down(result))
    assert (first.rule, first.share) == ("none", 0.6)
    assert first.text == "no single bound: the largest part is vector busy with 60% of the cycles"
    assert [line.rule for line in others] == ["queue"]
    empty = replace(result, cycles=0, cores=())
    assert [line.text for line in advise(chip, break_down(empty))] == ["no cycles, nothing to explain"]
