"""Cases that end in a trap: every trap of every instruction, alone and together with the others, and what must not trap.

Of several traps of one instruction the one counts that the instruction set names first in the instruction's `traps`. Of
several instructions it is the first that starts, so the cases put a semaphore or a barrier between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np

from npuvm.isa.conformance.semantics_text import Program, Window
from npuvm.isa.conformance.target import Level, ProgramCase
from npuvm.isa.model import Instruction, Isa, OperandSpec

__all__ = ["bins", "trap_cases"]

_SIZE, _PITCH = 4, 128
"""Every size of the faulty instructions, and bytes between their rows on chip and in global memory."""

_ARGUMENT = np.zeros(1024, dtype=np.uint8)
"""What they may touch of global memory."""

_FAR = 1 << 40
"""A distance beyond the end of any buffer and any argument."""

_EDGE_UB = 128 * 1024
"""Bytes of the unified buffer of the chip edge."""


def trap_cases(isa: Isa) -> Iterator[ProgramCase]:
    """Every trap of every instruction of a unit that is on, then the hand-written cases."""
    for instruction in _trapping(isa):
        for count in range(1, len(instruction.traps) + 1):
            for traps in combinations(instruction.traps, count):
                yield _faulty(isa, instruction, traps)
    yield from _sequencer_cases()
    yield from _order_cases()
    yield from _boundary_cases()
    yield from _row_cases()
    yield from _index_cases()


def bins(isa: Isa) -> Iterator[str]:
    """Every trap of every instruction, each before each that its stanza names later; and what is listed by hand."""
    for instruction in _trapping(isa):
        prefix = f"traps/{instruction.name}"
        yield from (f"{prefix}/{trap}/alone" for trap in instruction.traps)
        yield from (f"{prefix}/{first}/before-{other}" for first, other in combinations(instruction.traps, 2))
    yield from (f"traps/scdiv/divide_by_zero/{what}" for what in ("alone", "predicate-off"))
    yield from (f"traps/lds/{trap}/alone" for trap in ("gm_range", "alignment"))
    yield from (f"traps/any/cycle_limit/{what}" for what in ("exceeded", "kept"))
    yield from (f"traps/any/order/{what}" for what in ("same-unit", "across-units", "barrier-first", "sequencer-first"))
    yield from (f"traps/any/none/{what}" for what in ("no-rows", "no-columns", "outside-its-window"))
    for name in ("ld", "st", "stadd"):
        yield from (f"traps/{name}/gm_range/{what}" for what in ("last-element", "one-beyond", "one-before"))
    yield from (f"traps/vmov/buffer_range/{what}" for what in ("last-element", "one-beyond"))
    for name in ("ld", "st", "stadd"):
        yield f"traps/{name}/gm_range/last-row-beyond"
        yield from (f"traps/{name}/alignment/pitch-{where}" for where in ("outside", "inside"))
    for name in ("ldx", "stx", "stxadd"):
        yield from (f"traps/{name}/gm_range/{what}" for what in _INDICES)
    yield "traps/vmov/buffer_range/last-row-beyond"
    yield from (f"traps/vmov/alignment/{what}" for what in ("pitch-read", "pitch-written", "rows-written-overlap"))
    yield from (f"traps/vmov/none/{what}" for what in ("pitch-of-one-row", "pitch-of-a-column", "rows-read-overlap"))


def _trapping(isa: Isa) -> list[Instruction]:
    """Instructions of units that are on and can trap."""
    on = [i for i in isa.instructions.values() if isa.features[i.feature] and i.unit not in ("seq", "any")]
    return [i for i in on if i.traps]


def _faulty(isa: Isa, instruction: Instruction, traps: Sequence[str]) -> ProgramCase:
    """One instruction whose operands are good but for what these traps are about: all faults that can stand together do."""
    program = Program()
    dtype, dtype2 = instruction.dtypes[0] if instruction.dtypes else (None, None)
    operands = []
    for i, region in enumerate(instruction.regions):
        item = instruction.region_dtype(isa, region, dtype, dtype2).itemsize
        operands.append(f"{region.name}={_desc(program, region, traps, i, item)}")
    operands += [f"{size.name}={program.size(_SIZE)}" for size in instruction.sizes]
    for spec in instruction.operands:
        if not spec.is_region and spec.kind.name != "size" and spec.default is None:
            operands.append(f"{spec.name}={spec.low}")
    types = "" if dtype is None else f".{dtype}" if dtype2 is None else f".{dtype}->{dtype2}"
    program.add(f"{instruction.name}{types} {' '.join(operands)}")
    covered = [f"traps/{instruction.name}/{traps[0]}/before-{other}" for other in traps[1:]]
    return ProgramCase(
        id=f"traps/{instruction.name}/{'+'.join(traps)}",
        level=Level.TRAPS,
        chip="edge",
        text=program.text(1),
        arguments=(_ARGUMENT,),
        trap=traps[0],
        bins=tuple(covered or [f"traps/{instruction.name}/{traps[0]}/alone"]),
    )


def _desc(program: Program, region: OperandSpec, traps: Sequence[str], index: int, itemsize: int) -> str:
    """An operand's descriptor; a space of global memory is taken only for the trap that is about it."""
    on_chip = [space for space in region.spaces if space != "gm"]
    if "gm" in region.spaces and ("gm_range" in traps or not on_chip):
        beyond = _FAR if "gm_range" in traps else 0
        odd = 1 if "alignment" in traps and itemsize > 1 else 0
        return program.desc("gm", beyond + odd, _PITCH, arg=0)
    base = 1024 * index
    base += _FAR if "buffer_range" in traps else 0
    base += 4 if "alignment" in traps else 0
    return program.desc(on_chip[0], base, _PITCH)


