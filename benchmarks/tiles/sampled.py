"""A tuner that is given shapes and samples programs for them on the simulator, in the manner of DietCode (MLSys 2022).

All shapes share one space of kernels, the legal tiles, and one cost model: cycles are rounds of tiles times multiply-adds of a
padded tile (occupancy and padding, by formulas) times what a multiply-add of the kernel takes, which is learned from samples.
An evolutionary search proposes kernels that the model likes, 64 are measured a round, and the model is fitted anew. In the end
each given shape has the fastest kernel measured for it; another shape gets that one of them which the model likes best.

What is stronger here than published: the learned part also sees k, rounds and how rows lie.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from benchmarks.tiles.learned import Trees
from benchmarks.tiles.oracle import Oracle, Way

from npuvm.compiler.cube.problem import CubeTile, ProductSizes
from npuvm.hw.config import NpuConfig

__all__ = ["PER_SHAPE", "SampledTuner"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PER_SHAPE = 125
"""Trials for each given shape: DietCode's published experiment takes 1000 for a layer over 8 numbers of tokens.

Sources: github.com/UofT-EcoSystem/DietCode, scripts/2_1-experiment_dynamic_dense.sh and ops/dense/test_dietcode.py.
"""

_ROUND = 64
"""Programs measured between two fits of the model, Ansor's default."""

_GENERATIONS = 4
_POPULATION = 96
_RANDOM = 0.1
"""Share of a round's programs that are drawn, not proposed."""

_SLOWEST = 8
"""A program that takes so many times what the chip's peak rates allow is stopped there."""


