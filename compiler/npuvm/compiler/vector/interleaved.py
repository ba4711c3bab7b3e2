"""Flat vector segments whose cores stream side by side, so that rows of main memory stay open.

Elements are dealt out in rounds: in each every core has a chunk, one after the other. A tile is a core's part of some rounds.
As long as all cores read what is in a few rows of the channels, a row is opened once for all its lines. What is left behind
whole rounds has a grid of its own, in chunks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod

from npuvm.compiler.emit.builder import InstrBuilder
from npuvm.compiler.emit.symint import SymInt, ceil_div
from npuvm.compiler.emit.template import Template
from npuvm.compiler.emit.walk import Axis, GridWalk
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.vector.choice import Choice, TileChooser
from npuvm.compiler.vector.cost import Estimate, TileCost
from npuvm.compiler.vector.emit import write_vector
from npuvm.compiler.vector.space import Space, Transfer, dim_name
from npuvm.compiler.vector.tile import VectorTile
from npuvm.compiler.vector.way import TILE, Maker, Tiled, Way, tile_walk, with_numbers
from npuvm.hw.config import NpuConfig
from npuvm.isa import EvenEntries

__all__ = ["Interleaved", "InterleavedWay", "chunk_bytes", "late_policy", "may_be_dealt", "moved_by"]

_MOST_BYTES, _LEAST_BYTES = 4096, 1024
"""Of a chunk: larger ones keep no more rows open, and those below this one take long to be issued."""

_POLICY = "<policy>"
"""The variable of templates that says how what is read once is kept in L2."""

_ROOM = 4
"""Streams for which all open rows have room."""

_ROUNDS = (8, 4, 2, 1)
"""Of a tile, as many as UB has room for."""

_LEAST_ROUNDS = 32
"""Of all tiles of a core together: with fewer, filling and emptying the pipeline is more than what rows cost."""


def chunk_bytes(chip: NpuConfig) -> int:
    """Bytes of a core's chunk: a power of two. 0 where main memory has no rows, or too few for all cores."""
    hbm = chip.memory.hbm
    if not (hbm.row_bytes and hbm.row_miss_cycles):
        return 0
    room = hbm.banks * hbm.row_bytes * hbm.channels // (_ROOM * chip.cores_with("vector"))
    return 0 if room < _LEAST_BYTES else min(_MOST_BYTES, 1 << room.bit_length() - 1)


class Interleaved:
    """The interleaved way of a flat space, whose values lie element behind element."""

    def __init__(self, maker: Maker, binding: Mapping[str, int], flat: Way, chunk: int) -> None:
        self._chunk, self._cores = chunk, maker.chip.cores_with("vector")
        own = self._way = _FlatWay.of(maker, binding, flat, chunk)
        self._cost = TileCost(
            own.space, own.program, maker.chip, maker.isa, self._cores, own.storage.depth, open_rows=True
        )
        self._rounds = tuple(each for each in _ROUNDS if own.chooser.fits(each, chunk))
        if self._rounds:
            own.prepare()

    @staticmethod
    def of(maker: Maker, binding: Mapping[str, int], way: Way) -> Interleaved | None:
        """The interleaved way to do what `way` does; None where its space is not flat, or nothing would be faster."""
        space, nbytes = way.space, chunk_bytes(maker.chip)
        if not (nbytes and _is_flat(way)):
            return None
        size = space.sizes[0]
        chunk = nbytes // max(each.item for each in space.reads if space.fills(each.node))
        round_size = maker.chip.cores_with("vector") * chunk
        if not isinstance(size, SymInt) and whole_rounds(size, round_size) < _LEAST_ROUNDS:
            return None
        return Interleaved(maker, binding, way, chunk)

    def faster(self, sizes: Sequence[int], than: Choice) -> tuple[Choice, Way] | None:
        """A way and its tile for elements of the flat space, with an estimate below that of another choice."""
        rounds = whole_rounds(sizes[0], self._cores * self._chunk)
        if rounds < _LEAST_ROUNDS or not self._rounds:
            return None
        estimate: Estimate = self._cost.of((self._cores, rounds, self._chunk), self._cores)
        cycles, _, most = min([(estimate(each, self._chunk), -each, each) for each in self._rounds])
        if cycles >= than.cycles:
            return None
        return Choice(cycles, most, self._chunk), self._way


class InterleavedWay(Way):
    """A way whose cores read side by side. Where L2 does not hold all that it moves, what is read once leaves L2 to results."""

    variables: tuple[str, ...] = (*TILE, _POLICY)

    def __init__(self, maker: Maker, space: Space, made: Tiled, chooser: TileChooser | None = None) -> None:
        super().__init__(maker, space, *made, chooser)
        self._bytes = sum(each.item for each in moved_by(space) if space.fills(each.node))
        self._kept = maker.chip.capacity_bytes("l2")
        self._policies = maker.isa.instruction("ld").operand("cache").values

    def prepare(self) -> Template:
        self._template, self._tensors = self._make_template()
        return self._template

    def numbers(self, sizes: Sequence[int], choice: Choice) -> tuple[int, ...]:
        past = prod(sizes) * self._bytes > self._kept
        return choice.rows, choice.cols, self._policies["stream" if past else "normal"]


