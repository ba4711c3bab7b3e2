"""Mix programs planned for all shapes: a template for each loop nest of the product, with the vector unit's part in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from npuvm.compiler.cube.chooser import chooser_of
from npuvm.compiler.cube.codegen import check_types, problem_of
from npuvm.compiler.cube.lower import lower_cube
from npuvm.compiler.cube.nest import COLUMNS, WHOLE, NestChooser, nest_grids, nests_of
from npuvm.compiler.cube.problem import CubeTile, ProductSizes
from npuvm.compiler.emit.blocks import align_up
from npuvm.compiler.emit.group_programs import GroupPrograms, Looked
from npuvm.compiler.emit.symint import Function, SymInt, compile_values
from npuvm.compiler.errors import CompileError
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.mix.body import Bands
from npuvm.compiler.mix.cores import MixChosen, MixCores, vector_of, vector_part
from npuvm.compiler.mix.cost import MixCost
from npuvm.compiler.mix.emit import MixParts, write_apart, write_together
from npuvm.compiler.mix.operands import open_operands
from npuvm.compiler.mix.space import mix_space
from npuvm.compiler.plan.joint import MixSegment
from npuvm.compiler.plan.segments import CubeSegment
from npuvm.hw.config import NpuConfig
from npuvm.isa import Image, Isa

__all__ = ["MixFamily"]

_TILE = ("<rows>", "<bands>", "<cols>", "<n>", "<k at L1>", "<k at L0>", "<accumulators>", "<rows of tiles>")
"""Variables beside the symbols, under names that no symbol has."""

_CUTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Bands that a tile is cut into: as few as fit UB."""


