"""Vector segments planned for all shapes: for each structure of the iteration space a template and a chooser of tiles.

A structure says which dims the iteration space has and which of them tiles walk. Shapes that have it in common differ only in
numbers, which the template takes as they come; almost all shapes of a segment do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from npuvm.compiler.emit.symint import Function, SymInt, compile_values
from npuvm.compiler.emit.walk import GridWalk, Walk
from npuvm.compiler.errors import CompileError
from npuvm.compiler.language.pins import most_slots
from npuvm.compiler.native.tile_layout import Result
from npuvm.compiler.plan.segments import VectorSegment
from npuvm.compiler.vector.buffers import Storage
from npuvm.compiler.vector.choice import Choice
from npuvm.compiler.vector.codegen import RING_SLOTS, VectorKernel
from npuvm.compiler.vector.interleaved import Interleaved
from npuvm.compiler.vector.interleaved_rows import InterleavedRows
from npuvm.compiler.vector.lower import VecProgram
from npuvm.compiler.vector.native import NativeSearch, NativeWays
from npuvm.compiler.vector.phases import stripe_bytes
from npuvm.compiler.vector.space import RowsDoNotFit, Space, largest_dim, make_space
from npuvm.compiler.vector.tile import VectorTile
from npuvm.compiler.vector.way import Maker, Way, tile_walk, with_numbers
from npuvm.hw.config import NpuConfig
from npuvm.isa import Image, Isa

__all__ = ["Chosen", "Rows", "Structure", "VectorFamily", "opened"]

_SECOND = int(Result.SECOND)


@dataclass(frozen=True, slots=True)
class Chosen:
    """What an instance is made of: its tile in its iteration space, and the code that works on it.

    `pieces` is the tile of cores with a piece each, where cores have parts in turn as `grids` say.
    """

    choice: Choice
    space: Space
    covered: VectorSegment
    program: VecProgram
    storage: Storage
    grids: tuple[GridWalk, ...] = ()
    pieces: Choice | None = None


class VectorFamily:
    """All instances of a segment on one chip, without pins but `buffering`, for values of the names `symbols`.

    `empty`: its domain has no elements, whatever the values are. With `narrow` shapes whose columns are single elements have
    templates of their own.
    """

    def __init__(
        self,
        segment: VectorSegment,
        symbols: Sequence[str],
        chip: NpuConfig,
        isa: Isa,
        *,
        narrow: bool = True,
        buffering: str | None = None,
    ) -> None:
        self.chip, self.isa, self.buffering = chip, isa, buffering
        self._maker = Maker(segment, tuple(symbols), chip, isa, narrow, buffering)
        self._structure: Structure | None = None
        self.rows: Rows | None = None
        """What the last instance was made by."""
        self.empty = 0 in segment.domain

    def prepare(self) -> None:
        """Make all that almost any shape needs, once. Raises RowsDoNotFit and CompileError as `compile_vector` does."""
        if self._structure is not None:
            return
        symbols = self._maker.symbols
        self._structure = Structure(self._maker, {name: SymInt.variable(name) for name in symbols})
        self._structure.prepare()

    def instance(self, values: Sequence[int]) -> tuple[Image, tuple[str, ...]] | None:
        """The image for values of the symbols, and the tensors whose addresses it takes; None when a dim of the domain is 0.

        Raises RowsDoNotFit and CompileError as `compile_vector` does.
        """
        found = self.located(values)
        if found is None:
            return None
        self.rows, sizes = found
        return self.rows.instance(values, sizes)

    def fair_cycles(self, values: Sequence[int]) -> float | None:
        """The estimate of an instance on a number of cores that is not the chip's; None when a dim of the domain is 0."""
        found = self.located(values)
        return None if found is None else found[0].fair_cycles(found[1])

    def cycles(self, values: Sequence[int]) -> float:
        """The cycles that a launch for these values is estimated to take. Raises what `instance` does."""
        found = self.located(values)
        return 0.0 if found is None else found[0].choose(found[1])[0].cycles

    def located(self, values: Sequence[int]) -> tuple[Rows, Sequence[int]] | None:
        """The ways to work on tiles for these values, and the sizes of the iteration space; None when one of them is 0."""
        if self.empty:
            return None
        if self._structure is None:
            self.prepare()
        assert self._structure is not None
        return self._structure.located(values)

    def chosen(self, values: Sequence[int]) -> Chosen | None:
        """What `instance` makes its image of, for who wants to see it."""
        if self.empty:
            return None
        if self._structure is None:
            self.prepare()
        assert self._structure is not None
        return self._structure.chosen(values)


