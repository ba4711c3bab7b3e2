"""Simulated instructions per second of the simulator, for a program that keeps the vector unit busy and one for the cube.

    python benchmarks/simulator_speed.py [--chip ascend_910b1] [--cores 8] [--repeat 5] [--json FILE]

Each program runs on several cores with the whole model: sequencers, bounded queues, semaphores, DMA requests through a shared
L2 and HBM; once for time only and once with data and hazard checks. Measured is the CPU time of `simulate`, from the image to
the report, so expansion of loops and statistics are in it. The baselines of the same run are a bare simpy pipe, four engines
that hand tokens on through stores and hold a resource (what a plain simpy model of four units costs, without memory system or
instructions), and bare simpy timeouts. All take turns, and "to pipe" is the median ratio to the pipe of the same turn.

What limits it. Time only: an instruction costs its unit little more than one sleep of a simpy process, plus a second event
where it waits for a signal that is not given yet. But a DMA instruction is many requests - a tile of 8 KiB is 16 of 512
bytes - and each is one step in Python through port, L2 and HBM, without a simpy event, in the order in which all cores issue
them. So instructions per second fall with the requests per instruction (last column), and the cube program, which streams one
operand from memory, has many. Larger requests (`core.load.chunk_bytes`) change cycles by a fraction of a percent here.
With data: numpy calls on tiles, and for the cube the products themselves.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import simpy

from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.functional.execute import GlobalMemory
from npuvm.hw.simulator import simulate
from npuvm.isa import Entry, Image, Insn, Isa, Pred, encode_program, load_isa

SPAN = 1 << 30
"""Bytes of global memory that the programs may touch."""

PIPE = "bare simpy pipe, 4 engines"
"""Name of the baseline that the others are compared with."""

UB, L1, L0A, L0B, L0C = 1, 2, 3, 4, 5
PRODUCER, CONSUMER = 1, 2


def main() -> None:
    """Measure everything, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--chip", default="ascend_910b1")
    parser.add_argument("--cores", type=int, default=8)
    parser.add_argument("--instructions", type=int, default=50_000, help="about so many instructions a run")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    chip, isa = load_chip(options.chip), load_isa()
    jobs = [
        Job("bare simpy, 64 processes that sleep", "events", lambda: (sleepers(options.instructions), 0)),
        Job(PIPE, "instructions", lambda: (pipe(options.instructions), 0)),
    ]
    for name, image in programs(chip, isa, options.cores, options.instructions).items():
        jobs.append(Job(f"{name}, time only", "instructions", partial(run_image, chip, isa, image, False)))
        jobs.append(Job(f"{name}, with data", "instructions", partial(run_image, chip, isa, image, True)))
    rows = measure(jobs, options.repeat)
    print(
        f"{chip.name}, {options.cores} cores, Python {platform.python_version()}, CPU time, {options.repeat} runs each"
    )
    print(f"{'':50} {'median/s':>10} {'best/s':>10} {'to pipe':>8} {'requests each':>14}")
    for row in rows:
        each = f"{row['requests'] / row['count']:.1f}" if row["requests"] else ""
        speed = f"{row['median_per_second']:10,.0f} {row['best_per_second']:10,.0f} {row['to_pipe']:8.2f}"
        print(f"{row['name']:50} {speed} {each:>14}   {row['unit']}")
    if options.json is not None:
        options.json.write_text(json.dumps({"chip": chip.name, "cores": options.cores, "rows": rows}, indent=1) + "\n")


class Job(NamedTuple):
    """Something to time; `run` returns how many units of work it did, and how many memory requests."""

    name: str
    unit: str
    run: Callable[[], tuple[int, int]]


def measure(jobs: Sequence[Job], repeat: int) -> list[dict[str, Any]]:
    """Speed of each job, median and best of `repeat` runs, and the median's ratio to that of the bare pipe.

    The jobs take turns, so that a change of the machine's speed meets all of them.
    """
    seconds: dict[str, list[float]] = {job.name: [] for job in jobs}
    work: dict[str, tuple[int, int]] = {}
    for _ in range(repeat):
        for job in jobs:
            start = time.process_time()
            work[job.name] = job.run()
            seconds[job.name].append(time.process_time() - start)
    rows = []
    for job in jobs:
        count, requests = work[job.name]
        ratios = [
            (count / own) / (work[PIPE][0] / pipes) for own, pipes in zip(seconds[job.name], seconds[PIPE], strict=True)
        ]
        rows.append(
            {
                "name": job.name,
                "unit": job.unit,
                "count": count,
                "requests": requests,
                "seconds": seconds[job.name],
                "median_per_second": count / statistics.median(seconds[job.name]),
                "best_per_second": count / min(seconds[job.name]),
                "to_pipe": statistics.median(ratios),
            }
        )
    return rows


def run_image(chip: NpuConfig, isa: Isa, image: Image, data: bool) -> tuple[int, int]:
    """Simulate once; return instructions and memory requests."""
    memory = GlobalMemory(chip.capacity_bytes("gm")) if data else None
    result = simulate(chip, isa, image, memory=memory, windows=[(0, SPAN)], data=data)
    return result.instructions, result.requests