def _case(name: str, program: Program | str, trap: str | None, *covered: str, limit: int | None = None) -> ProgramCase:
    """A hand-written case; without a trap its argument must be as before."""
    text = program if isinstance(program, str) else program.text(1)
    return ProgramCase(
        id=f"traps/{name}",
        level=Level.TRAPS,
        chip="edge",
        text=text,
        arguments=(_ARGUMENT,),
        expected={} if trap else {0: _ARGUMENT},
        trap=trap,
        cycle_limit=limit,
        bins=tuple(f"traps/{each}" for each in covered),
    )


def _sequencer_cases() -> Iterator[ProgramCase]:
    """What the sequencer itself traps for."""
    head = ".args 1\n.entry unified 0\n"
    divide = "li rd=r0 imm=7\nli rd=r1 imm=0\n"
    yield _case(
        "scdiv/by-zero",
        f"{head}{divide}scdiv rd=r2 ra=r0 rb=r1\nhalt\n",
        "divide_by_zero",
        "scdiv/divide_by_zero/alone",
    )
    # Off in the first iteration, in which the divisor is 0.
    body = "scdiv rd=r2 ra=r0 rb=r1 | if not_first(l0)\nli rd=r1 imm=2\n"
    off = f"szc size=s0 full=2\nloop loop=l0 trip=s0\n{body}endloop\n"
    yield _case("scdiv/predicate-off", f"{head}{divide}{off}halt\n", None, "scdiv/divide_by_zero/predicate-off")
    for trap, base in (("gm_range", 1024), ("alignment", 2)):
        lds = f"desc desc=d0 space=gm base=@arg0+{base} pitch=4\nlds.int32 rd=r0 src=d0\n"
        yield _case(f"lds/{trap}", f"{head}{lds}halt\n", trap, f"lds/{trap}/alone")
    long = "szc size=s0 full=1000\nloop loop=l0 trip=s0\nnop\nendloop\nhalt\n"
    yield _case("cycle_limit/exceeded", head + long, "cycle_limit", "any/cycle_limit/exceeded", limit=500)
    yield _case("cycle_limit/kept", head + long, None, "any/cycle_limit/kept", limit=1_000_000)


