"""The choice of chunks of a reduce by machine code; see `npuvm.compiler.native`."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Any

import numpy as np

from npuvm.compiler.native.chunk_layout import CutInto, Decided, Joint, JointRate
from npuvm.compiler.vector.native import MOST, NativeSearch, lanes_of, linked

__all__ = ["NativeChunks", "NativeReduce"]

_CHUNKS, _UNKNOWN = int(CutInto.CHUNKS), int(Decided.UNKNOWN)


class NativeChunks:
    """Chooses as `ChunkChooser` does with a tile program; `cutting` are the integers of `Cutting`."""

    def __init__(self, search: NativeSearch, cutting: Sequence[int], joined: float) -> None:
        self._kernel, self._joined = search.native.choose_chunks, float(joined)
        self._cutting = np.array(cutting, dtype=np.int64)
        self._search = search
        self._pack = Struct(f"={search.dims - 1}q").pack

    def choose(self, sizes: Sequence[int], limit: float) -> tuple[float, float, int, int, int, int, int] | CutInto:
        """Estimates for any number of cores and for the chip's, rows and columns of the tile for these, numbers of `Chunks`."""
        if max(sizes) >= MOST:
            return CutInto.TOO_LARGE
        search, asked = self._search, np.frombuffer(self._pack(*sizes), dtype=np.int64)
        found: tuple[int, float, float, int, int, int, int, int]
        found = self._kernel(
            search.known, search.code, search.registers, search.lanes, self._cutting, self._joined, limit, asked
        )
        return found[1:] if found[0] == _CHUNKS else CutInto(found[0])


class NativeReduce:
    """Decides about a segment whose chunks one segment joins, in one call.

    `whole` and `join` are the tile programs of both, `chunks` that of the chunks, whose integers of `Cutting` are `cutting`.
    Dim `number` of the join is the number of chunks; `rates` are those of `JointRate`.
    """

    def __init__(
        self,
        whole: Sequence[NativeSearch],
        chunks: NativeSearch,
        join: Sequence[NativeSearch],
        cutting: Sequence[int],
        number: int,
        rates: Sequence[float],
    ) -> None:
        assert len(rates) == len(JointRate)
        self._kernel, self.number = chunks.native.choose_reduce, number
        known, self._code, self._registers = linked((*whole, chunks, *join))
        self._lanes = lanes_of(self._registers)
        starts = [Joint.COUNT + sum(len(each) for each in known[:at]) for at in range(len(known))]
        ways, joins = len(whole), len(join)
        numbers = [0] * Joint.COUNT
        numbers[Joint.WHOLE : Joint.WHOLE + 2] = starts[0], starts[ways - 1]
        numbers[Joint.CHUNKS] = starts[ways]
        numbers[Joint.JOIN : Joint.JOIN + 2] = starts[ways + 1], starts[ways + joins]
        numbers[Joint.WAYS], numbers[Joint.JOIN_WAYS] = ways, joins
        numbers[Joint.SIZES], numbers[Joint.NUMBER] = whole[0].dims, number
        self._known = np.concatenate([np.array(numbers, dtype=np.int64), *known])
        self._cutting, self._rates = np.array(cutting, dtype=np.int64), np.array(rates, dtype=np.float64)
        self._pack = Struct(f"={whole[0].dims + chunks.dims - 1 + join[0].dims}q").pack

    def decide(self, sizes: Sequence[int], bound: float) -> tuple[Any, ...] | None:
        """What `choose_reduce` gives for the sizes of the segment, of its chunks before it is cut, and of the join.

        None for what is left to Python.
        """
        if max(sizes) >= MOST:
            return None
        found: tuple[Any, ...] = self._kernel(
            self._known,
            self._code,
            self._registers,
            self._lanes,
            self._cutting,
            self._rates,
            bound,
            np.frombuffer(self._pack(*sizes), dtype=np.int64),
        )
        return None if found[0] == _UNKNOWN else found
