"""The two programs whose simulation is timed: one that keeps the vector unit busy, one that keeps the cube busy.

Both are written as instructions, without the compiler, so that the numbers are those of the simulator alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from npuvm.isa import Entry, Image, Insn, Isa, Pred, encode_program

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


def cube_program(isa: Isa, core_type: str, cores: int, tiles: int, depth: int = 8) -> Image:
    """Each tile: `depth` steps of a 128 x 64 by 64 x 128 fp16 product through rings of L1 and L0, then the result to memory.

    `tiles` is per core. Instructions per core: tiles * (5 * depth + 1): two loads, two moves and a multiply per step.
    """
    m, k, n = 128, 64, 128
    a_bytes, b_bytes, c_bytes = m * k * 2, k * n * 2, m * n * 4
    b_base = tiles * cores * depth * a_bytes
    c_base = b_base + depth * b_bytes
    names = ("a_l1", "b_l1", "a_l0", "b_l0", "c_l0")
    sems = {name: (2 * i, 2 * i + 1) for i, name in enumerate(names)}
    rings = {name: i for i, name in enumerate(names)}
    slot = {"a_l1": a_bytes, "b_l1": b_bytes, "a_l0": a_bytes, "b_l0": b_bytes, "c_l0": c_bytes}

    def pair(index: int, space: int, name: str, base: int, pitch: int) -> list[Insn]:
        return [
            desc(index, space, base, pitch, rings[name], PRODUCER),
            desc(index + 1, space, base, pitch, rings[name], CONSUMER),
        ]

    def sync(name: str, consumer: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
        ready, free = sems[name]
        return ((ready,), (free,)) if consumer else ((free,), (ready,))

    def step(op: str, dst: int, src: int, source: str | None, target: str) -> Insn:
        """A load (no source ring) or a move; which carries both rings' signals."""
        waits, sets = sync(target, False)
        if source is not None:
            more_waits, more_sets = sync(source, True)
            waits, sets = waits + more_waits, sets + more_sets
        rows, cols = (0, 1) if target.startswith("a") else (1, 2)
        return Insn(op, args={"dst": dst, "src": src, "rows": rows, "cols": cols}, dtype="fp16", wait=waits, set=sets)

    insns = [size(0, m), size(1, k), size(2, n), size(3, tiles * cores), size(4, depth)]
    insns += [ring(rings[name], slot[name], 2, *sems[name]) for name in names]
    insns += [desc(0, 0, 0, k * 2), stride(0, 0, depth * a_bytes), stride(0, 1, a_bytes)]
    insns += [desc(1, 0, b_base, n * 2), stride(1, 1, b_bytes), desc(2, 0, c_base, n * 2), stride(2, 0, m * n * 2)]
    insns += pair(3, L1, "a_l1", 0, k * 2) + pair(5, L1, "b_l1", 2 * a_bytes, n * 2)
    insns += pair(7, L0A, "a_l0", 0, k * 2) + pair(9, L0B, "b_l0", 0, n * 2) + pair(11, L0C, "c_l0", 0, n * 4)
    a_ready, a_free = sems["a_l0"]
    b_ready, b_free = sems["b_l0"]
    multiply = {"dst": 11, "a": 8, "b": 10, "m": 0, "n": 2, "k": 1}
    c_wait, c_set = sync("c_l0", True)
    insns += [
        Insn("grid", args={"loops": 1, "phase": 0, "t0": 3}),
        Insn("usync", args={"unit": 3}, wait=(sems["c_l0"][1],)),
        Insn("loop", args={"loop": 1, "trip": 4}),
        step("ld", 3, 0, None, "a_l1"),
        step("ld", 5, 1, None, "b_l1"),
        step("mvl0a", 7, 4, "a_l1", "a_l0"),
        step("mvl0b", 9, 6, "b_l1", "b_l0"),
        Insn(
            "mma",
            args=multiply,
            dtype="fp16",
            wait=(a_ready, b_ready),
            set=(a_free, b_free),
            pred=Pred("first", 1 << 1),
        ),
        Insn(
            "mmac",
            args=multiply,
            dtype="fp16",
            wait=(a_ready, b_ready),
            set=(a_free, b_free),
            pred=Pred("not_first", 1 << 1),
        ),
        Insn("endloop"),
        Insn("usync", args={"unit": 3}, set=(sems["c_l0"][0],)),
        Insn(
            "fix",
            args={"dst": 2, "src": 12, "rows": 0, "cols": 2},
            dtype="fp32",
            dtype2="fp16",
            wait=c_wait,
            set=c_set,
        ),
        Insn("endgrid"),
        Insn("halt"),
    ]
    return image(isa, insns, core_type, [(core * tiles, (core + 1) * tiles) for core in range(cores)])