def programs(chip: NpuConfig, isa: Isa, cores: int, instructions: int) -> dict[str, Image]:
    """The two programs, each of about `instructions` instructions on all cores together."""
    kinds = chip.group_core_types
    tiles = max(1, instructions // cores // 14)
    cube_tiles = max(1, instructions // cores // 43)
    return {
        "vector-bound, 12 operations a tile": vector_program(isa, kinds[-1], cores, tiles),
        "cube-bound, 8 steps a tile": cube_program(isa, kinds[0], cores, cube_tiles),
    }


def sleepers(count: int) -> int:
    """64 processes that only sleep; return the events."""
    env = simpy.Environment()

    def sleep(delay: int) -> Generator[simpy.Event, Any, None]:
        for _ in range(count // 64):
            yield env.timeout(delay)

    for i in range(64):
        env.process(sleep(1 + i % 7))
    env.run()
    return count // 64 * 64


def pipe(count: int) -> int:
    """Four engines in a row, each a resource, with stores of two tokens between them; return the instructions."""
    env = simpy.Environment()
    tiles = count // 4
    engines = [simpy.Resource(env, 1) for _ in range(4)]
    between = [simpy.Store(env, capacity=2) for _ in range(3)]

    def stage(i: int) -> Generator[simpy.Event, Any, None]:
        for tile in range(tiles):
            if i:
                yield between[i - 1].get()
            with engines[i].request() as turn:
                yield turn
                yield env.timeout((40, 37, 23, 31)[i])
            if i < 3:
                yield between[i].put(tile)

    for i in range(4):
        env.process(stage(i))
    env.run()
    return tiles * 4


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


def cube_program(
    isa: Isa, core_type: str, cores: int, tiles: int, depth: int = 8, block: tuple[int, int, int] = (128, 128, 128)
) -> Image:
    """Each tile: a product of m x (depth * k) by (depth * k) x n in fp16, in steps of k, then the result to memory as fp16.

    `block` is (m, k, n). The right operand is loaded once and stays in L1; the left one streams through rings of L1 and L0.
    In global memory: the left operand as blocks (tile, step, m, k), the right as (step, k, n), the result as (tile, m, n).
    `tiles` is per core. Instructions per core: tiles * (4 * depth + 3) + 2 * depth.
    """
    m, k, n = block
    a_bytes, b_bytes, c_bytes = m * k * 2, k * n * 2, m * n * 2
    b_base = tiles * cores * depth * a_bytes
    a_l1, a_l0, b_l0, c_l0 = range(4)
    ready, free, loaded = (0, 2, 4, 6), (1, 3, 5, 7), 8
    slots = {a_l1: a_bytes, a_l0: a_bytes, b_l0: b_bytes, c_l0: 2 * c_bytes}
    insns = [size(0, m), size(1, k), size(2, n), size(3, tiles * cores), size(4, depth)]
    insns += [ring(index, slot, 2, ready[index], free[index]) for index, slot in slots.items()]
    insns += [desc(0, 0, 0, k * 2), stride(0, 0, depth * a_bytes), stride(0, 1, a_bytes)]
    insns += [desc(1, 0, b_base, n * 2), stride(1, 1, b_bytes)]
    insns += [desc(2, 0, b_base + depth * b_bytes, n * 2), stride(2, 0, c_bytes)]
    insns += [desc(3, L1, 2 * a_bytes, n * 2), stride(3, 1, b_bytes)]
    for index, (space, pitch) in enumerate(((L1, k * 2), (L0A, k * 2), (L0B, n * 2), (L0C, n * 4))):
        insns += [desc(4 + 2 * index + role - 1, space, 0, pitch, index, role) for role in (PRODUCER, CONSUMER)]
    insns += [
        Insn("loop", args={"loop": 1, "trip": 4}),
        Insn("ld", dtype="fp16", args={"dst": 3, "src": 1, "rows": 1, "cols": 2}, set=(loaded,)),
        Insn("usync", args={"unit": isa.units["move"]}, wait=(loaded,)),
        Insn("endloop"),
        Insn("grid", args={"loops": 1, "phase": 0, "t0": 3}),
        Insn("usync", args={"unit": isa.units["cube"]}, wait=(free[c_l0],)),
        Insn("loop", args={"loop": 1, "trip": 4}),
        _move("ld", 4, 0, (0, 1), (free[a_l1],), (ready[a_l1],)),
        _move("mvl0a", 6, 5, (0, 1), (ready[a_l1], free[a_l0]), (free[a_l1], ready[a_l0])),
        _move("mvl0b", 8, 3, (1, 2), (free[b_l0],), (ready[b_l0],)),
    ]
    for op, predicate in (("mma", "first"), ("mmac", "not_first")):
        insns.append(
            Insn(
                op,
                dtype="fp16",
                args={"dst": 10, "a": 7, "b": 9, "m": 0, "n": 2, "k": 1},
                wait=(ready[a_l0], ready[b_l0]),
                set=(free[a_l0], free[b_l0]),
                pred=Pred(predicate, 1 << 1),
            )
        )
    fix = {"dst": 2, "src": 11, "rows": 0, "cols": 2}
    insns += [
        Insn("endloop"),
        Insn("usync", args={"unit": isa.units["cube"]}, set=(ready[c_l0],)),
        Insn("fix", dtype="fp32", dtype2="fp16", args=fix, wait=(ready[c_l0],), set=(free[c_l0],)),
        Insn("endgrid"),
        Insn("halt"),
    ]
    return image(isa, insns, core_type, [(core * tiles, (core + 1) * tiles) for core in range(cores)])


def _move(op: str, dst: int, src: int, shape: tuple[int, int], wait: tuple[int, ...], sets: tuple[int, ...]) -> Insn:
    rows, cols = shape
    return Insn(op, dtype="fp16", args={"dst": dst, "src": src, "rows": rows, "cols": cols}, wait=wait, set=sets)


if __name__ == "__main__":
    main()