class SampledTuner:
    """Samples programs for `given` products; everything is written to `log`, from which an interrupted run goes on."""

    def __init__(self, chip: NpuConfig, oracle: Oracle, given: Sequence[ProductSizes], log: Path) -> None:
        self._chip, self._oracle, self._given, self._log = chip, oracle, tuple(given), log
        self._table, self._depths = oracle.space
        self._lookup = _Neighbourhood(self._table)
        self.cpu_seconds = 0.0
        self._shapes: list[int] = []
        self._rows: list[int] = []
        self._cycles: list[int] = []
        self._kernels: dict[ProductSizes, int] = {}
        self._model: Trees | None = None
        head = {"chip": chip.chip_hash, "given": [list(sizes) for sizes in self._given]}
        self._read(head)

    @property
    def trials(self) -> int:
        """Programs that were simulated."""
        return len(self._cycles)

    def run(self, trials: int, progress: Callable[[int, int], None]) -> None:
        """Measure until there are so many trials."""
        while self.trials < trials:
            started = time.process_time()
            rng = np.random.default_rng([len(self._given), self.trials])
            known = set(zip(self._shapes, self._rows, strict=True))
            proposed = self._proposed(rng, min(_ROUND, trials - self.trials), known)
            measured = [(shape, row, self._measured(shape, row)) for shape, row in proposed]
            self._note(measured, time.process_time() - started)
            with self._log.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"cpu_s": round(time.process_time() - started, 3), "trials": measured}) + "\n")
            progress(self.trials, trials)
        started = time.process_time()
        self._model = self._fitted()
        cycles = np.array(self._cycles)
        for at, sizes in enumerate(self._given):
            own = np.flatnonzero(np.array(self._shapes) == at)
            self._kernels[sizes] = self._rows[own[cycles[own].argmin()]]
        self.cpu_seconds += time.process_time() - started

    def choose(self, sizes: ProductSizes) -> CubeTile:
        """The kernel measured fastest for a given shape; for others, that of all these with the lowest predicted cycles."""
        found = self._kernels.get(sizes)
        if found is None:
            assert self._model is not None, "nothing was measured"
            kernels = np.unique(list(self._kernels.values()))
            found = int(kernels[self._predicted(self._model, sizes, kernels).argmin()])
        return self._tile(sizes, found)

    @property
    def kernels(self) -> int:
        """Different kernels that are kept."""
        return len(set(self._kernels.values()))

    def _read(self, head: Mapping[str, object]) -> None:
        if not self._log.is_file():
            self._log.write_text(json.dumps(head) + "\n", encoding="utf-8")
            return
        first, *rounds = self._log.read_text(encoding="utf-8").splitlines(keepends=True)
        if json.loads(first) != head:
            raise SystemExit(f"{self._log} is of another chip or other shapes; remove it")
        for line in rounds:
            if line.endswith("\n"):  # the last one may be cut off
                entry = json.loads(line)
                self._note(entry["trials"], entry["cpu_s"])

    def _note(self, measured: Sequence[Sequence[int]], seconds: float) -> None:
        self.cpu_seconds += seconds
        for shape, row, cycles in measured:
            self._shapes.append(shape)
            self._rows.append(row)
            self._cycles.append(cycles)

    def _measured(self, shape: int, row: int) -> int:
        sizes = self._given[shape]
        limit = int(_SLOWEST * self._roof(sizes))
        cycles = self._oracle.cycles_below(sizes, Way(self._tile(sizes, row)), limit)
        return limit if cycles is None else cycles

    def _roof(self, sizes: ProductSizes) -> float:
        """Cycles at peak rates one after the other, and as many again as a launch takes at least."""
        m, n, k, *_ = sizes
        cube, memory = self._chip.core.cube, self._chip.memory
        block = cube.m * cube.n * cube.k_bytes / self._oracle.problem.item / cube.cycles_per_block["fp16"]
        # Rows of a few elements are read and multiplied in whole blocks.
        padded = max(m, cube.m) * max(n, cube.n) * max(k, cube.k_bytes // 2)
        moved = 2 * (max(m, cube.m) * k + k * max(n, cube.n) + m * n)
        latency = memory.l2.latency_cycles + memory.hbm.latency_cycles
        return float(padded / block / self._oracle.cores + moved / self._chip.hbm_bytes_per_cycle + 4 * latency)

    def _tile(self, sizes: ProductSizes, row: int) -> CubeTile:
        limits = (sizes.m, sizes.n, max(sizes.k, 1)) * 2
        m, n, k, m0, n0, k0 = np.minimum(self._table[row], limits).tolist()
        return CubeTile((m, n, k), (m0, n0, k0), int(self._depths[row]), 0)

    def _fitted(self) -> Trees:
        shapes, rows = np.array(self._shapes), np.array(self._rows)
        features, work = self._seen(np.array(self._given)[shapes], rows)
        return Trees(features, np.log(np.array(self._cycles)) - work)

    def _predicted(self, model: Trees, sizes: ProductSizes, rows: Ints) -> Floats:
        features, work = self._seen(np.repeat(np.array([sizes]), len(rows), axis=0), rows)
        return np.asarray(model.predict(features) + work)

    def _seen(self, sizes: Ints, rows: Ints) -> tuple[Floats, Floats]:
        """What the learned part sees of kernels for shapes, and the logarithm of the analytic part: rounds x padded work."""
        block = np.array(self._table.min(axis=0)[:3])
        whole = -(-np.maximum(sizes[:, :3], 1) // block) * block
        tile = np.minimum(self._table[rows], np.concatenate([whole, whole], axis=1))
        m, n, k1, k0 = (tile[:, at].astype(np.float64) for at in (0, 1, 2, 5))
        tiles = np.ceil(sizes[:, 0] / m) * np.ceil(sizes[:, 1] / n)
        rounds, k = np.ceil(tiles / self._oracle.cores), whole[:, 2].astype(np.float64)
        work = np.log(rounds * m * n * k)
        steps = np.ceil(k / k1)
        off = [(pitch % 32 != 0).astype(np.float64) for pitch in (sizes[:, 4], sizes[:, 5])]
        features = [
            *map(np.log2, (m, n, k1, k0, k1 / k0, m * n / (m + n), m * n, (m + n) * k1, k, steps, rounds, tiles))
        ]
        return np.stack([*features, m * k0, n * k0, self._depths[rows], *off], axis=1), work

    def _proposed(self, rng: np.random.Generator, count: int, known: set[tuple[int, int]]) -> list[tuple[int, int]]:
        """New programs: the model's favourites of an evolution for each shape, one by one in turn, and some drawn."""
        shapes = np.arange(len(self._given))
        model = self._fitted() if self._cycles else None
        taken: list[tuple[int, int]] = []
        favourites = {} if model is None else {int(at): self._evolved(rng, model, int(at)) for at in shapes}
        while len(taken) < count:
            for at in rng.permutation(shapes).tolist():
                row = int(rng.integers(len(self._table)))
                if rng.random() >= _RANDOM and favourites:
                    row = next((int(row) for row in favourites[at] if (at, int(row)) not in known), row)
                if (at, row) not in known and len(taken) < count:
                    known.add((at, row))
                    taken.append((at, row))
        return taken

    def _evolved(self, rng: np.random.Generator, model: Trees, at: int) -> Ints:
        """Rows of the space, those with the lowest predicted cycles first."""
        shapes, rows, cycles = np.array(self._shapes), np.array(self._rows), np.array(self._cycles)
        own = np.flatnonzero(shapes == at)
        best = rows[own[cycles[own].argsort()]][: _POPULATION // 3]
        others = rng.choice(rows, _POPULATION // 3)
        drawn = rng.integers(len(self._table), size=_POPULATION - len(best) - len(others))
        people = np.unique(np.concatenate([best, others, drawn]))
        for _ in range(_GENERATIONS):
            people = np.unique(np.concatenate([people, self._lookup.mutated(rng, people)]))
            people = people[self._predicted(model, self._given[at], people).argsort()][:_POPULATION]
        return people


class _Neighbourhood:
    """Finds tiles near others in a table of tiles."""

    def __init__(self, table: Ints) -> None:
        self._block = table.min(axis=0)[[0, 1, 5]]
        self._genes = np.column_stack([table[:, [0, 1, 5]] // self._block, table[:, 2] // table[:, 5]])
        self._rows = np.full(self._genes.max(axis=0) + 1, -1, dtype=np.int64)
        self._rows[tuple(self._genes.T)] = np.arange(len(table))
        self._steps = np.unique(self._genes[:, 3])

    def mutated(self, rng: np.random.Generator, rows: Ints) -> Ints:
        """Legal tiles with one size of a tile in `rows` changed by a block or two, doubled, halved, or drawn anew."""
        genes = self._genes[rows]
        axis = rng.integers(4, size=len(rows))
        value = genes[np.arange(len(rows)), axis]
        blocks = rng.integers(1, 33, size=len(rows))
        ways = np.stack([value + 1, value - 1, value + 2, value - 2, value * 2, value // 2, blocks])
        new = ways[rng.integers(len(ways), size=len(rows)), np.arange(len(rows))]
        new = np.where(axis == 3, rng.choice(self._steps, len(rows)), new)
        genes[np.arange(len(rows)), axis] = new
        inside = ((genes > 0) & (genes < self._rows.shape)).all(axis=1)
        found = self._rows[tuple(genes[inside].T)]
        return np.asarray(found[found >= 0])
