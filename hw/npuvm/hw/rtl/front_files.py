"""Files of the front stage's bench: a run as the memories that the bench reads, and the log that it writes.

`hw/rtl/bench/front_bench.sv` gives the layout of both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from npuvm.hw.errors import RtlError
from npuvm.isa.image import Entry

__all__ = ["UNITS", "Dispatch", "FrontRun", "FrontTrace", "Start", "read_log", "write_run"]

UNITS = 6
"""Units behind a front stage; unit u has the code u + 1."""

_SETTINGS, _RANGES, _SCALARS = 256, 16, 128
_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class FrontRun:
    """One launch for the bench.

    `words` are relocated. `durations` holds per core and unit code the (occupancy, latency) of its instructions in order,
    `scalars` per core the values of its scalar loads. A run is cut off after `limit` cycles.
    """

    words: npt.NDArray[np.uint64]
    entries: Sequence[Entry]
    durations: Mapping[tuple[int, int], Sequence[tuple[int, int]]]
    scalars: Sequence[Sequence[int]] = ()
    limit: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Dispatch:
    """An instruction that came into the queue of `unit` (a code): operands as addresses (4), sizes (3), window origin."""

    cycle: int
    pc: int
    unit: int
    addresses: tuple[int, ...]
    sizes: tuple[int, ...]
    origin: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Start:
    """The times of an instruction on its unit."""

    pc: int
    start: int
    occupied_until: int
    done: int


@dataclass
class FrontTrace:
    """What one core did. `starts` is by unit code, `scalars` are (cycle, address) of scalar loads, `stopped` a fault's
    (cycle, code, pc). `finished` is None for a core that did not halt."""

    dispatches: list[Dispatch] = field(default_factory=list)
    starts: dict[int, list[Start]] = field(default_factory=dict)
    scalars: list[tuple[int, int]] = field(default_factory=list)
    finished: int | None = None
    stopped: tuple[int, int, int] | None = None


def write_run(run: FrontRun, number: int, folder: Path, cores: int, durations: int) -> None:
    """The files of run `number` for a bench of so many cores and places for durations per unit."""
    settings: dict[int, int] = {_SETTINGS * core: 0 for core in range(cores)}
    for core, entry in enumerate(run.entries):
        base = _SETTINGS * core
        scalars = run.scalars[core] if core < len(run.scalars) else ()
        if len(scalars) > _SETTINGS - _SCALARS:
            raise RtlError(f"core {core} has {len(scalars)} scalar loads; the bench takes {_SETTINGS - _SCALARS}")
        for offset, value in enumerate((1, entry.pc, len(entry.ranges), len(scalars))):
            settings[base + offset] = value
        for offset, value in enumerate(edge for bounds in entry.ranges for edge in bounds):
            settings[base + _RANGES + offset] = value
        for offset, value in enumerate(scalars):
            settings[base + _SCALARS + offset] = value
    settings[_SETTINGS * cores] = len(run.words)
    settings[_SETTINGS * cores + 1] = run.limit
    times: dict[int, int] = {0: 1}
    for (core, unit), pairs in run.durations.items():
        first = durations * (UNITS * core + unit - 1)
        times.update((first + i, latency << 32 | occupancy) for i, (occupancy, latency) in enumerate(pairs))
    _write(folder / f"run{number}.words", dict(enumerate(run.words.tolist())))
    _write(folder / f"run{number}.settings", settings)
    _write(folder / f"run{number}.durations", times)


def _write(path: Path, memory: Mapping[int, int]) -> None:
    """A $readmemh file; addresses are given where they do not follow each other."""
    lines = []
    after = -1
    for address in sorted(memory):
        if address != after:
            lines.append(f"@{address:x}")
        lines.append(f"{memory[address] & _MASK:x}")
        after = address + 1
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def read_log(path: Path, cores: int) -> list[FrontTrace]:
    """What every core did; RtlError for unknown bits, starved decoding, or more under way than the bench follows."""
    traces = [FrontTrace() for _ in range(cores)]
    for kind, values in _lines(path):
        trace = traces[int(values[0])]
        if kind == "D":
            cycle, pc, unit = map(int, values[1:4])
            numbers = [int(text, 16) for text in values[4:]]
            origin = _signed(numbers[7], 32), _signed(numbers[8], 32)
            addresses = tuple(_signed(number, 64) for number in numbers[:4])
            trace.dispatches.append(Dispatch(cycle, pc, unit, addresses, tuple(numbers[4:7]), origin))
        elif kind == "S":
            unit, pc, start, until, done = map(int, values[1:])
            trace.starts.setdefault(unit, []).append(Start(pc, start, until, done))
        elif kind == "L":
            trace.scalars.append((int(values[1]), _signed(int(values[2], 16), 64)))
        elif kind == "H":
            trace.finished = int(values[1])
        elif kind == "F":
            cycle, fault, pc = map(int, values[1:])
            trace.stopped = cycle, fault, pc
        else:
            raise RtlError(f"{path.name}: {_TROUBLE[kind]}: {kind} {' '.join(values)}")
    return traces


_TROUBLE = {
    "W": "decoding wanted a word that fetch had not brought",
    "O": "more instructions under way on a unit than the bench follows",
}


def _lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    for line in path.read_text(encoding="ascii").splitlines():
        kind, *values = line.split()
        if any(set(value) & set("xXzZ") for value in values):
            raise RtlError(f"{path.name}: unknown bits: {line}")
        yield kind, values


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value