class _FlatWay(InterleavedWay):
    """Tiles of chunks from several rounds, and behind them a grid of what is left; `left` is its space."""

    def __init__(self, maker: Maker, space: Space, made: Tiled, left: Space) -> None:
        super().__init__(maker, late_policy(space), made)
        self._left = late_policy(left)

    @staticmethod
    def of(maker: Maker, binding: Mapping[str, int], flat: Way, chunk: int) -> _FlatWay:
        """The way for chunks of so many elements of a flat space."""
        size, cores = flat.space.sizes[0], maker.chip.cores_with("vector")
        rounds = whole_rounds(size, cores * chunk)
        space = replace(
            _dealt(flat.space, (chunk, cores * chunk, 1), 0),
            sizes=(cores, rounds, chunk),
            reduced=(False,) * 3,
            row=1,
            col=2,
        )
        left = replace(_dealt(flat.space, (1,), rounds * cores * chunk), sizes=(size - rounds * cores * chunk,))
        made = maker.tiled(binding, space, flat.storage.depth, maker.chip if flat.storage.stripe else None)
        return _FlatWay(maker, space, made, left)

    def write(self, tile: VectorTile) -> tuple[InstrBuilder, tuple[str, ...]]:
        maker, chunk = self.maker, self.space.cols
        left = VectorTile(1, chunk, 0.0)
        return write_vector(
            self.segment.name,
            self.space,
            self.program,
            self.storage,
            VectorTile(tile.rows, chunk, 0.0),
            [_rounds_walk(self.space, tile.rows)],
            maker.chip,
            maker.isa,
            Pins(),
            (self._left, left, tile_walk(self._left, left)),
        )

    def entries(self, sizes: Sequence[int], choice: Choice) -> EvenEntries:
        round_size = self.cores * choice.cols
        rounds = whole_rounds(sizes[0], round_size)
        tiles = self.cores * ceil_div(rounds, choice.rows), ceil_div(sizes[0] - rounds * round_size, choice.cols)
        return EvenEntries(self.core_type, self.cores, tiles, by_grid=True)

    def grids(self, values: Sequence[int], choice: Choice) -> tuple[GridWalk, ...]:
        symbols, left = self.maker.symbols, VectorTile(1, self.space.cols, 0.0)
        main = _rounds_walk(with_numbers(self.space, symbols, values), choice.rows)
        return main, tile_walk(with_numbers(self._left, symbols, values), left)


def _rounds_walk(space: Space, rows: int) -> GridWalk:
    """Cores, and for each of them its tiles of so many rounds."""
    return GridWalk((Axis(dim_name(0), space.sizes[0]), Axis(dim_name(1), ceil_div(space.rows, rows))), {})


def whole_rounds(size: int, round_size: int) -> int:
    """Rounds of so many elements, with one element left behind them at least."""
    return ceil_div(size, round_size) - 1


def _is_flat(way: Way) -> bool:
    """Whether all there is lies element behind element, and no instruction knows where it is or, as
    `asm` may, in how many rows.
    """
    space = way.space
    return (
        len(space.sizes) == 1
        and not space.reduced[0]
        and space.cut is None
        and may_be_dealt(space)
        and all(each.strides == (1,) for each in moved_by(space) if space.has(each.node, 0))
        and all(insn.numbered is None and insn.op != "asm" for insn in way.program.insns)
    )


def _dealt(flat: Space, strides: tuple[int, ...], offset: int) -> Space:
    """A flat space with dims that have these strides, `offset` elements behind its start; sizes are still those it has."""

    def moved(transfers: Sequence[Transfer]) -> tuple[Transfer, ...]:
        return tuple(
            replace(each, strides=strides, offset=each.offset + offset)
            if flat.has(each.node, 0)
            else replace(each, strides=(0,) * len(strides))
            for each in transfers
        )

    present = {key: flags * len(strides) for key, flags in flat.present.items()}
    return replace(flat, present=present, reads=moved(flat.reads), writes=moved(flat.writes))


def moved_by(space: Space) -> tuple[Transfer, ...]:
    """All that tiles read and write."""
    return *space.reads, *space.writes


def may_be_dealt(space: Space) -> bool:
    """Whether cores may have the parts of a space in turn: something is read whole, nothing at indices, nothing is added to.

    Of a tensor that is read whole in two places a core with a piece of its own finds lines in L2 sooner.
    """
    whole = [each.access.tensor.name for each in space.reads if space.fills(each.node)]
    plain = all(each.picks is None and not each.access.adds for each in moved_by(space))
    return 0 < len(whole) == len(set(whole)) and plain


def late_policy(space: Space) -> Space:
    """A space of which each shape says whether L2 keeps what tiles read once, and a kernel does not say it."""
    policy = SymInt.variable(_POLICY)
    reads = tuple(
        replace(each, policy=policy) if space.fills(each.node) and each.access.cache == "normal" else each
        for each in space.reads
    )
    return replace(space, reads=reads)