class Structure:
    """Instances whose space has the same dims.

    Where the columns of all tiles would be single elements, there is another structure without that dim: a row of a single
    element costs some ten cycles more than an element of a row. It is made with the others or never, and not for columns that
    are reduced: to reduce single elements is rarely meant.
    """

    def __init__(self, maker: Maker, binding: Mapping[str, int], rows: MakeRows | None = None) -> None:
        self._maker, self._binding, self._make_rows = maker, binding, rows or Rows
        self._outside: Sequence[int] = ()
        space = make_space(maker.segment, binding, self._first)
        self._sizes: Function = compile_values(maker.symbols, space.sizes, "sizes")
        self._rows: dict[int | None, Rows] = {}
        self._col = space.col
        columns = space.sizes[space.col]
        many = isinstance(columns, SymInt) and len(space.sizes) > 1
        self._may_be_narrow = maker.narrow and many and not space.reduced[space.col]
        self._columns = frozenset(columns.atoms) if isinstance(columns, SymInt) else frozenset()
        self._narrow: Structure | None = None
        self._prepared = False
        self._last: tuple[Sequence[int], tuple[Rows, Sequence[int]] | None] = (), None

    def _first(self, sizes: Sequence[int], dims: Sequence[int]) -> int | None:
        self._outside = dims
        return dims[0] if dims else None

    def located(self, values: Sequence[int]) -> tuple[Rows, Sequence[int]] | None:
        """What instances with the dims of these values have in common, and the sizes of the dims; None when one is 0."""
        known, found = self._last
        if known == values:
            return found
        if not self._prepared:
            with suppress(CompileError):  # the shape that needs what there is not will say why
                self.prepare()
        sizes = self._sizes(*values)
        if 0 in sizes:
            return None
        if self._narrow is not None and sizes[self._col] == 1:
            found = self._narrow.located(values)
        else:
            outside = self._outside
            row = largest_dim(sizes, outside) if len(outside) > 1 else outside[0] if outside else None
            found = self._of_row(row), sizes
        self._last = values, found
        return found

    def prepare(self) -> None:
        """Make the templates of single columns, and those for each dim that rows may walk."""
        self._prepared = True
        if self._may_be_narrow:
            binding = {name: 1 if name in self._columns else value for name, value in self._binding.items()}
            with suppress(CompileError):  # these tiles do without
                narrow = Structure(self._maker, binding, self._make_rows)
                narrow.prepare()
                self._narrow = narrow
        for row in self._outside or (None,):
            self._of_row(row)

    def _of_row(self, row: int | None) -> Rows:
        rows = self._rows.get(row)
        if rows is None:
            space = make_space(self._maker.segment, self._binding, lambda sizes, dims: row)
            rows = self._rows[row] = self._make_rows(self._maker, self._binding, space)
        return rows

    def chosen(self, values: Sequence[int]) -> Chosen | None:
        """What the instance of these values consists of."""
        found = self.located(values)
        if found is None:
            return None
        choice, way = found[0].choose(found[1])
        space = with_numbers(way.space, self._maker.symbols, values)
        grids = way.grids(values, choice)
        pieces = found[0].pieces(found[1]) if grids else None
        return Chosen(choice, space, way.segment, way.program, way.storage, grids, pieces)


