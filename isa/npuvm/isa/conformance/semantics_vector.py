"""Cases of the vector unit: every instruction in every data type, on the edges of the type and on tiles of every kind.

An instruction with an oracle of its own is held to it; any other whose semantics is an expression to a second reading of that
expression, and its bins are called derived.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from npuvm.isa.conformance.oracle import ORACLES, Expectation, Operands
from npuvm.isa.conformance.oracle_derived import derived_result, derived_tolerance
from npuvm.isa.conformance.oracle_numbers import (
    FLOATS,
    STORAGE,
    Array,
    edge_values,
    stored,
    tie_values,
    value_classes,
)
from npuvm.isa.conformance.semantics_board import ALIGN, Board, Tile, dense_pitch
from npuvm.isa.conformance.target import Level, ProgramCase
from npuvm.isa.errors import IsaError
from npuvm.isa.model import Instruction, Isa, OperandSpec

__all__ = ["SHAPES", "vector_cases", "vector_instructions"]

SHAPES: Mapping[str, tuple[int, int]] = {
    "one-element": (1, 1),
    "no-rows": (0, 5),
    "no-columns": (5, 0),
    "strided-tail": (3, 17),
    "column": (7, 1),
    "pitch-0": (4, 9),
    "long": (2, 300),
    "in-place": (3, 11),
    "shifted-overlap": (3, 40),
}
"""Kinds of tiles by the name of their coverage bin: (rows, cols)."""

_FLOAT_IMMEDIATES = (1.5, -0.75, 0.0, 3.0e38, 1e-40, np.inf, np.nan, 2048.0)
_INT_IMMEDIATES = (3, -1, 0, (1 << 31) - 1, -(1 << 31))
_SUMS = ("vsuml", "vsumf", "vscanl", "vscanf")
"""Instructions whose tiles hold numbers with exact sums."""
_ZEROS_ARE_EQUAL = ("vrelu", "vmax", "vmin", "vmaxs", "vmins", "vmaxl", "vminl", "vmaxf", "vminf")
"""Instructions for which nothing says which of two zeros of different sign is larger: their tiles hold no negative one."""


def vector_instructions(isa: Isa) -> list[Instruction]:
    """Those that are on and for which there is an oracle."""
    on = [i for i in isa.instructions.values() if i.unit == "vector" and isa.features[i.feature]]
    return [i for i in on if i.name in ORACLES or i.semantics is not None]


def vector_cases(isa: Isa, seed: int) -> Iterator[ProgramCase]:
    """A case, for sums of floats two, for every instruction and pair of types; `seed` draws what is no edge value."""
    for instruction in vector_instructions(isa):
        for index, (dtype, dtype2) in enumerate(instruction.dtypes):
            if not {dtype, dtype2 or dtype} <= set(STORAGE):
                continue  # a type that the oracle does not know: its bins stay uncovered
            random = np.random.default_rng([seed, instruction.opcode, index])
            yield _Builder(isa, instruction, dtype, dtype2, random).case()
            if instruction.name in ("vsuml", "vsumf") and dtype in FLOATS:
                yield _Builder(isa, instruction, dtype, dtype2, random).random_sums()


@dataclass(frozen=True, slots=True)
class _Contents:
    """Values of the tiles that are read, by operand name, and of the other operands."""

    tiles: Mapping[str, Array]
    plain: Mapping[str, int]


class _Builder:
    """Builds the cases of one instruction in one pair of data types."""

    def __init__(
        self, isa: Isa, instruction: Instruction, dtype: str, dtype2: str | None, random: np.random.Generator
    ) -> None:
        self._instruction = instruction
        self._dtype, self._dtype2 = dtype, dtype2
        self._random = random
        self._kinds = {r.name: instruction.region_dtype(isa, r, dtype, dtype2).name for r in instruction.regions}
        self._reads = [region for region in instruction.regions if region.role != "write"]
        self._target = next(region for region in instruction.regions if region.role != "read")
        self._expectation = ORACLES.get(instruction.name) or self._derived(instruction)
        self._board = Board(STORAGE[self._kinds[self._target.name]])
        self._found: set[str] = set()
        text = instruction.semantics or ""
        self._derives = instruction.name not in ORACLES
        self._sums = "sum(" in text if self._derives else instruction.name in _SUMS
        self._compares_zeros = "max" in text or "min" in text if self._derives else instruction.name in _ZEROS_ARE_EQUAL

    def _derived(self, instruction: Instruction) -> Expectation:
        text = instruction.semantics or ""
        target = self._kinds[self._target.name]
        return Expectation(lambda op: derived_result(text, op, target), derived_tolerance(text))

    @property
    def _types(self) -> str:
        return self._dtype if self._dtype2 is None else f"{self._dtype}->{self._dtype2}"

    def case(self) -> ProgramCase:
        """Edge values, then tiles of every kind."""
        for contents in self._edges():
            self._run("edges", contents)
        for what, (rows, cols) in SHAPES.items():
            if what not in ("in-place", "shifted-overlap") or self._may_alias():
                self._run(what, self._mixed(rows, cols))
        return self._finished("", self._expectation.tolerance)

    def random_sums(self) -> ProgramCase:
        """Sums of numbers above 0, whose error a bound is known for: half a place for every addition."""
        rows, cols = (4, 64) if self._instruction.name == "vsuml" else (64, 4)
        values = stored(self._random.uniform(0.1, 4.0, (rows, cols)), self._dtype)
        self._run("random", _Contents({self._reads[0].name: values}, {}))
        return self._finished("/random", 64 if self._dtype == "fp32" else 1)

    def _finished(self, suffix: str, tolerance: int) -> ProgramCase:
        name = f"semantics/{self._instruction.name}/{self._types}"
        mark = "derived-" if self._derives else ""
        return ProgramCase(
            id=name + suffix,
            level=Level.SEMANTICS,
            chip="edge",
            text=self._board.text(),
            arguments=(self._board.inputs, self._board.before),
            expected={1: self._board.after},
            tolerance=tolerance,
            bins=tuple(f"{name}/{mark}{what}" for what in sorted(self._found)),
        )

    def _may_alias(self) -> bool:
        """Whether the target can lie where the first operand lies: same type and shape."""
        same = [r for r in self._reads if r.shape == self._target.shape and r is not self._target]
        return bool(same) and self._kinds[same[0].name] == self._kinds[self._target.name]

    # Contents.

    def _edges(self) -> Iterator[_Contents]:
        """Tiles with the edge values: alone, every one with every other, or in rows that are reduced."""
        immediates = self._immediates() or [0]
        if not self._reads:
            tiles = {}
        elif self._sums or len(self._target.shape) > sum(extent != 1 for extent in self._target.shape):
            tiles, immediates = self._reduced(), immediates[:1]
        elif len(self._reads) == 1:
            region = self._reads[0]
            edges = self._edge_list(region)
            tiles = {region.name: edges[:, None] if region.shape[1] == 1 else edges[None, :]}
        else:
            tiles = self._pairs()
        yield from (_Contents(tiles, self._plain(bits)) for bits in immediates)

    def _pairs(self) -> dict[str, Array]:
        """Edge values of the first operand along the columns and of the second along the rows; of a third, over and over."""
        edges = [self._edge_list(region) for region in self._reads]
        tiles = {}
        for i, region in enumerate(self._reads):
            down, across = region.shape[0] != 1, region.shape[1] != 1
            shape = (len(edges[1]) if down else 1, len(edges[0]) if across else 1)
            if i < 2 and down and across:
                line = edges[i][:, None] if i else edges[i][None, :]
                tiles[region.name] = np.broadcast_to(line, shape).copy()
            else:
                tiles[region.name] = np.resize(edges[i], shape)
        return tiles

    def _edge_list(self, region: OperandSpec) -> Array:
        kind = self._kinds[region.name]
        values = edge_values(kind)
        target = self._kinds[self._target.name]
        if self._instruction.format == "vcast" and target in FLOATS and kind != "bool":
            values = np.concatenate([values, tie_values(kind, target)])
        return self._allowed(values)

    def _allowed(self, values: Array) -> Array:
        """Without negative zeros where nothing says what they compare as."""
        return np.where(values == 0, np.zeros_like(values), values) if self._compares_zeros else values

    def _reduced(self) -> dict[str, Array]:
        """Rows, or columns, that reduce an edge value each, with zeros or other edge values; further operands are 1."""
        region = self._reads[0]
        kind = self._kinds[region.name]
        values = self._allowed(edge_values(kind))
        rows = np.zeros((len(values), 4), dtype=values.dtype)
        rows[:, 0] = values
        if self._sums:
            rows = np.concatenate([rows, _exact_sums(kind)])
        else:
            rows[:, 1:] = np.stack([np.roll(values, n) for n in (1, 5, 11)], axis=1)
        if self._target.shape[1] != 1:
            rows = np.ascontiguousarray(rows.T)
        ones = {r.name: np.ones(_shape(r, *rows.shape), STORAGE[self._kinds[r.name]]) for r in self._reads[1:]}
        return {region.name: rows, **ones}

    def _mixed(self, rows: int, cols: int) -> _Contents:
        """Tiles for these sizes with a bit of everything."""
        tiles = {}
        for region in self._reads:
            shape = _shape(region, max(rows, 1), max(cols, 1))
            kind = self._kinds[region.name]
            edges = self._allowed(edge_values(kind))
            if self._sums:
                edges = stored(np.arange(-8, 9), kind)
            tiles[region.name] = self._random.choice(edges, size=shape)
        immediates = self._immediates()
        return _Contents(tiles, self._plain(int(self._random.choice(immediates)) if immediates else 0))

    def _immediates(self) -> list[int]:
        """Immediates to try, as bits; none for an instruction without."""
        if not any(spec.kind.name == "bits32" for spec in self._instruction.operands):
            return []
        if self._dtype in FLOATS:
            values = np.array(_FLOAT_IMMEDIATES, dtype=np.float32)
            if self._instruction.name == "vdup":
                values = np.concatenate([values, tie_values("fp32", self._dtype)])
            return [int(v) for v in values.view(np.uint32)]
        wide = (*_INT_IMMEDIATES, 300, -300) if self._instruction.name == "vdup" else _INT_IMMEDIATES
        return [v & 0xFFFFFFFF for v in wide]

    def _plain(self, bits: int) -> dict[str, int]:
        """Values of the operands that are no tiles and no sizes: immediates, and the least of all others."""
        plain = {}
        for spec in self._instruction.operands:
            if spec.kind.name == "bits32":
                plain[spec.name] = bits
            elif not spec.is_region and spec.kind.name != "size" and spec.default is None:
                plain[spec.name] = spec.low
        return plain

    # One instruction.

    def _run(self, what: str, contents: _Contents) -> None:
        """Lay out the tiles, add the instruction, and say what it must leave behind."""
        rows, cols = SHAPES.get(what) or self._sizes(contents)
        tiles = {name: self._place(what, name, values) for name, values in contents.tiles.items()}
        values = dict(contents.tiles)
        target_shape = _shape(self._target, max(rows, 1), max(cols, 1))
        tiles[self._target.name], values = self._place_target(what, tiles, values, target_shape)
        sizes = {size.name: {"rows": rows, "cols": cols}.get(size.name, 1) for size in self._instruction.sizes}
        rest = " ".join(f"{name}={value:#x}" for name, value in contents.plain.items())
        self._board.run(f"{self._instruction.name}.{self._types}", tiles, sizes, rest)
        if what in SHAPES:
            self._found.add(what)
        if not (rows and cols):
            return
        for region in self._reads:
            self._found |= value_classes(values[region.name])
        op = Operands(values, contents.plain, self._dtype, self._dtype2, sizes=sizes)
        with np.errstate(all="ignore"):
            result = np.asarray(self._expectation.rule(op))
        self._found |= op.notes
        self._board.expect(tiles[self._target.name], self._fitted(result, target_shape))

    def _sizes(self, contents: _Contents) -> tuple[int, int]:
        """Rows and columns that fit the tiles."""
        rows = cols = 1
        for region in self._reads:
            shape = contents.tiles[region.name].shape
            rows = max(rows, shape[0] if region.shape[0] == "rows" else 1)
            cols = max(cols, shape[1] if region.shape[1] == "cols" else 1)
        return (rows, cols) if self._reads and "cols" in {r.shape[1] for r in self._reads} else (rows, 5)

    def _place(self, what: str, name: str, values: Array) -> Tile:
        dense = dense_pitch(values.shape[1], values.dtype.itemsize)
        pitch = {"pitch-0": 0, "strided-tail": dense + 2 * ALIGN}.get(what, dense)
        if what == "pitch-0":
            values[1:] = values[:1]
        aliased = what in ("in-place", "shifted-overlap") and name == self._reads[0].name
        return self._board.place(values, pitch, result=aliased)

    def _place_target(
        self, what: str, tiles: Mapping[str, Tile], values: dict[str, Array], shape: tuple[int, int]
    ) -> tuple[Tile, dict[str, Array]]:
        """The target's tile: its own, or where the first operand lies, or two rows of it further on."""
        if what in ("in-place", "shifted-overlap"):
            first = tiles[self._reads[0].name]
            return self._board.at(first, shape, 0 if what == "in-place" else ALIGN), values
        dtype = STORAGE[self._kinds[self._target.name]]
        old = np.zeros(shape, dtype=dtype)
        if self._target.role == "readwrite":
            old = values[self._target.name]
        pitch = dense_pitch(shape[1], dtype.itemsize) + (ALIGN if what == "strided-tail" else 0)
        return self._board.place(old, pitch, result=True), values

    def _fitted(self, result: Array, shape: Sequence[int]) -> Array:
        """A result in the shape of the target; IsaError when the instruction set gives it another shape or type."""
        dtype = STORAGE[self._kinds[self._target.name]]
        try:
            fitted = np.broadcast_to(result, tuple(shape))
        except ValueError:
            fitted = None
        if fitted is None or result.dtype != dtype:
            raise IsaError(
                f"{self._types}: the oracle gives {result.dtype} {result.shape}, the target is {dtype} {tuple(shape)}",
                self._instruction.name,
            )
        return fitted


def _exact_sums(kind: str) -> Array:
    """Rows whose sum is the same in any order: at ties, beyond the largest number, of infinities."""
    rows: list[list[float]] = [[2048, 1, 0, 0], [256, 1, 0, 0], [16777216, 1, 0, 0], [-3, 5, 7, -2]]
    if kind in FLOATS:
        top = FLOATS[kind].top
        rows += [[np.inf, -np.inf, 0, 0], [np.nan, np.inf, 0, 0], [top, top, 0, 0]]
    else:
        rows += [[(1 << 31) - 1, 1, 0, 0], [-(1 << 31), -1, 0, 0]]
    return stored(np.array(rows), kind)


def _shape(region: OperandSpec, rows: int, cols: int) -> tuple[int, int]:
    """Rows and columns of a region operand for these sizes; a size of another name counts 1."""
    known = {"rows": rows, "cols": cols, 1: 1}
    first, second = (known.get(extent, 1) for extent in region.shape)
    return first, second
