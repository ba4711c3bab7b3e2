"""The choice of chunks of a reduce by machine code; see `npuvm.compiler.native`."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

import numpy as np

from npuvm.compiler.native.chunk_layout import CutInto
from npuvm.compiler.vector.native import MOST, NativeSearch

__all__ = ["NativeChunks"]

_CHUNKS = int(CutInto.CHUNKS)


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
        found = self._kernel(search.known, search.code, search.registers, self._cutting, self._joined, limit, asked)
        return found[1:] if found[0] == _CHUNKS else CutInto(found[0])