class Rows:
    """Instances whose tiles walk the same dims. Which of several ways to work on a tile is best depends on the sizes."""

    def __init__(self, maker: Maker, binding: Mapping[str, int], space: Space) -> None:
        self._name = maker.segment.name
        self._capacity = maker.chip.capacity_bytes("ub")
        self._whole_only = space.whole
        self._last: tuple[Sequence[int], Choice, Way] | None = None
        self._last_fair: tuple[Sequence[int], float] | None = None
        self._last_fairest: tuple[Sequence[int], tuple[Choice, Way] | None] | None = None
        self._ways = [_Ways(maker, binding, space)]
        if not space.whole and space.may_be_whole():
            # Where whole dims are short of room, walking over them is no worse.
            self._ways.append(_Ways(maker, binding, replace(space, whole=True), levels=1))
        self._firsts = [ways.first for ways in self._ways]
        self._native = NativeWays.of([way.chooser.native for way in self._firsts])
        self._interleaved: Interleaved | InterleavedRows | None = None
        if all(isinstance(each, SymInt) for each in binding.values()):  # what has single columns is rarely large
            first = self._firsts[0]
            self._interleaved = Interleaved.of(maker, binding, first) or InterleavedRows.of(maker, first)

    def instance(self, values: Sequence[int], sizes: Sequence[int]) -> tuple[Image, tuple[str, ...]]:
        choice, way = self.choose(sizes)
        return way.instance(values, sizes, choice)

    def choose(self, sizes: Sequence[int]) -> tuple[Choice, Way]:
        """The best way and its tile. Raises RowsDoNotFit and CompileError when there is none.

        Which way is best does not depend on the number of cores, so that sums are added in one order on all chips.
        """
        if self._last is not None and self._last[0] == sizes:
            return self._last[1], self._last[2]
        found = self._chosen(sizes)
        if found is not None and self._interleaved is not None:
            found = self._interleaved.faster(sizes, found[0]) or found
        if found is None:
            error = RowsDoNotFit if self._whole_only else CompileError
            need, room = min(ways.least_bytes(sizes) for ways in self._ways), self._capacity
            raise error(f"the smallest tile needs {need} bytes of UB; there are {room}", self._name)
        self._last = sizes, *found
        return found

    def pieces(self, sizes: Sequence[int]) -> Choice | None:
        """The best tile of cores that have a piece each; None where none fits."""
        found = self._chosen(sizes)
        return found and found[0]

    def _chosen(self, sizes: Sequence[int]) -> tuple[Choice, Way] | None:
        if self._native is not None:
            found = self._native.choose(sizes)
            if found is not None:
                self.take(sizes, *found)
                return self.last
        if len(self._ways) == 1 and (self._last_fairest is None or self._last_fairest[0] != sizes):
            return self._ways[0].choose(sizes)
        fairest = self._fairest(sizes)
        return fairest and (fairest[1].chooser.of_fair(sizes, fairest[0]), fairest[1])

    def _fairest(self, sizes: Sequence[int]) -> tuple[Choice, Way] | None:
        """The best way and its tile for a number of cores that is not the chip's."""
        if self._last_fairest is not None and self._last_fairest[0] == sizes:
            return self._last_fairest[1]
        best: tuple[Choice, Way] | None = None
        for ways in self._ways:
            found = ways.choose(sizes, fair=True)
            if found is not None and (best is None or found[0].cycles < best[0].cycles):
                best = found
        self._last_fairest = sizes, best
        return best

    @property
    def searches(self) -> list[NativeSearch] | None:
        """What chooses by machine code in each way, where all have it."""
        found = [way.chooser.native for way in self._firsts]
        return [each for each in found if each is not None] if None not in found else None

    def take(self, sizes: Sequence[int], which: int, fair: float, cycles: float, rows: int, cols: int) -> None:
        """Take what machine code has chosen for these sizes, and do not choose again."""
        self._last_fair = sizes, fair
        self._last = sizes, Choice(cycles, rows, cols), self._firsts[which == _SECOND]

    def dim_of(self, symbol: str) -> int | None:
        """The dim whose size is this symbol; None where there is none, or sizes of others have to do with it."""
        sizes = self._firsts[0].space.sizes
        found = [dim for dim, size in enumerate(sizes) if isinstance(size, SymInt) and symbol in size.atoms]
        return found[0] if len(found) == 1 and sizes[found[0]] == SymInt.variable(symbol) else None

    @property
    def last(self) -> tuple[Choice, Way] | None:
        """The way and the tile that were chosen last."""
        return None if self._last is None else self._last[1:]

    def ways(self, sizes: Sequence[int]) -> list[Way]:
        """Every way for which a tile fits, each with as much room as there is: `choose` takes a tile of one of them."""
        found = (ways.choose(sizes) for ways in self._ways)
        return [each[1] for each in found if each is not None]

    def fair_cycles(self, sizes: Sequence[int]) -> float:
        """The estimate on a number of cores that is not the chip's. Raises what `choose` does."""
        if self._native is not None:
            self.choose(sizes)
        if self._last_fair is None or self._last_fair[0] != sizes:
            found = self._fairest(sizes) or self.choose(sizes)
            self._last_fair = sizes, found[0].cycles
        return self._last_fair[1]


