"""Cases of the fixpipe: accumulators out to global memory, UB and L1, cast and activated, and added to global memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from npuvm.isa.conformance.needs import type_pairs
from npuvm.isa.conformance.oracle_numbers import (
    FLOATS,
    STORAGE,
    Array,
    converted,
    edge_values,
    rounded,
    stored,
    tie_values,
    wide,
)
from npuvm.isa.conformance.semantics_flow import Flow
from npuvm.isa.conformance.semantics_text import Window
from npuvm.isa.conformance.target import Level, ProgramCase
from npuvm.isa.model import Isa

__all__ = ["fixpipe_cases"]


@dataclass(frozen=True, slots=True)
class _Tile:
    """Accumulators of rows x cols, where they go, whether negative ones are cleared, and rows of the tile before the window."""

    rows: int
    cols: int
    space: str = "gm"
    relu: bool = False
    spread: int = 0
    before: int = 0


_TILES: Mapping[str, _Tile] = {
    "edges": _Tile(8, 12),
    "edges-relu": _Tile(8, 12, relu=True),
    "one-element": _Tile(1, 1),
    "no-rows": _Tile(0, 5),
    "no-columns": _Tile(5, 0),
    "spread-rows": _Tile(3, 17, spread=3),
    "column": _Tile(7, 1),
    "window": _Tile(6, 5, before=2),
    "to-ub": _Tile(3, 17, "ub"),
    "to-ub-relu": _Tile(5, 8, "ub", relu=True),
    "to-l1": _Tile(3, 17, "l1"),
    "to-l1-relu": _Tile(4, 8, "l1", relu=True),
}
"""Kinds of tiles by the name of their bin."""


def fixpipe_cases(isa: Isa, seed: int) -> Iterator[ProgramCase]:
    """Both instructions in every pair of types."""
    for name in ("fix", "fixadd"):
        for index, (acc, target) in enumerate(type_pairs(isa, name)):
            yield _Builder(name, acc, target or "", np.random.default_rng([seed, index, 13])).case()


class _Builder:
    """One case. Argument 1 holds what is written in the type of the target, argument 2 what went through L1."""

    def __init__(self, name: str, acc: str, target: str, random: np.random.Generator) -> None:
        self._name, self._acc, self._target = name, acc, target
        self._random = random
        self._flow = Flow()
        self._old: list[Array] = []
        self._new: list[Array] = []
        self._returned: list[Array] = []

    def case(self) -> ProgramCase:
        """Every kind of tile that the instruction takes."""
        prefix = f"semantics/{self._name}/{self._acc}->{self._target}"
        covered = []
        for what, tile in _TILES.items():
            if tile.space == "gm" or self._name == "fix":
                # Nothing brings int32 from L1 back to where it can be seen.
                if tile.space == "l1" and self._target == "int32":
                    continue
                self._add(tile)
                covered.append(f"{prefix}/{what}")
        expected = {1: np.concatenate(self._new)}
        arguments = [np.frombuffer(bytes(self._flow.read), np.uint8), np.concatenate(self._old)]
        if self._returned:
            expected[2] = np.concatenate(self._returned)
            arguments.append(np.zeros_like(expected[2]))
        return ProgramCase(
            id=prefix,
            level=Level.SEMANTICS,
            chip="edge",
            text=self._flow.text(len(arguments)),
            arguments=tuple(arguments),
            expected=expected,
            bins=tuple(covered),
        )

    def _add(self, tile: _Tile) -> None:
        """One tile: its accumulators, the instruction, and what it leaves."""
        shape = (max(tile.rows, 1), max(tile.cols, 1))
        source, values = self._accumulators(shape, tile.relu)
        active = np.where(values < 0, 0, values) if tile.relu else values
        if tile.space == "gm":
            self._to_gm(tile, source, active)
            return
        result = converted(active, self._target)
        on_chip = self._flow.tile(tile.space, shape, result.dtype.itemsize)
        sizes = self._flow.sizes(rows=tile.rows, cols=tile.cols)
        self._flow.add("fixpipe", f"{self._mnemonic} dst={on_chip} src={source} {sizes}{' act=relu' * tile.relu}")
        if tile.space == "ub":
            target = self._flow.program.desc("gm", self._end * result.itemsize, shape[1] * result.itemsize, arg=1)
            self._flow.add("store", f"st.{self._target} dst={target} src={on_chip} {sizes}")
            self._old.append(np.zeros(result.size, result.dtype))
            self._new.append(result.reshape(-1))
        else:
            back = self._flow.tile("l0c", shape, 4)
            self._flow.add("move again", f"mvl0c.{self._target} dst={back} src={on_chip} {sizes}")
            at = sum(each.size for each in self._returned)
            acc = "fp32" if self._target in FLOATS else "int32"
            self._flow.out(back, *shape, acc, at, arg=2, stage="fixpipe again")
            self._returned.append(converted(wide(result), acc).reshape(-1))

    @property
    def _mnemonic(self) -> str:
        return f"{self._name}.{self._acc}->{self._target}"

    @property
    def _end(self) -> int:
        """Elements of argument 1 so far."""
        return sum(each.size for each in self._old)

    def _to_gm(self, tile: _Tile, source: str, values: Array) -> None:
        """Into global memory behind what is there, one element further on, so that nothing is aligned."""
        rows, cols = values.shape
        item = STORAGE[self._target].itemsize
        kept = rows - tile.before
        old = self._before(kept, cols + tile.spread)
        new = old.copy()
        if tile.rows and tile.cols:
            new[:, :cols] = self._stored(new[:, :cols], values[tile.before :])
        window = Window(-tile.before, 0, kept, cols) if tile.before else None
        base = (self._end + 1 - tile.before * (cols + tile.spread)) * item
        target = self._flow.program.desc("gm", base, (cols + tile.spread) * item, arg=1, window=window)
        sizes = self._flow.sizes(rows=tile.rows, cols=tile.cols)
        self._flow.add("fixpipe", f"{self._mnemonic} dst={target} src={source} {sizes}{' act=relu' * tile.relu}")
        gap = np.ones(1, old.dtype)
        self._old += [gap, old.reshape(-1)]
        self._new += [gap, new.reshape(-1)]

    def _before(self, rows: int, cols: int) -> Array:
        """What stands in global memory before: edge values where it is added to."""
        if self._name == "fixadd":
            return self._random.choice(edge_values(self._target), (rows, cols))
        return np.ones((rows, cols), STORAGE[self._target])

    def _stored(self, old: Array, values: Array) -> Array:
        if self._name == "fix":
            return converted(values, self._target)
        with np.errstate(all="ignore"):
            total = wide(old) + values
            return stored(rounded(total, "fp32") if self._target in FLOATS else total, self._target)

    def _accumulators(self, shape: tuple[int, int], relu: bool) -> tuple[str, Array]:
        """A tile of L0C with edge values, as a descriptor and as float64 or int64; with relu without negative zeros."""
        flow = self._flow
        source = flow.tile("l0c", shape, 4)
        sizes = flow.sizes(rows=shape[0], cols=shape[1])
        if self._acc == "fp32":
            edges = edge_values("fp32")
            if self._target in FLOATS:
                edges = np.concatenate([edges, tie_values("fp32", self._target)])
            if relu:
                edges = np.where(edges == 0, np.zeros_like(edges), edges)
            values = np.resize(edges, shape) if edges.size <= shape[0] * shape[1] else self._random.choice(edges, shape)
            flow.add("move", f"mvl0c.fp32 dst={source} src={flow.load(values, 'fp32')} {sizes}")
            return source, wide(values)
        # int32 accumulators beyond int8 come from products only.
        a, b = self._random.integers(-128, 128, (shape[0], 32)), self._random.integers(-128, 128, (32, shape[1]))
        a[0], b[:, 0] = -128, -128
        tiles = []
        for space, values in (("l0a", a.astype(np.int8)), ("l0b", b.astype(np.int8))):
            place = flow.tile(space, values.shape, 1)
            extent = flow.sizes(rows=values.shape[0], cols=values.shape[1])
            flow.add("move", f"mv{space}.int8 dst={place} src={flow.load(values, 'int8')} {extent}")
            tiles.append(place)
        extents = flow.sizes(m=shape[0], n=shape[1], k=32)
        flow.add("cube", f"mma.int8 dst={source} a={tiles[0]} b={tiles[1]} {extents}")
        return source, a @ b
