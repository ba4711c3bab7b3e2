"""The two programs whose simulation is timed: one that keeps the vector unit busy, one that keeps the cube busy.

Both are written as instructions, without the compiler, so that the numbers are those of the simulator alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from npuvm.isa import Entry, Image, Insn, Isa, encode_program

UB, L1, L0A, L0B, L0C = 1, 2, 3, 4, 5
PRODUCER, CONSUMER = 1, 2


def size(index: int, full: int) -> Insn:
    """Size entry `index` as a constant."""
    return Insn("szc", args={"size": index, "full": full})


def ring(index: int, slot_bytes: int, slots: int, ready: int, free: int) -> Insn:
    """A ring of buffers with its two semaphores."""
    return Insn("ring", args={"ring": index, "slot_bytes": slot_bytes, "slots": slots, "ready": ready, "free": free})


def desc(index: int, space: int, base: int, pitch: int, ring_index: int = 0, role: int = 0) -> Insn:
    """An address descriptor, in a ring when it has a role."""
    return Insn(
        "desc", args={"desc": index, "space": space, "base": base, "pitch": pitch, "ring": ring_index, "role": role}
    )


def stride(index: int, loop: int, step: int) -> Insn:
    """`step` bytes per count of a loop."""
    return Insn("dstr", args={"desc": index, "loop": loop, "stride": step})


def image(isa: Isa, insns: Sequence[Insn], core_type: str, ranges: Sequence[tuple[int, int]]) -> Image:
    """One program text for all cores, one range of tiles for each."""
    entries = tuple(Entry(core_type, 0, (pair,)) for pair in ranges)
    return Image("speed", isa.hash, encode_program(isa, insns), entries)


def vector_program(isa: Isa, core_type: str, cores: int, tiles: int, chain: int = 12) -> Image:
    """Each tile: load 32 x 64 fp32, `chain` vector instructions that depend on each other, store. Double buffered.

    `tiles` is per core. Instructions per core: tiles * (chain + 2).
    """
    rows, cols, slots = 32, 64, 2
    pitch, tile = cols * 4, rows * cols * 4
    ready_in, free_in, ready_out, free_out = 0, 1, 2, 3
    insns = [
        size(0, rows),
        size(1, cols),
        size(2, tiles * cores),
        ring(0, tile, slots, ready_in, free_in),
        ring(1, tile, slots, ready_out, free_out),
        desc(0, 0, 0, pitch),
        stride(0, 0, tile),
        desc(1, UB, 0, pitch, 0, PRODUCER),
        desc(2, UB, 0, pitch, 0, CONSUMER),
        desc(3, UB, 2 * tile, pitch),
        desc(4, UB, 4 * tile, pitch, 1, PRODUCER),
        desc(5, UB, 4 * tile, pitch, 1, CONSUMER),
        desc(6, 0, tiles * cores * tile, pitch),
        stride(6, 0, tile),
        Insn("grid", args={"loops": 1, "phase": 0, "t0": 2}),
        Insn("ld", args={"dst": 1, "src": 0, "rows": 0, "cols": 1}, dtype="fp32", wait=(free_in,), set=(ready_in,)),
    ]
    ops = ("vadds", "vmuls", "vmaxs")
    for step in range(chain - 1):
        first = step == 0
        insns.append(
            Insn(
                ops[step % 3],
                args={"dst": 3, "a": 2 if first else 3, "rows": 0, "cols": 1, "imm": 0x3F000000},
                dtype="fp32",
                wait=(ready_in,) if first else (),
                set=(free_in,) if first else (),
                order=not first,
            )
        )
    insns += [
        Insn(
            "vadds",
            args={"dst": 4, "a": 3, "rows": 0, "cols": 1, "imm": 0x3F800000},
            dtype="fp32",
            wait=(free_out,),
            set=(ready_out,),
            order=True,
        ),
        Insn("st", args={"dst": 6, "src": 5, "rows": 0, "cols": 1}, dtype="fp32", wait=(ready_out,), set=(free_out,)),
        Insn("endgrid"),
        Insn("halt"),
    ]
    return image(isa, insns, core_type, [(core * tiles, (core + 1) * tiles) for core in range(cores)])
