"""Gates of the instruction decoder of a point's instruction set, which yosys counts once for each set."""

from __future__ import annotations

import tempfile
from pathlib import Path

from npuvm.explore.evaluation.keys import code_hash, digest
from npuvm.explore.evaluation.store import Store
from npuvm.hw.errors import RtlError
from npuvm.hw.rtl.area import measure_area
from npuvm.hw.rtl.simulators import decoder_sources
from npuvm.hw.rtl.yosys import Yosys, find_yosys
from npuvm.isa import Isa

__all__ = ["Decoders"]


class Decoders:
    """Counts gates by the hash of the instruction set. RtlError where there is no yosys."""

    def __init__(self, store: Store | None) -> None:
        self._store = store
        self._counted: dict[str, int] = {}
        self._yosys: Yosys = find_yosys()
        if self._yosys.missing is not None:
            raise RtlError(f"decoder_gates needs yosys: {self._yosys.missing}; or leave this measure out of the space")
        self._version = self._yosys.version

    def gates(self, isa: Isa) -> int:
        """Gates of the decoder of an instruction set, mapped for area; RtlError when yosys cannot map it."""
        if isa.hash not in self._counted:
            key = digest(isa.hash, self._version, code_hash())
            known = None if self._store is None else self._store.get("decoder", key)
            self._counted[isa.hash] = self._count(isa) if known is None else int(known)
            if self._store is not None:
                self._store.put("decoder", key, self._counted[isa.hash])
        return self._counted[isa.hash]

    def _count(self, isa: Isa) -> int:
        with tempfile.TemporaryDirectory(prefix="npuvm-decoder-") as folder:
            sources = decoder_sources(isa, Path(folder) / "sources")
            return measure_area(self._yosys, sources, Path(folder)).total