def _tile(
    program: Program, name: str, gm: int, ub: int, *, rows: int = 1, cols: int = 8, window: Window | None = None
) -> str:
    """A load or store of int32 between these addresses."""
    outside = program.desc("gm", gm, _PITCH, arg=0, window=window)
    inside = program.desc("ub", ub, _PITCH)
    operands = f"dst={inside} src={outside}" if name == "ld" else f"dst={outside} src={inside}"
    return f"{name}.int32 {operands} rows={program.size(rows)} cols={program.size(cols)}"


def _order_cases() -> Iterator[ProgramCase]:
    """Two instructions that would trap: the first of a unit, the one waited for, the one before the barrier."""
    program = Program()
    program.add(_tile(program, "ld", _FAR, 0))
    program.add(_tile(program, "ld", 0, 4))
    yield _case("order/same-unit", program, "gm_range", "any/order/same-unit")

    program = Program()
    ready = program.signal()
    program.add(_tile(program, "ld", 0, _FAR) + f" | set {ready}")
    bad = program.desc("ub", 4)
    operands = f"dst={bad} a={bad} rows={program.size(1)} cols={program.size(8)}"
    program.add(f"vmov.int32 {operands} | wait {ready}")
    yield _case("order/across-units", program, "buffer_range", "any/order/across-units")

    divide = ("li rd=r0 imm=0", "scdiv rd=r1 ra=r0 rb=r0")
    program = Program()
    program.add(_tile(program, "ld", 0, 4))
    for line in ("barrier scope=core", *divide):
        program.add(line)
    yield _case("order/barrier-first", program, "alignment", "any/order/barrier-first")

    program = Program()
    for line in divide:
        program.add(line)
    program.add(_tile(program, "ld", 0, 4))
    yield _case("order/sequencer-first", program, "divide_by_zero", "any/order/sequencer-first")


def _boundary_cases() -> Iterator[ProgramCase]:
    """The last element that may be touched and the first that may not; and faults of instructions that touch nothing."""
    for name in ("ld", "st", "stadd"):
        for what, gm, trap in (
            ("last-element", 992, None),
            ("one-beyond", 996, "gm_range"),
            ("one-before", -4, "gm_range"),
        ):
            program = Program()
            ready = program.signal()
            zero = f"vdup.int32 dst={program.desc('ub', 0)} rows={program.size(1)} cols={program.size(8)} imm=0"
            program.add(f"{zero} | set {ready}")
            program.add(f"{_tile(program, name, gm, 0)} | wait {ready}")
            yield _case(f"{name}/{what}", program, trap, f"{name}/gm_range/{what}")
    for what, last, trap in (("last-element", _EDGE_UB - 32, None), ("one-beyond", _EDGE_UB, "buffer_range")):
        program = Program()
        tile = program.desc("ub", last - 32)
        program.add(f"vdup.int32 dst={tile} rows={program.size(1)} cols={program.size(16)} imm=0")
        program.add(f"vmov.int32 dst={tile} a={tile} rows={program.size(1)} cols={program.size(16)} | order")
        yield _case(f"vmov/{what}", program, trap, f"vmov/buffer_range/{what}")
    yield from _nothing_cases()


_ROW_FAULTS: Mapping[str, tuple[int, int, int, str]] = {
    "last-row-beyond": (1024 - 7 * 128 - 28, _PITCH, _PITCH, "gm_range"),
    "pitch-outside": (0, _PITCH + 2, _PITCH, "alignment"),
    "pitch-inside": (0, _PITCH, _PITCH + 4, "alignment"),
}
"""Eight rows of eight int32: first byte in the argument, pitches in global memory and on chip, and the trap."""

