"""Matrix products planned for all shapes: the choice of a tile, and a template for each of two loop nests.

Where all of k is in one L1 tile, an operand stays there for as long as its tile serves; else k is walked.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from npuvm.compiler.cube_codegen import check_types, problem_of
from npuvm.compiler.cube_cost import ProductSizes
from npuvm.compiler.cube_emit import MatmulEmitter
from npuvm.compiler.cube_lower import lower_cube
from npuvm.compiler.cube_plan import CubeTile, chooser_of
from npuvm.compiler.cube_spec import normalise
from npuvm.compiler.schedule import Pins
from npuvm.compiler.schedule_walk import Axis, GridWalk, Walk
from npuvm.compiler.segments import CubeSegment
from npuvm.compiler.symint import Function, SymInt, ceil_div, compile_values
from npuvm.compiler.template import Template
from npuvm.hw.config import NpuConfig
from npuvm.isa import EvenEntries, Image, Isa

__all__ = ["CubeFamily"]

_TILE = ("<m>", "<n>", "<k at L1>", "<k at L0>", "<accumulators>")
"""Variables beside the symbols, under names that no symbol has."""


class CubeFamily:
    """All instances of a matrix product on one chip, without pins, that have elements and something to add up."""

    def __init__(self, segment: CubeSegment, symbols: Sequence[str], chip: NpuConfig, isa: Isa) -> None:
        spec, self.tensors = lower_cube(segment, {name: SymInt.variable(name) for name in symbols})
        self._spec = normalise(spec)
        check_types(self._spec, chip, isa)
        self._problem = problem_of(self._spec, chip, isa, Pins())
        self._symbols = tuple(symbols)
        spec, problem = self._spec, self._problem
        self._sizes: Function = compile_values(
            symbols, (spec.m, spec.n, spec.k, prod(spec.batch), problem.a.pitch, problem.b.pitch), "sizes"
        )
        self._cores = chip.cores_with("cube")
        self._core_type = chip.core_type_with("cube")
        self._chooser = chooser_of(problem, self._cores)
        self._templates: dict[bool, Template] = {}

    def instance(self, values: Sequence[int]) -> Image | None:
        """The image for values of the symbols; None when m, n, k or a batch dim is 0."""
        sizes = ProductSizes(*self._sizes(*values))
        m, n, k, batch, _, _ = sizes
        if m * n * k * batch == 0:
            return None
        tile = self._chooser.choose(sizes)
        (m1, n1, k1), (_, _, k0) = tile.l1, tile.l0
        whole = k1 >= k
        template = self._templates.get(whole)
        if template is None:
            template = self._templates[whole] = self._make_template(whole)
        words, relocs = template.instance((*values, m1, n1, k1, k0, tile.l0c_depth))
        tiles = batch * -(-m // m1) * -(-n // n1)
        entries = EvenEntries(self._core_type, min(self._cores, tiles), (tiles,))
        return Image(template.name, template.isa_hash, words, entries, relocs, template.n_args, template.grids)

    def _make_template(self, whole: bool) -> Template:
        """The program for tiles that have all of k at L1, or do not."""
        spec = self._spec
        m, n, k, k0, depth = (SymInt.variable(name) for name in _TILE)
        tile = CubeTile((m, n, spec.k if whole else k), (m, n, k0), depth, 0)
        emitter = MatmulEmitter(spec, self._problem, tile, self._core_type, len(self.tensors))
        axes = [Axis(f"b{at}", size) for at, size in enumerate(spec.batch)]
        axes += [Axis("m", ceil_div(spec.m, m)), Axis("n", ceil_div(spec.n, n))]
        emitter.write(spec, self._problem, Walk((GridWalk(tuple(axes), {}),), ()))
        return emitter.b.template((*self._symbols, *_TILE))
