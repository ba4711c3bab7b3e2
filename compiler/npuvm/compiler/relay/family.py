"""Relays planned for all shapes: one template each, whose two grids take whole blocks of rows and what is left of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from operator import attrgetter

import numpy as np
import numpy.typing as npt

from npuvm.compiler.cube.codegen import check_types, problem_of
from npuvm.compiler.cube.problem import CubeTile
from npuvm.compiler.cube.spec import MatmulSpec
from npuvm.compiler.emit.group_programs import GroupPrograms, Looked
from npuvm.compiler.emit.group_signals import MOST_VECTOR_CORES
from npuvm.compiler.emit.symint import Function, SymInt, compile_values
from npuvm.compiler.errors import CompileError
from npuvm.compiler.language.pins import Pins, most_slots
from npuvm.compiler.native.loading import loaded
from npuvm.compiler.plan.joint import RelaySegment
from npuvm.compiler.program.compiled import TensorSpec
from npuvm.compiler.relay.cost import Estimate, RelayCost
from npuvm.compiler.relay.cube import Product
from npuvm.compiler.relay.emit import RelayParts, write_relay
from npuvm.compiler.relay.handover import SLOTS
from npuvm.compiler.relay.native import MOST, NativeChooser, shape_numbers
from npuvm.compiler.relay.space import relay_space
from npuvm.compiler.relay.tile import Block, BlockChooser, Chosen, ProductShape, RelaySizes, Runs, spread
from npuvm.compiler.relay.vector import RowCuts
from npuvm.compiler.relay.walk import Run, run_grids
from npuvm.compiler.stack.entries import GroupTable
from npuvm.compiler.vector.codegen import RING_SLOTS, covered, tiled
from npuvm.compiler.vector.cost import RowsCost
from npuvm.compiler.vector.space import RowsDoNotFit
from npuvm.hw.config import NpuConfig
from npuvm.isa import Entry, EvenEntries, Image, Isa
from npuvm.isa.records import quick_record

__all__ = ["Chosen", "RelayEntries", "RelayFamily"]

_VARIABLES = (
    "<groups>", "<runs of blocks>", "<blocks of a run>", "<blocks of the last run>", "<runs of the rest>", "<rests of a run>",
    "<rests of the last run>", "<whole blocks>", "<rows left>", "<rows>", "<parts>", "<parts left>",
    "<n of the first>", "<k of the first>", "<n of the last>", "<k of the last>",
)  # fmt: skip
"""Variables beside the symbols, under names that no symbol has."""

_NONE = Runs(0, 1, 1)


_cycles_of = attrgetter("cycles")


class RelayFamily:
    """All instances of a relay on one chip; `tensors` are those whose addresses they take.

    CompileError when the parts do not share their rows, or do not fit one program.
    """

    def __init__(
        self, segment: RelaySegment, symbols: Sequence[str], chip: NpuConfig, isa: Isa, buffering: str | None = None
    ) -> None:
        pins, depth = Pins(buffering=buffering), most_slots(buffering, RING_SLOTS)
        binding = {name: SymInt.variable(name) for name in symbols}
        self._name = segment.name
        self._order = chip.group_core_types
        try:
            common = relay_space(segment, binding, isa)
        except RowsDoNotFit:
            common = None
        if common is None:
            raise CompileError("the parts do not share their rows", self._name)
        self.tensors = common.tensors
        self._cores = 1 if len(self._order) == 1 else self._order.count(chip.core_type_with("vector"))
        if self._cores > MOST_VECTOR_CORES:
            allowed = f"at most {MOST_VECTOR_CORES}"
            raise CompileError(
                f"{self._cores} vector cores in a group; allowed in a mix program: {allowed}", self._name
            )
        self._groups = chip.cores_with("cube")
        specs = [spec for spec in (common.before, common.after) if spec is not None]
        both = len(specs) == 2
        biases = {spec.bias.dtype for spec in specs if spec.bias is not None}
        if len(biases) > 1 or not biases <= set(chip.core.cube.cycles_per_block):
            raise CompileError(
                f"biases of {', '.join(sorted(biases))}; allowed: one dtype that the cube takes", self._name
            )
        values = dict(zip(_VARIABLES, (SymInt.variable(name) for name in _VARIABLES), strict=True))
        groups, runs, most, tail, rests, most_rests, tail_rests, whole, left, rows, parts, parts_left, *nk = (
            values.values()
        )
        cuts = RowCuts(rows, parts, parts_left, self._cores)
        products = []
        for at, spec in enumerate(specs):
            check_types(spec, chip, isa)
            n: int = spec.n if both and at == 1 else nk[2 * at]
            k: int = spec.k if both and at == 0 else nk[2 * at + 1]
            problem = problem_of(spec, chip, isa, pins)
            tile = CubeTile((cuts.block, n, k), (cuts.block, n, k), problem.depth("l0c"), 0)
            products.append(Product(spec, problem, tile, "c" if spec is common.before else "a"))
        used = covered(segment.vector, common.space, chip, isa, again=depth > 1)
        program, storage = tiled(used, common.space, binding, isa, Pins(), depth, chip)
        r, c = SymInt.variable("rows"), SymInt.variable("cols")
        nbytes: Function = compile_values(("rows", "cols"), (storage.nbytes(r, c),), "nbytes")
        problems = tuple(each.problem for each in products)
        self.chooser = BlockChooser(chip, problems, nbytes, self._cores)
        self._cost = RelayCost(chip, problems, RowsCost(common.space, program, chip, isa, storage.depth), self._cores)
        self._handed = tuple(each for each in (common.given, common.taken) if each is not None)
        read = [spec.n * spec.k * _matrices(spec) * each.item for spec, each in zip(specs, problems, strict=True)]
        edges = [size for spec in specs for size in (spec.n, spec.k)]
        row_bytes = sum(each.item * each.pitch for each in self._handed)
        common_sizes = common.rows, common.space.cols, row_bytes
        self._sizes: Function = compile_values(symbols, (*common_sizes, *common.batch, *read, *edges), "sizes")
        self._read = slice(3 + len(common.batch), 3 + len(common.batch) + len(specs))
        self._whole = [(both and at == 1, both and at == 0) for at in range(len(specs))]
        self._native: NativeChooser | None = None
        native = loaded()
        if native is not None:
            numbers = shape_numbers(*common_sizes, common.batch, read, edges)
            self._numbers_of = compile_values(symbols, numbers, "numbers")
            self._native = NativeChooser.of(native, self.chooser, self._cost, storage, self._whole)
        self._pitches: Function = compile_values(symbols, [each.pitch for each in self._handed], "pitches")
        here = RelayParts(common, tuple(products), program, storage, cuts, groups, self._name, chip, isa)
        along = f"b{len(common.batch) - 1}" if common.batch else "none"
        grids = run_grids(
            common.batch,
            groups,
            self._cores,
            Run("m", runs, most, tail, cuts.block, 0),
            Run(along, rests, most_rests, tail_rests, left, whole),
        )
        written = write_relay(here, grids)
        self._program = GroupPrograms(written, self._order, (*symbols, *_VARIABLES))

    def choose(self, values: Sequence[int]) -> Chosen | None:
        """Block and runs for values of the symbols; None where a shape has no program."""
        if self._native is not None:
            numbers = self._numbers_of(*values)
            if min(numbers) > 0 and max(numbers) < MOST:
                return self._native.choose(numbers)
        sizes = self.sizes(values)
        if sizes is None:
            return None
        estimate = self._cost.of(sizes)
        likely = [self._with_block(sizes, block, estimate) for block in self.chooser.likely(sizes)]
        return min(likely, key=_cycles_of, default=None)

    def sizes(self, values: Sequence[int]) -> RelaySizes | None:
        """The sizes that blocks are chosen for; None where a shape has no program."""
        found = self._sizes(*values)
        if 0 in found:
            return None
        read, shapes = self._read, found[self._read.stop :]
        return RelaySizes(
            found[0],
            found[1],
            found[3 : read.start],
            tuple(
                [ProductShape(n, k, *whole) for n, k, whole in zip(shapes[::2], shapes[1::2], self._whole, strict=True)]
            ),
            found[2],
            found[read],
        )

    def with_block(self, sizes: RelaySizes, block: Block) -> Chosen:
        """The instance with a block that fits."""
        return self._with_block(sizes, block, self._cost.of(sizes))

    def _with_block(self, sizes: RelaySizes, block: Block, estimate: Estimate) -> Chosen:
        rows, batch, matrices = sizes.rows, sizes.batch, prod(sizes.batch)
        # A single block of rows is walked along the batch, where it has neighbours.
        whole, left = divmod(rows, block.rows) if rows != block.rows else (0, rows)
        here = spread(matrices, whole, self._groups) if whole else _NONE
        last = batch[-1] if batch else 1
        outer = matrices // last
        over = spread(outer, last, self._groups) if left else _NONE
        runs = (matrices, here), (outer, over)
        groups = min(self._groups, matrices * here.runs + outer * over.runs)
        return Chosen(block, whole, left, runs, groups, *estimate(block, runs, groups))

    def image(self, values: Sequence[int], chosen: Chosen) -> tuple[Image, tuple[TensorSpec, ...]]:
        """The image of what was chosen for these values, and the tensors between its parts."""
        block, _, _, ((matrices, here), (outer, over)), groups, *_ = chosen
        tiles = (matrices * here.runs, outer * over.runs)
        words, relocs = self._program.instance((*values, *self._numbers(chosen)))
        entries = RelayEntries(self._order, EvenEntries(self._order[0], groups, tiles), self._program.starts)
        image = Image(
            self._name, self._program.isa_hash, words, entries, relocs, self._program.n_args, self._program.grids
        )
        between = tuple(
            TensorSpec(each.name, "workspace", each.dtype, (SLOTS * groups * block.rows * pitch,))
            for each, pitch in zip(self._handed, self._pitches(*values), strict=True)
        )
        return image, between

    def look(self, values: Sequence[int]) -> Looked | None:
        """What an instance is made of, for who wants to see it; None where a shape has no program."""
        chosen = self.choose(values)
        if chosen is None:
            return None
        image, _ = self.image(values, chosen)
        block = chosen.block
        tiles = " and ".join(f"{block.rows} x {n} x {k}" for n, k in block.tiles)
        text = f"blocks of {block.rows} rows in {block.parts * self._cores} parts, products in tiles of {tiles}"
        return Looked(
            image, self.tensors, text, chosen.cycles, self._program.buffers((*values, *self._numbers(chosen)))
        )

    def _numbers(self, chosen: Chosen) -> tuple[int, ...]:
        """Values of the template's own variables."""
        block, whole, left, ((_, here), (_, over)), groups, *_ = chosen
        own = block.rows // self._cores
        part = own // block.parts
        nk = [size for tile in block.tiles for size in tile] + [1, 1] * (2 - len(block.tiles))
        return (groups, *here, *over, whole, left, part, block.parts, -(-min(own, left) // part), *nk)


def _matrices(spec: MatmulSpec) -> int:
    """How many right operands a product has: those of a batch dim that they do not have are the same."""
    return prod(
        size for size, stride in zip(spec.batch, spec.b.batch, strict=True) if isinstance(stride, SymInt) or stride
    )


@quick_record
@dataclass(frozen=True, slots=True)
class RelayEntries(GroupTable):
    """Entries of core groups that walk each grid's runs for themselves: behind those of the cores before them."""

    def entry(self, core: int) -> Entry:
        """The entry of a core of the launch."""
        group, member = divmod(core, len(self.order))
        vectors = max(1, len(self.order) - 1)
        place = group * vectors + max(0, member - 1)
        ranges = tuple(
            (start + place * tiles, stop + place * tiles) if start < stop else (0, 0)
            for (start, stop), tiles in zip(self.groups.entry(group).ranges, self.groups.tiles, strict=True)
        )
        return Entry(self.order[member], self.start(member), ranges)

    def moved(self, ranges: npt.NDArray[np.int64], member: int) -> npt.NDArray[np.int64]:
        """The ranges of a member of each group, of those by group and phase."""
        places = np.arange(len(ranges)) * max(1, len(self.order) - 1) + max(0, member - 1)
        some = ranges[:, :, :1] < ranges[:, :, 1:]
        tiles = np.array(self.groups.tiles, dtype=np.int64)
        return np.where(some, ranges + (places[:, None] * tiles)[:, :, None], 0)
