"""Builds the tile library of a chip: which tiles are worth a measurement, the measurements in parallel, and the file."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from npuvm.compiler.cube.levels import grown_tiles
from npuvm.compiler.cube.measured import sort_name
from npuvm.compiler.errors import CompileError
from npuvm.compiler.tiles.library import COLUMNS, USUAL, VERSION, library_name
from npuvm.explore.tuning.measure import meter_of
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa, load_isa

__all__ = ["Built", "Progress", "tune_chip"]

Tile = tuple[int, ...]
Progress = Callable[[int, int], None]
"""Called with how many tiles are measured and how many there are."""

_DTYPE = "fp16"
"""The type of the products that are measured; those of as many bytes take the same cycles."""

_BATCH = 8
"""Tiles that a process measures before it says so."""


@dataclass(frozen=True, slots=True)
class Built:
    """A library that was written: its file, tiles in it, launches simulated and CPU seconds taken, all processes together.

    What an earlier, interrupted run measured is in neither.
    """

    path: Path
    tiles: int
    simulations: int
    cpu_seconds: float


def tune_chip(
    chip: NpuConfig,
    folder: Path,
    processes: int | None = None,
    progress: Progress | None = None,
    *,
    measured: str = USUAL,
    every: int = 1,
) -> Built:
    """Measure the tiles of a chip's products and write its library into `folder`.

    Levels up to `measured` are (`MEASURABLE`); with "none" the library is empty, and formulas choose. Of all tiles one in
    `every` is taken. What is measured is kept beside the library until it is written: a run that was killed goes on where it
    stopped. CompileError where the chip has no cube, or one that no tile fits.
    """
    if not chip.cores_with("cube"):
        raise CompileError(f"{chip.name} has no cube; only tiles of products are measured")
    started = time.process_time()
    isa = load_isa(chip.isa.base, chip.isa.extensions)
    problem = meter_of(_DTYPE, chip).problem
    table, depths = (each[::every] for each in grown_tiles(problem))
    if not len(table):
        raise CompileError(f"no tile of a matrix product fits the buffers of {chip.name}")
    path = folder / library_name(chip, isa)
    folder.mkdir(parents=True, exist_ok=True)
    tiles = [tuple(row) for row in np.column_stack([table[:, [0, 1, 2, 5]], depths]).tolist()]
    partial = path.with_suffix(".partial" if measured == USUAL else f".{measured}.partial")
    known = _known(partial)
    left = [] if measured == "none" else [tile for tile in tiles if tile not in known]
    simulations, seconds = 0, time.process_time() - started
    _replace(partial, "".join(json.dumps([*tile, *cycles]) + "\n" for tile, cycles in known.items()))
    with partial.open("a", encoding="utf-8") as file:
        for done, launches, spent in _measure_all(left, chip, measured, processes or os.cpu_count() or 1):
            for tile, cycles in done:
                known[tile] = cycles
                file.write(json.dumps([*tile, *cycles]) + "\n")
            file.flush()
            simulations, seconds = simulations + launches, seconds + spent
            if progress is not None:
                progress(len(known), len(tiles))
    sorts = {} if measured == "none" else {sort_name(problem): [[*tile, *known[tile]] for tile in tiles]}
    _write(path, chip, isa, measured, sorts)
    partial.unlink(missing_ok=True)  # another run for the same chip may have come first
    return Built(path, sum(map(len, sorts.values())), simulations, seconds)


Measured = tuple[list[tuple[Tile, list[int]]], int, float]
"""Tiles with their cycles, and the launches and CPU seconds they took."""


def _measure_all(tiles: Sequence[Tile], chip: NpuConfig, measured: str, processes: int) -> Iterator[Measured]:
    """Measured tiles as they come."""
    batches = [tiles[at : at + _BATCH] for at in range(0, len(tiles), _BATCH)]
    if processes == 1 or len(batches) < 2:
        yield from (_measure(batch, chip, measured) for batch in batches)
        return
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        futures = [pool.submit(_measure, batch, chip, measured) for batch in batches]
        try:
            yield from (future.result() for future in as_completed(futures))
        finally:
            pool.shutdown(cancel_futures=True)


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


def _write(path: Path, chip: NpuConfig, isa: Isa, measured: str, sorts: dict[str, list[list[int]]]) -> None:
    head = {"version": VERSION, "chip": chip.name, "chip_hash": chip.chip_hash, "isa": isa.name, "isa_hash": isa.hash}
    head["measured"] = measured
    lines = [f"    {json.dumps(name)}: [\n{_rows(rows)}\n    ]" for name, rows in sorts.items()]
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
    return ",\n".join(f"      {json.dumps(row)}" for row in rows)
