"""The same programs on several chips: on one core, on two, on all; signals between cores; the end of each chip's buffer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from npuvm.isa.conformance.program_files import program_text
from npuvm.isa.conformance.semantics_text import Program
from npuvm.isa.conformance.sequence_programs import Data, matmul_data, phases_data, small_numbers, tiles_data
from npuvm.isa.conformance.target import Level, ProgramCase
from npuvm.isa.errors import IsaError
from npuvm.isa.model import Isa
from npuvm.isa.resources import find_resource, list_resources
from npuvm.isa.yaml_strict import load_yaml

__all__ = ["bins", "chip_cases"]


@dataclass(frozen=True, slots=True)
class _Chip:
    """What cases need to know of a chip: its kind, its groups, the vector cores of each (0 for cores of one kind), its UB."""

    name: str
    groups: int
    vector_per_group: int
    ub_bytes: int

    @property
    def split(self) -> bool:
        """Whether cube and vector units are on cores of their own."""
        return self.vector_per_group > 0

    def core(self, kind: str) -> str:
        """The type of the cores with a `vector` or `cube` unit."""
        return kind if self.split else "unified"

    def cores(self, kind: str) -> int:
        """How many of those there are."""
        return self.groups * (self.vector_per_group if kind == "vector" and self.split else 1)


def chip_cases(isa: Isa, chips: Sequence[str]) -> Iterator[ProgramCase]:
    """A set of programs for every chip, on as many cores as are of interest."""
    for chip in map(_read, chips):
        for what, count in _counts(chip, "vector"):
            yield _parted(chip, "tiles", tiles_data(), "vector", 12, what, count)
        for what, count in _counts(chip, "cube"):
            yield _parted(chip, "matmul", matmul_data(), "cube", 6, what, count)
        text = program_text("phases").replace("entry unified", f"entry {chip.core('vector')}")
        yield _case(chip, "phases", "one-core", text, phases_data())
        if chip.cores("vector") > 1:
            text = program_text("exchange").replace("entry unified", f"entry {chip.core('vector')}")
            yield _case(chip, "exchange", "two-cores", text, _exchange())
            yield _added(chip)
        if chip.vector_per_group == 2:
            yield _case(chip, "group", "one-group", program_text("group"), _group())
        yield from _buffer_end(chip)


def bins(isa: Isa) -> Iterator[str]:
    """What they ought to cover, for every chip that is shipped."""
    for chip in map(_read, list_resources("chip")):
        prefix = f"chips/{chip.name}"
        for program, kind in (("tiles", "vector"), ("matmul", "cube")):
            several = ("two-cores", "all-cores") if chip.cores(kind) > 1 else ()
            yield from (f"{prefix}/{program}/{what}" for what in ("one-core", *several))
        yield f"{prefix}/phases/one-core"
        if chip.cores("vector") > 1:
            yield from (f"{prefix}/{what}" for what in ("exchange/two-cores", "added/all-cores"))
        if chip.vector_per_group == 2:
            yield f"{prefix}/group/one-group"
        yield from (f"{prefix}/ub/{what}" for what in ("last-row", "one-beyond"))


def _read(name: str) -> _Chip:
    """A chip's file, as far as it matters here; the hardware room, which reads it all, is above this one."""
    core = _core(name)
    vectors = _number(core["vector_per_group"]) if core["kind"] == "split" else 0
    return _Chip(name, _number(core["count"]), vectors, _number(core["ub_kib"]) * 1024)


def _core(name: str) -> dict[str, Any]:
    """The section `core` of a chip, over that of the chip that it is based on."""
    data = load_yaml(find_resource("chip", name), IsaError).data
    return {**(_core(data["base"]) if "base" in data else {}), **data.get("core", {})}


def _number(field: Any) -> int:
    """A number that may have its source beside it."""
    return int(field["value"] if isinstance(field, dict) else field)


def _counts(chip: _Chip, kind: str) -> Iterator[tuple[str, int]]:
    yield "one-core", 1
    if chip.cores(kind) > 1:
        yield "two-cores", 2
        yield "all-cores", chip.cores(kind)


def _parted(chip: _Chip, program: str, data: Data, kind: str, tiles: int, what: str, cores: int) -> ProgramCase:
    """A program whose tiles are dealt out to cores, as evenly as can be; with more cores than tiles some have none."""
    bounds = [tiles * core // cores for core in range(cores + 1)]
    entries = "".join(f".entry {chip.core(kind)} 0 {a}:{b}\n" for a, b in pairwise(bounds))
    text = program_text(program)
    old = f".entry unified 0 0:{tiles}\n"
    assert text.count(old) == 1
    return _case(chip, program, what, text.replace(old, entries), data)


def _case(chip: _Chip, program: str, what: str, text: str, data: Data, trap: str | None = None) -> ProgramCase:
    name = f"chips/{chip.name}/{program}/{what}"
    return ProgramCase(
        id=name,
        level=Level.CHIPS,
        chip=chip.name,
        text=text,
        arguments=data.arguments,
        expected=data.expected,
        trap=trap,
        bins=(name,),
    )


def _exchange() -> Data:
    x = small_numbers(16).astype(np.int32)
    zero = np.zeros_like(x)
    return Data((x, zero, zero, zero), {1: 2 * x, 2: 2 * x + 1, 3: 3 * x + 1})


def _added(chip: _Chip) -> ProgramCase:
    """Every core adds the same row to the same place at the same time, and no addition is lost."""
    cores = chip.cores("vector")
    program = Program(chip.core("vector"))
    ready = program.signal()
    tile, size = program.desc("ub", 0), f"rows={program.size(1)} cols={program.size(16)}"
    program.add(f"ld.int32 dst={tile} src={program.desc('gm', 0, arg=0)} {size} | set {ready}")
    program.add(f"stadd.int32 dst={program.desc('gm', 0, arg=1)} src={tile} {size} | wait {ready}")
    entry = f".entry {program.core} 0\n"
    text = program.text(2)
    assert text.count(entry) == 1
    x, old = small_numbers(16).astype(np.int32), np.arange(16, dtype=np.int32)
    data = Data((x, old), {1: (old + cores * x).astype(np.int32)})
    return _case(chip, "added", "all-cores", text.replace(entry, cores * entry), data)


def _group() -> Data:
    a, b = small_numbers(64, 16), small_numbers(16, 16)
    product = np.einsum("mk,kn->mn", a, b).astype(np.float32)
    operands = (a.astype(np.float16), b.astype(np.float16))
    return Data((*operands, np.zeros_like(product), np.zeros_like(product)), {2: product, 3: product + 1})


def _buffer_end(chip: _Chip) -> Iterator[ProgramCase]:
    """The last 32 bytes of the unified buffer may be touched, the next may not."""
    for what, base, trap in (("last-row", chip.ub_bytes - 32, None), ("one-beyond", chip.ub_bytes, "buffer_range")):
        program = Program(chip.core("vector"))
        ready = program.signal()
        tile, size = program.desc("ub", base), f"rows={program.size(1)} cols={program.size(8)}"
        program.add(f"vdup.int32 dst={tile} {size} imm=7 | set {ready}")
        program.add(f"st.int32 dst={program.desc('gm', 0, arg=0)} src={tile} {size} | wait {ready}")
        expected = {} if trap else {0: np.full(8, 7, np.int32)}
        yield _case(chip, "ub", what, program.text(1), Data((np.zeros(8, np.int32),), expected), trap)
