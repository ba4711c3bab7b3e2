"""Builds the tile library of a chip: measurements of some of its tiles, what all others take by them, and the file."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from npuvm.compiler.cube.costs import CandidateCosts
from npuvm.compiler.cube.levels import grown_tiles
from npuvm.compiler.cube.measured import sort_name
from npuvm.compiler.errors import CompileError
from npuvm.compiler.tiles.library import COLUMNS, USUAL, VERSION, library_name
from npuvm.explore.tuning.derive import derived_cycles
from npuvm.explore.tuning.derive import spread as spread_tiles
from npuvm.explore.tuning.measure import meter_of
from npuvm.explore.workers import TRIES, Died, WorkerFailure, Workers
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa, load_isa

__all__ = ["SPREAD", "Built", "Progress", "tune_chip"]

Ints = npt.NDArray[np.int64]
Tile = tuple[int, ...]
Progress = Callable[[int, int], None]
"""Called with how many tiles are measured and how many there are."""

_DTYPE = "fp16"
"""The type of the products that are measured; those of as many bytes take the same cycles."""

_BATCH = 8
"""Tiles that a process measures before it says so."""

SPREAD = 100
"""Tiles that are measured where nothing else is said."""

_EACH = 100
"""Tiles that are worth a process."""


@dataclass(frozen=True, slots=True)
class Built:
    """A library that was written: its file, tiles in it, and how many of these are measured; launches simulated and CPU seconds
    taken, all processes together.

    What an earlier, interrupted run took is in neither of the last two.
    """

    path: Path
    tiles: int
    measured: int
    simulations: int
    cpu_seconds: float


def tune_chip(
    chip: NpuConfig,
    folder: Path,
    processes: int | None = None,
    progress: Progress | None = None,
    *,
    measured: str = USUAL,
    spread: int | None = SPREAD,
) -> Built:
    """Measure tiles of a chip's products, derive what all others take, and write its library into `folder`.

    So many as `spread` says are measured, None for all, and levels up to `measured` (`MEASURABLE`); with "none" the library is
    empty, and formulas choose. What is measured is kept beside the library until it is written: a run that was killed goes on
    where it stopped. CompileError where the chip has no cube, or one that no tile fits; WorkerFailure where one process
    after another dies at the same tiles.
    """
    if not chip.cores_with("cube"):
        raise CompileError(f"{chip.name} has no cube; only tiles of products are measured")
    started = time.process_time()
    isa = load_isa(chip.isa.base, chip.isa.extensions)
    problem = meter_of(_DTYPE, chip).problem
    table, depths = grown_tiles(problem)
    if not len(table) or problem.pins.buffering == "single":
        raise CompileError(f"no tile of a matrix product fits the buffers of {chip.name} twice, as libraries have them")
    path = folder / library_name(chip, isa)
    folder.mkdir(parents=True, exist_ok=True)
    if measured == "none":
        _write(path, chip, isa, measured, {})
        return Built(path, 0, 0, 0, time.process_time() - started)
    costs = CandidateCosts(problem, table, depths, None)
    tiles = np.column_stack([costs.table[:, [0, 1, 2, 5]], costs.depths])
    at = spread_tiles(costs, len(tiles) if spread is None else spread)
    wanted: list[Tile] = [tuple(row) for row in tiles[at].tolist()]
    partial = path.with_suffix(f".v{VERSION}.{measured}.partial")
    known = _known(partial)
    left = [tile for tile in wanted if tile not in known]
    simulations, seconds = 0, time.process_time() - started
    _replace(partial, "".join(json.dumps([*tile, *cycles]) + "\n" for tile, cycles in known.items()))
    with partial.open("a", encoding="utf-8") as file:
        for done, launches, spent in _measure_all(left, chip, measured, processes):
            for tile, cycles in done:
                known[tile] = cycles
                file.write(json.dumps([*tile, *cycles]) + "\n")
            file.flush()
            simulations, seconds = simulations + launches, seconds + spent
            if progress is not None:
                progress(sum(tile in known for tile in wanted), len(wanted))
    started = time.process_time()
    every = derived_cycles(problem, measured, costs, at, np.array([known[tile] for tile in wanted]))
    _write(path, chip, isa, measured, {sort_name(problem): (np.column_stack([tiles, every]), at)})
    partial.unlink(missing_ok=True)  # another run for the same chip may have come first
    return Built(path, len(tiles), len(wanted), simulations, seconds + time.process_time() - started)


Measured = tuple[list[tuple[Tile, list[int]]], int, float]
"""Tiles with their cycles, and the launches and CPU seconds they took."""


def _measure_all(tiles: Sequence[Tile], chip: NpuConfig, measured: str, processes: int | None) -> Iterator[Measured]:
    """Measured tiles as they come. WorkerFailure where one process after another dies at the same ones."""
    processes = processes or min(os.cpu_count() or 1, -(-len(tiles) // _EACH))
    batches = [tiles[at : at + _BATCH] for at in range(0, len(tiles), _BATCH)]
    make = _MakeMeasure(chip, measured)
    if processes == 1 or len(batches) < 2:
        yield from map(make(), batches)
        return
    with Workers(make, processes) as workers:
        for _, found in workers.work(dict(enumerate(batches))):
            if isinstance(found, Died):
                raise WorkerFailure(
                    f"{TRIES} processes that measured the same tiles died, the last with {found.ending}; "
                    "the same command goes on with what was measured"
                )
            yield found


@dataclass(frozen=True)
class _MakeMeasure:
    """Makes, in a process, what measures the tiles that are sent there."""

    chip: NpuConfig
    measured: str

    def __call__(self) -> Callable[[Sequence[Tile]], Measured]:
        return lambda batch: _measure(batch, self.chip, self.measured)


def _measure(batch: Sequence[Tile], chip: NpuConfig, measured: str) -> Measured:
    started = time.process_time()
    meter = meter_of(_DTYPE, chip, measured)
    before = meter.simulations
    found = [(tile, meter.cycles(tile)) for tile in batch]
    return found, meter.simulations - before, time.process_time() - started


def _known(partial: Path) -> dict[Tile, list[int]]:
    """What an interrupted run has measured; a line that it did not end is left out. CompileError for a damaged file."""
    found: dict[Tile, list[int]] = {}
    try:
        text = partial.read_text(encoding="utf-8") if partial.is_file() else ""
        for line in text[: text.rfind("\n") + 1].splitlines():
            row = json.loads(line)
            if (
                not isinstance(row, list)
                or len(row) != COLUMNS
                or any(type(each) is not int or each < 1 for each in row)
            ):
                raise ValueError(f"a line has {COLUMNS} whole numbers from 1 up")
            found[tuple(row[:5])] = row[5:]
    except (ValueError, RecursionError) as error:
        raise CompileError(f"{partial} is not what an interrupted run left: {error}; remove it") from error
    return found


def _write(path: Path, chip: NpuConfig, isa: Isa, measured: str, sorts: dict[str, tuple[Ints, Ints]]) -> None:
    """Write a library of tiles with their cycles, by sort, and which of them were measured."""
    head = {"version": VERSION, "chip": chip.name, "chip_hash": chip.chip_hash, "isa": isa.name, "isa_hash": isa.hash}
    head["measured"] = measured
    lines = []
    for name, (rows, at) in sorts.items():
        parts = {"measured": rows[np.sort(at)], "derived": np.delete(rows, at, axis=0)}
        texts = [f"      {json.dumps(kind)}: [{_rows(part.tolist())}]" for kind, part in parts.items()]
        lines.append(f"    {json.dumps(name)}: {{\n" + ",\n".join(texts) + "\n    }")
    text = json.dumps(head, indent=2)[:-2] + ',\n  "sorts": {\n' + ",\n".join(lines) + "\n  }\n}\n"
    _replace(path, text)


def _replace(path: Path, text: str) -> None:
    """Write a file under a temporary name, then rename it."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _rows(rows: list[list[int]]) -> str:
    return ",".join(f"\n        {json.dumps(row)}" for row in rows) + ("\n      " if rows else "")