class MixFamily:
    """All instances of a mix segment on one chip; `tensors` are those whose addresses they take.

    Their tiles are those of the product `like`; see CubeFamily. Templates are those of the family `plain` where only operands
    of the product lie otherwise than there; its symbols are the first of these. CompileError when the vector part cannot follow
    the product's tiles, or when both do not fit one program.
    """

    def __init__(
        self,
        segment: MixSegment,
        symbols: Sequence[str],
        chip: NpuConfig,
        isa: Isa,
        like: CubeSegment | None = None,
        plain: MixFamily | None = None,
        buffering: str | None = None,
    ) -> None:
        pins = Pins(buffering=buffering)
        binding = {name: SymInt.variable(name) for name in symbols}
        self._name = segment.name
        self._cores = cores = MixCores.of(chip)
        vector = vector_of(segment, cores)
        common = mix_space(segment.product, vector, binding)
        if common is None:
            raise CompileError("the vector part does not work on tiles of the product", self._name)
        spec, self.tensors = common.spec, common.tensors
        check_types(spec, chip, isa)
        problem = problem_of(spec, chip, isa, pins)
        lies = problem if like is None else problem_of(lower_cube(like, binding)[0], chip, isa, pins)
        opened = open_operands(spec)
        self._sizes: Function = compile_values(
            symbols,
            (spec.m, spec.n, spec.k, prod(spec.batch), lies.a.pitch, lies.b.pitch, *opened.numbers),
            "sizes",
        )
        self.chooser = chooser_of(problem, cores.groups, self._name)
        memory, item = chip.memory, problem.item
        line = memory.l2.line_bytes // item
        self._nests = NestChooser(cores.groups, chip.capacity_bytes("l2") / item, None, line, memory.address_hash)
        self._capacity = chip.capacity_bytes("ub")
        self._block_rows = chip.core.cube.m
        places = tuple(
            self.tensors.index(each.access.tensor.name) for each in (*common.space.reads, *common.space.writes)
        )
        self.form = opened.form, places, len(self.tensors)
        self._nbytes: Function
        self._cost: MixCost
        self._known = len(symbols)
        self._last: tuple[object, tuple[MixChosen, CubeTile] | None] = (None, None)
        """Values that were asked for last, and what they gave: all that weigh a launch ask for the same."""
        self._templates: dict[int, GroupPrograms] = {}
        if plain is not None and plain.form == self.form:
            self._known, self._nbytes, self._templates = plain._known, plain._nbytes, plain._templates
            self._cost = plain._cost
            return
        part = vector_part(vector, common.space, segment.product.c.tensor.name, binding, chip, isa, buffering)
        self._nbytes = part.nbytes
        self._cost = MixCost(common.space, part, cores, chip, isa)
        rows, bands, cols, n, k, k0, depth, band = (SymInt.variable(name) for name in _TILE)
        cut = Bands(rows, bands, cols, cores.vectors, n)
        spec = opened.spec
        problem = problem_of(spec, chip, isa, pins)
        tile = CubeTile((0, 0, 0), (0, 0, 0), 0, 0)
        parts = MixParts(common, spec, problem, tile, part.program, part.storage, cut, part.reg, chip, isa)
        for nest in nests_of(chip):
            if nest == COLUMNS:
                continue
            tile = CubeTile((cut.m, cut.n, spec.k if nest == WHOLE else k), (cut.m, cut.n, k0), depth, 0)
            grids = nest_grids(nest, spec, cut.m, cut.n, band)
            here = replace(parts, tile=tile)
            builders = (write_together(here, grids),) if cores.together else write_apart(here, grids)
            self._templates[nest] = GroupPrograms(builders, cores.order, (*opened.variables, *symbols, *_TILE))

    def instance(self, values: Sequence[int]) -> Image | None:
        """The image for values of the symbols; None when m, n, k or a batch dim is 0, or no band of a tile fits UB."""
        chosen = self.choose(values)
        return None if chosen is None else self.image(values, chosen)

    def choose(self, values: Sequence[int]) -> MixChosen | None:
        """What an image is made of, with estimates; None as for `instance`."""
        found = self._choose(values)
        return None if found is None else found[0]

    def image(self, values: Sequence[int], chosen: MixChosen) -> Image:
        """The image of what was chosen for these values."""
        return self._cores.image(self._name, chosen, chosen.numbers)

    def ub_bytes(self, chosen: MixChosen) -> int:
        """Bytes of UB of a band of a tile."""
        rows, _, cols, *_ = chosen.numbers[-len(_TILE) :]
        return int(self._nbytes(rows, cols)[0])

    def look(self, values: Sequence[int]) -> Looked | None:
        """What `instance` makes its image of, for who wants to see it; the cycles are those estimated of the product."""
        found = self._choose(values)
        if found is None:
            return None
        (template, numbers, *_), tile = found
        image = self.image(values, found[0])
        rows, bands, cols = numbers[-len(_TILE) :][:3]
        (m1, n1, k1), (_, _, k0) = tile.l1, tile.l0
        text = f"L1 {m1} x {n1} x {k1}, L0 {m1} x {n1} x {k0}, {bands} bands of {rows} x {cols}"
        m, n, k, batch, *_ = self._sizes(*values)
        return Looked(image, self.tensors, text, tile.cycles, template.buffers(numbers), ((m, n, k, batch), tile))

    def _choose(self, values: Sequence[int]) -> tuple[MixChosen, CubeTile] | None:
        """What an image is made of, and the tile; None as for `instance`."""
        asked, found = self._last
        if asked is not values:
            found = self._found(values)
            if isinstance(values, tuple):  # nobody changes it
                self._last = values, found
        return found

    def _found(self, values: Sequence[int]) -> tuple[MixChosen, CubeTile] | None:
        m, n, k, batch, a_pitch, b_pitch, *lie = self._sizes(*values)
        if m * n * k * batch == 0:
            return None
        sizes = ProductSizes(m, n, k, batch, a_pitch, b_pitch)
        tile, cycles = self.chooser.choose(sizes), self.chooser.kept_cycles(sizes)
        (m1, n1, k1), (_, _, k0) = tile.l1, tile.l0
        # A tile that is the only one may be cut off at any row; bands cut whole blocks.
        m1 = align_up(m1, self._block_rows)
        cols = -(-n1 // self._cores.vectors)
        bands = next((cut for cut in _CUTS if m1 % cut == 0 and self._nbytes(m1 // cut, cols)[0] <= self._capacity), 0)
        if not bands or (n1 % self._cores.vectors and n1 < n):
            return None
        nest = self._nests.choose(m, n, k, batch, tile)
        cut = m1 // bands, bands, cols
        numbers = (*lie, *values[: self._known], *cut, n1, k1, k0, tile.l0c_depth, nest.band)
        elements = m * n * batch
        behind = self._cost.behind(cycles, sum(nest.tiles), elements, cut)
        template, alone = self._templates[nest.number], self._cost.alone(elements)
        return MixChosen(template, numbers, nest.tiles, cycles, behind, alone, nest.by_grid), tile
