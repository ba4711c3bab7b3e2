"""Simulated instructions per second of the simulator, for a program that keeps the vector unit busy and one for the cube.

    python benchmarks/simulator_speed.py [--chip ascend_910b] [--cores 8] [--repeat 5] [--json FILE]

Each program runs on several cores with the whole model: sequencers, bounded queues, semaphores, DMA requests through a shared
L2 and HBM; once for time only and once with data (and hazard checks). The time is CPU time of `simulate`, from the image to
the report, so expansion of loops and statistics are in it; the median of the runs is given. In the same run, as a
baseline: a bare simpy pipe of four engines that hand tokens on through stores and hold a resource (what a plain simpy model
of four units costs, with no memory system and no instructions), and bare simpy timeouts.

What limits it: about 2 microseconds of simpy per instruction (one sleep of the unit's process, often one more where it waits
for a signal that is not given yet), as much again for the unit's own bookkeeping, and 2 to 3 microseconds per memory request -
a tile of 8 KiB is 16 requests of 512 bytes - which the memory system serves from a heap of its own, without simpy events.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import simpy
from speed_programs import cube_program, vector_program

from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.functional import GlobalMemory
from npuvm.hw.simulator import simulate
from npuvm.isa import Image, Isa, load_isa

SPAN = 1 << 28
"""Bytes of global memory that the programs may touch."""


def main() -> None:
    """Measure everything, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--chip", default="ascend_910b")
    parser.add_argument("--cores", type=int, default=8)
    parser.add_argument("--instructions", type=int, default=50_000, help="about so many instructions a run")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    chip, isa = load_chip(options.chip), load_isa()
    rows = [
        baseline("bare simpy, 64 processes that sleep", sleepers, "events", options),
        baseline("bare simpy pipe, 4 engines", pipe, "instructions", options),
    ]
    for name, image in programs(chip, isa, options.cores, options.instructions).items():
        for data in (False, True):
            rows.append(measure(name, chip, isa, image, data, options.repeat))
    print(f"{chip.name}, {options.cores} cores, Python {platform.python_version()}, CPU time, median of {options.repeat}")
    for row in rows:
        mode = row["mode"]
        print(f"{row['name']:38} {mode:12} {row['per_second']:12,.0f} {row['unit']}/s   {row['seconds']:.3f} s")
    if options.json is not None:
        options.json.write_text(json.dumps({"chip": chip.name, "cores": options.cores, "rows": rows}, indent=1) + "\n")


def programs(chip: NpuConfig, isa: Isa, cores: int, instructions: int) -> dict[str, Image]:
    """The two programs, each of about `instructions` instructions on all cores together."""
    kinds = chip.group_core_types
    tiles = max(1, instructions // cores // 14)
    cube_tiles = max(1, instructions // cores // 43)
    return {
        "vector-bound, 12 operations a tile": vector_program(isa, kinds[-1], cores, tiles),
        "cube-bound, 8 steps a tile": cube_program(isa, kinds[0], cores, cube_tiles),
    }


def measure(name: str, chip: NpuConfig, isa: Isa, image: Image, data: bool, repeat: int) -> dict[str, Any]:
    """Median CPU time of `repeat` simulations."""
    seconds = []
    for _ in range(repeat):
        memory = GlobalMemory(chip.capacity_bytes("gm")) if data else None
        if memory is not None:
            memory.write(0, np.zeros(SPAN, dtype=np.uint8))
        start = time.process_time()
        result = simulate(chip, isa, image, memory=memory, windows=[(0, SPAN)], data=data)
        seconds.append(time.process_time() - start)
    middle = statistics.median(seconds)
    return {
        "name": name,
        "mode": "with data" if data else "time only",
        "instructions": result.instructions,
        "cycles": result.cycles,
        "seconds": middle,
        "per_second": result.instructions / middle,
        "unit": "instructions",
    }


def baseline(name: str, run: Callable[[int], int], unit: str, options: argparse.Namespace) -> dict[str, Any]:
    """Median CPU time of a bare simpy loop."""
    seconds = []
    for _ in range(options.repeat):
        start = time.process_time()
        count = run(options.instructions)
        seconds.append(time.process_time() - start)
    middle = statistics.median(seconds)
    return {
        "name": name,
        "mode": "",
        "seconds": middle,
        "per_second": count / middle,
        "unit": unit,
        "instructions": count,
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


if __name__ == "__main__":
    main()