_MOVES: Mapping[str, tuple[int, int, int, int, int, str | None]] = {
    "last-row-beyond": (2, 8, _EDGE_UB - 32, 64, 64, "buffer_range"),
    "pitch-read": (2, 8, 0, 36, 64, "alignment"),
    "pitch-written": (2, 8, 0, 64, 36, "alignment"),
    "rows-written-overlap": (2, 16, 0, 64, 32, "alignment"),
    "pitch-of-one-row": (1, 8, 0, 36, 36, None),
    "pitch-of-a-column": (4, 1, 0, 4, 4, None),
    "rows-read-overlap": (2, 16, 0, 32, 64, None),
}
"""Rows and columns of int32, first byte that is read, pitches of what is read and written, and the trap."""


def _row_cases() -> Iterator[ProgramCase]:
    """Tiles whose first row is good: where the last one ends, and what lies between rows."""
    for name in ("ld", "st", "stadd"):
        for what, (base, outside, inside, trap) in _ROW_FAULTS.items():
            program = Program()
            gm, ub = program.desc("gm", base, outside, arg=0), program.desc("ub", 0, inside)
            operands = f"dst={ub} src={gm}" if name == "ld" else f"dst={gm} src={ub}"
            program.add(f"{name}.int32 {operands} rows={program.size(8)} cols={program.size(8)}")
            yield _case(f"{name}/{what}", program, trap, f"{name}/{trap}/{what}")
    for what, (rows, cols, base, read, written, found) in _MOVES.items():
        program = Program()
        sizes = f"rows={program.size(rows)} cols={program.size(cols)}"
        zero = f"vdup.int32 dst={program.desc('ub', 0, 64)} rows={program.size(4)} cols={program.size(16)} imm=0"
        program.add(zero)
        program.add(
            f"vmov.int32 dst={program.desc('ub', 1024, written)} a={program.desc('ub', base, read)} {sizes} | order"
        )
        yield _case(f"vmov/{what}", program, found, f"vmov/{found or 'none'}/{what}")


_INDICES: Mapping[str, tuple[int, int, str | None]] = {
    "last-row": (7, 8, None),
    "beyond-its-table": (8, 8, "gm_range"),
    "first-from-the-end": (-8, 8, None),
    "before-its-table": (-9, 8, "gm_range"),
    "outside-the-windows": (8, 9, "gm_range"),
}
"""The index of two rows, the rows of its table, of which eight lie in the argument, and the trap."""


def _index_cases() -> Iterator[ProgramCase]:
    """Rows by index: the last one of a table, those that are none of it, and one that is no part of the launch."""
    for name in ("ldx", "stx", "stxadd"):
        for what, (index, count, trap) in _INDICES.items():
            program = Program()
            ready = program.signal()
            zero = f"vdup.int32 dst={program.desc('ub', 0, 32)} rows={program.size(2)} cols={program.size(8)} imm=0"
            program.add(zero)
            vector = program.desc("ub", 64, 4)
            sizes = f"rows={program.size(1)} cols={program.size(2)}"
            program.add(f"vdup.int32 dst={vector} {sizes} imm={index & 0xFFFFFFFF:#x} | set {ready}")
            far, near = program.desc("gm", 0, arg=0), program.desc("ub", 0, 32)
            operands = f"dst={near} src={far}" if name == "ldx" else f"dst={far} src={near}"
            tile = f"index={vector} rows={program.size(2)} cols={program.size(8)} stride={_PITCH} count={count}"
            program.add(f"{name}.int32 {operands} {tile} | wait {ready}")
            yield _case(f"{name}/{what}", program, trap, f"{name}/gm_range/{what}")


def _nothing_cases() -> Iterator[ProgramCase]:
    """Tiles far outside of everything that are not touched."""
    for what, rows, cols in (("no-rows", 0, 8), ("no-columns", 8, 0)):
        program = Program()
        program.add(_tile(program, "ld", _FAR, _FAR, rows=rows, cols=cols))
        yield _case(f"none/{what}", program, None, f"any/none/{what}")
    program = Program()
    program.add(_tile(program, "ld", _FAR, 0, window=Window(100, 0, 8, 8)))
    yield _case("none/outside-its-window", program, None, "any/none/outside-its-window")
