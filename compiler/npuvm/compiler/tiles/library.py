"""Tile libraries: what the tiles of one chip and instruction set cost a core, as measured on the simulator for some of them.

A library is a JSON file that `npuvm tune` writes and this module reads. It is found by the hashes of the chip and the
instruction set, so one that was made for others is never used.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from npuvm.compiler.errors import CompileError
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa
from npuvm.isa.resources import data_root

__all__ = [
    "FOLDERS",
    "MEASURABLE",
    "STEPS",
    "USUAL",
    "VERSION",
    "Kernels",
    "TileLibrary",
    "find_library",
    "forget_libraries",
    "library_folders",
    "library_name",
    "read_library",
    "user_folder",
]

VERSION = 2

STEPS = (1, 3)
"""For how many times a tile's k at L1 its cycles are known."""

FOLDERS = "NPUVM_TILES"
"""The environment variable that names folders which are searched before all others."""

MEASURABLE = ("none", "l0", "l1", "core")
"""How far up measurements may go: no level, the cube with its moves, one core, or all cores at once."""

USUAL = "l1"
"""How far they go where nothing else is said."""

COLUMNS = 5 + 2 * len(STEPS)
"""Numbers of a tile: its sizes, and its cycles."""

_KINDS = ("measured", "derived")
"""Where cycles of tiles are from: the simulator, or those that were measured nearby."""


@dataclass(frozen=True, slots=True)
class Kernels:
    """Tiles of products: m, n, k at L1, k at L0 and accumulators, one a row.

    `first` and `later` have a row for each of `STEPS`: cycles of a core until its first tile is done, and that each later one
    takes. They were measured for those of `measured`, and derived from these for all others.
    """

    tiles: npt.NDArray[np.int64]
    first: npt.NDArray[np.float64]
    later: npt.NDArray[np.float64]
    measured: npt.NDArray[np.bool_]

    @property
    def table(self) -> npt.NDArray[np.int64]:
        """The tiles with m, n, k of both levels: at L1, then at L0."""
        return self.tiles[:, [0, 1, 2, 0, 1, 3]]

    def some(self, which: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Kernels:
        """Some of the tiles."""
        return Kernels(self.tiles[which], self.first[:, which], self.later[:, which], self.measured[which])


@dataclass(frozen=True, slots=True)
class TileLibrary:
    """The tiles of a chip, by name of what is multiplied; `path` is the file they are from.

    `measured` is the highest level that was measured, "none" for a library without tiles: costs are known by formulas then.
    """

    path: Path
    measured: str
    sorts: Mapping[str, Kernels]


def library_name(chip: NpuConfig, isa: Isa) -> str:
    """The name of the file of a chip's library."""
    return f"{chip.name}-{chip.chip_hash[:12]}-{isa.hash[:12]}.json"


def library_folders() -> tuple[Path, ...]:
    """Where libraries are looked for: folders of the environment, the user's own, those that npuvm ships.

    CompileError for a folder of the environment that is not there.
    """
    given = [Path(each) for each in os.environ.get(FOLDERS, "").split(os.pathsep) if each]
    missing = next((folder for folder in given if not folder.is_dir()), None)
    if missing is not None:
        raise CompileError(
            f"{FOLDERS} names {missing}, which is no folder; allowed: folders, separated by {os.pathsep!r}"
        )
    return (*given, user_folder(), data_root() / "configs" / "tiles")


def user_folder() -> Path:
    """The folder of libraries that a user made: `npuvm/tiles` in the cache of the operating system."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "npuvm" / "tiles"


def find_library(chip: NpuConfig, isa: Isa) -> TileLibrary | None:
    """The library of a chip; None where there is none.

    CompileError for a file that is none of this version, or a folder of the environment that is not there.
    """
    return _find(chip.chip_hash, isa.hash, library_name(chip, isa), library_folders())


def forget_libraries() -> None:
    """Look for libraries anew: one was made or changed while this process ran. Choosers that were made keep theirs."""
    _find.cache_clear()


@lru_cache(maxsize=64)
def _find(chip_hash: str, isa_hash: str, name: str, folders: tuple[Path, ...]) -> TileLibrary | None:
    path = next((folder / name for folder in folders if (folder / name).is_file()), None)
    return None if path is None else read_library(path, chip_hash, isa_hash)


def read_library(path: Path, chip_hash: str, isa_hash: str) -> TileLibrary:
    """Read a library; CompileError when the file is damaged, of another version, or for another chip or instruction set."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version, made_for = content["version"], (content["chip_hash"], content["isa_hash"])
        if version == VERSION and made_for == (chip_hash, isa_hash):
            measured = content.get("measured", USUAL)
            if measured not in MEASURABLE:
                raise ValueError(f"measured is {measured!r}; allowed: {', '.join(MEASURABLE)}")
            return TileLibrary(path, measured, {name: _kernels(parts) for name, parts in content["sorts"].items()})
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise CompileError(f"{path} is no tile library: {error!r}; make it again with `npuvm tune`") from error
    except OSError as error:
        raise CompileError(f"{path} cannot be read: {error.strerror}") from error
    if version != VERSION:
        raise CompileError(
            f"{path} is a tile library of version {version}, not {VERSION}; make it again with `npuvm tune`"
        )
    names = ("chip", "instruction set")
    other = next(
        name for name, own, wanted in zip(names, made_for, (chip_hash, isa_hash), strict=True) if own != wanted
    )
    raise CompileError(f"{path} is a tile library for another {other}; make it again with `npuvm tune`")


def _kernels(parts: Mapping[str, list[list[int]]]) -> Kernels:
    tables = []
    for kind in _KINDS:
        table = np.asarray(parts[kind] or np.ones((0, COLUMNS), dtype=np.int64))
        if table.ndim != 2 or table.shape[1] != COLUMNS or table.dtype != np.int64 or (table < 1).any():
            raise ValueError(f"tiles are lines of {COLUMNS} whole numbers from 1 up")
        tables.append(table)
    if not len(tables[0]):
        raise ValueError("of each sort of products some tiles are measured")
    table = np.concatenate(tables)
    cycles = table[:, 5:].T.astype(np.float64)
    known = np.arange(len(table)) < len(tables[0])
    m, n, k1, k0 = table[:, :4].T
    # Choosers take the first one of tiles that cost the same.
    return Kernels(table[:, :5], cycles[: len(STEPS)], cycles[len(STEPS) :], known).some(np.lexsort((k1, k0, n, m)))