class _Ways:
    """One way to reduce, with less and less room for anything else: gaps between banks are given up, then second slots."""

    def __init__(self, maker: Maker, binding: Mapping[str, int], space: Space, levels: int | None = None) -> None:
        self._maker, self._binding, self._space = maker, binding, space
        gaps = [maker.chip, None] if stripe_bytes(maker.chip) else [None]
        most = most_slots(maker.buffering, RING_SLOTS)
        depths = tuple(range(most, 0, -1)) if space.whole else (most,)
        self._levels = [(depth, banked) for depth in depths for banked in gaps][:levels]
        self._made = [maker.way(binding, space, *self._levels[0])]
        self._made[0].prepare()
        gaps_bytes = 3 * stripe_bytes(maker.chip) * len(self._made[0].storage.slots)
        # With one slot for two a tile takes no less than half.
        self.room = (2 if space.whole else 1) * maker.chip.capacity_bytes("ub") + gaps_bytes
        """Bytes at the first level of the tiles that may fit at any."""

    @property
    def first(self) -> Way:
        """The way at the first level."""
        return self._made[0]

    def choose(self, sizes: Sequence[int], *, fair: bool = False) -> tuple[Choice, Way] | None:
        """The best tile of the first level at which one fits; with `fair` for a number of cores that is not the chip's."""
        for way in self.levels(sizes):
            choice = way.chooser.fair(sizes) if fair else way.chooser.choose(sizes)
            if choice is not None:
                return choice, way
        return None

    def levels(self, sizes: Sequence[int]) -> Iterator[Way]:
        """The way at each level at which tiles for these sizes may fit, made for the first who asks."""
        for at, level in enumerate(self._levels):
            if at == len(self._made):
                if self.least_bytes(sizes) > self.room:
                    return
                self._made.append(self._maker.way(self._binding, self._space, *level))
            yield self._made[at]

    def least_bytes(self, sizes: Sequence[int]) -> int:
        """Bytes of the smallest tile with all the room there can be, at the first level."""
        return self._made[0].chooser.least_bytes(sizes)


MakeRows = Callable[[Maker, Mapping[str, int], Space], Rows]
"""Makes what instances have in common, for a space whose sizes are not known."""


def opened(chosen: Chosen | None, made: tuple[Image, tuple[str, ...]] | None, chip: NpuConfig) -> VectorKernel | None:
    """An instance as `compile_vector` gives one; None of none."""
    if chosen is None or made is None:
        return None
    image, tensors = made
    tile, pieces = _tile(chosen.choice), chosen.pieces and _tile(chosen.pieces)
    grids = chosen.grids or (tile_walk(chosen.space, tile),)
    walk = Walk(grids, tuple(entry.ranges for entry in image.entries))
    return VectorKernel(
        image,
        tensors,
        tile,
        chosen.space,
        walk,
        chip.core_type_with("vector"),
        chosen.covered,
        chosen.program,
        chosen.storage,
        pieces,
    )


def _tile(choice: Choice) -> VectorTile:
    return VectorTile(choice.rows, choice.cols, choice.cycles)
