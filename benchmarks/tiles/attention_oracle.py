"""Attention on the simulator in one program with any blocks, or as launches of its parts, and the best of many."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.efficiency.kernels import attention
from benchmarks.efficiency.search import simulate_alone

from npuvm.compiler import Pins, compile_kernel
from npuvm.compiler.plan.joint import RelaySegment
from npuvm.compiler.plan.plan import make_plan
from npuvm.compiler.program.compiled import CompiledKernel, Launch
from npuvm.compiler.relay.family import RelayFamily
from npuvm.compiler.relay.segment import join_relays
from npuvm.compiler.relay.tile import Block, RelaySizes
from npuvm.hw.config import NpuConfig
from npuvm.hw.errors import TrapError
from npuvm.isa import Isa

__all__ = ["AttentionOracle", "AttentionSizes", "Option", "attention_cases"]

AttentionSizes = tuple[int, int, int, int]
"""Heads, rows of queries, rows of keys, size of a head."""

_EDGES = (256, 224, 192, 160, 128, 96, 80, 64, 48, 32, 16)

_HEADS = (1, 2, 4, 8, 12, 16, 20, 32, 40, 64, 96)
_TOKENS = (1, 17, 50, 64, 77, 128, 197, 256, 384, 509, 512, 1024, 1500, 2048, 4096, 8192)
_SIZES = (32, 64, 80, 96, 128, 256)
_MOST = 1 << 28


def attention_cases(count: int, seed: int = 0) -> list[AttentionSizes]:
    """Shapes drawn with the seed: two of three read a prompt, one takes a single step; up to 2^28 scores times head size."""
    source, found = random.Random(seed), dict[AttentionSizes, None]()
    while len(found) < count:
        heads, keys, size = source.choice(_HEADS), source.choice(_TOKENS), source.choice(_SIZES)
        rows = 1 if len(found) % 3 == 2 else source.choice((keys, keys, source.choice(_TOKENS)))
        if heads * rows * keys * size <= _MOST:
            found[heads, rows, keys, size] = None
    return list(found)


@dataclass(frozen=True, slots=True)
class Option:
    """One program with a block, or no block: a launch for each part, with the tiles that the compiler takes for these."""

    block: Block | None
    estimate: float

    @property
    def text(self) -> str:
        """The block with its parts and tiles."""
        if self.block is None:
            return "apart"
        tiles = " and ".join(f"{n} x {k}" for n, k in self.block.tiles)
        return f"{self.block.rows} rows in {self.block.parts} parts, {tiles}"


class AttentionOracle:
    """Runs attention with an empty L2, and searches blocks and tiles."""

    def __init__(self, chip: NpuConfig, isa: Isa) -> None:
        self.chip, self._isa = chip, isa
        casts = [(a, b) for a, b in isa.instruction("vcast").dtypes if b is not None]
        (segment,) = join_relays(make_plan(attention.graph, casts).segments)
        assert isinstance(segment, RelaySegment)
        self._segment = segment
        self._names = attention.graph.symbols()
        self.family = RelayFamily(segment, self._names, chip, isa)
        self._launch = int(chip.us_to_cycles(chip.host.launch_us))
        self._known: dict[tuple[AttentionSizes, str], int] = {}

    def values(self, sizes: AttentionSizes) -> tuple[int, ...]:
        """Values of the kernel's symbols."""
        heads, rows, keys, size = sizes
        by_name = {"B": heads, "T": rows, "S": keys, "D": size}
        return tuple(by_name[name] for name in self._names)

    def compiled(self, sizes: AttentionSizes) -> tuple[int, str]:
        """Cycles of what the compiler makes without pins, and what that is."""
        made = self._compile(sizes, None)
        if len(made.launches) > 1:
            return self._total(made.launches, made), "apart"
        option = self.chosen(sizes)
        assert option is not None
        return self._total(made.launches, made), option.text

    def chosen(self, sizes: AttentionSizes) -> Option | None:
        """The block that the compiler chooses for one program; None where there is none."""
        chosen = self.family.choose(self.values(sizes))
        return None if chosen is None else Option(chosen.block, chosen.cycles)

    def options(self, sizes: AttentionSizes) -> list[Option]:
        """Every block of whole vector rows up to 256, each with all tiles of its products that fit, in as few parts as fit."""
        asked = self.family.sizes(self.values(sizes))
        found = [Option(None, 0.0)]
        if asked is not None:
            found += [Option(block, self.family.with_block(asked, block).cycles) for block in self._blocks(asked)]
        return found

    def _blocks(self, asked: RelaySizes) -> Iterator[Block]:
        for rows in (256, 192, 160, 128, 112, 96, 80, 64, 48, 32, 16):
            yield from self.family.chooser.blocks(rows, asked, _EDGES)

    def finished(self, sizes: AttentionSizes, option: Option) -> int:
        """Simulated cycles, however many they are."""
        cycles = self.cycles(sizes, option)
        assert cycles is not None
        return cycles

    def cycles(self, sizes: AttentionSizes, option: Option, limit: int | None = None) -> int | None:
        """Simulated cycles; None where they are more than `limit`."""
        key = sizes, option.text
        if key in self._known:
            return self._known[key]
        try:
            found = self._simulated(sizes, option, limit)
        except TrapError:
            return None
        self._known[key] = found
        return found

    def _simulated(self, sizes: AttentionSizes, option: Option, limit: int | None) -> int:
        if option.block is None:
            made = self._compile(sizes, Pins(stack="launches"))
            return self._total(made.launches, made, limit)
        values = self.values(sizes)
        asked = self.family.sizes(values)
        assert asked is not None
        image, between = self.family.image(values, self.family.with_block(asked, option.block))
        launch = Launch("relay", "mix", image, self.family.tensors, ())
        kernel = self._compile(sizes, Pins(stack="launches"))
        nbytes = {each.name: each.nbytes for each in (*kernel.tensors, *between)}
        return simulate_alone(launch.image, launch.args, nbytes, self.chip, self._isa, limit).cycles

    def _compile(self, sizes: AttentionSizes, pins: Pins | None) -> CompiledKernel:
        heads, rows, keys, size = sizes
        shapes = {"q": (heads, rows, size), "keys": (heads, keys, size), "values": (heads, keys, size)}
        return compile_kernel(attention, shapes, self.chip, self._isa, pins)

    def _total(self, launches: Sequence[Launch], made: CompiledKernel, limit: int | None = None) -> int:
        """Cycles of launches one after the other; the host has each ready a launch's time after the one before it."""
        nbytes, total = {each.name: each.nbytes for each in made.tensors}, 0
        for at, launch in enumerate(launches):
            cycles = simulate_alone(launch.image, launch.args, nbytes, self.chip, self._isa, limit).cycles
            total += cycles if at == len(launches) - 1 else max(cycles, self._launch)
        return total

    def search(self, sizes: AttentionSizes, sample: int, taken: Sequence[Option]) -> tuple[Option, int, int, int]:
        """The best option, its cycles, how many were simulated, and of how many.

        Besides those `taken` and the parts apart half of the `sample` have the lowest estimates, the other half is drawn.
        """
        every = sorted(self.options(sizes), key=lambda each: each.estimate)
        source = random.Random(str(sizes))
        tried = [*taken, *every[: 1 + sample // 2]]
        tried += source.sample(every, min(sample // 2, len(every)))
        chosen = {each.text: each for each in tried}
        best: tuple[Option, int] | None = None
        for option in chosen.values():
            cycles = self.cycles(sizes, option, None if best is None else best[1])
            if cycles is not None and (best is None or cycles < best[1]):
                best = option, cycles
        assert best is not None
        return *best, len(chosen), len(every)
