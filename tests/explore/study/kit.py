"""Small design spaces, and something quick that stands for the evaluation of their points."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from npuvm.explore.evaluation import Evaluation, HostCost, code_name
from npuvm.explore.space import Point, Space, load_space_text
from npuvm.explore.study import Entry, Evaluate, InProcess, SamplerName, Study, StudyError, read_study

ROOT = Path(__file__).resolve().parents[3]

WANTED = 30
"""Points of `search`."""

TEXT = f"""
name: small
title: cores and buffers
chip: edge
parameters:
  core.count: {{from: 1, to: 8, factor: 2}}
  core.ub_kib: [64, 128, 256, 384]
  clock_ghz: [0.5, 1.0]
  compiler.fusion: [none, pattern]
constraints:
  - {{require: core.ub_kib * core.count <= 2048, because: the buffers have to fit}}
workloads: [{{name: add, scenario: {ROOT / "configs" / "elementwise.yaml"}}}]
objectives: [{{measure: latency_us}}, {{measure: area_mm2}}]
budgets: {{area_mm2: 24}}
search: {{sampler: random, evaluations: 20, batch: 4, seed: 5}}
"""


@cache
def small_space(text: str = TEXT) -> Space:
    """A space of 64 combinations, 60 of them points."""
    return load_space_text(text, ROOT / "configs" / "space" / "small.yaml")


def quick(point: Point, front: Sequence[Sequence[float]]) -> Evaluation:
    """Made-up figures of a point in every state, without a simulation, as if npuvm had found them."""
    return replace(_figures(point, front), code=code_name())


def _figures(point: Point, front: Sequence[Sequence[float]]) -> Evaluation:
    cores, ub, clock = int(point["core.count"]), int(point["core.ub_kib"]), float(point["clock_ghz"])
    if ub == 64 and cores == 1:
        return Evaluation("failed", {}, error="add: no room for a tile")
    area = 2.0 * cores + ub * cores / 256 + 4 * clock
    latency = 4 + 60 / cores / clock * (1 if point["compiler.fusion"] == "none" else 0.7) + 512 / ub
    measures = {"latency_us": latency, "area_mm2": area}
    if area > 24:
        return Evaluation("over_budget", measures)
    bound = {"latency_us": 0.9 * latency, "area_mm2": area}
    if any(each[0] < bound["latency_us"] and each[1] < area for each in front):
        return Evaluation("pruned", bound, bounds=("latency_us",))
    return Evaluation("done", measures, host=HostCost(0.001, {"simulated": 1}))


@dataclass(frozen=True)
class Quick:
    """Makes `quick`, which takes so long for a point and, at some, does something bad: once for each file named."""

    seconds: float = 0.0
    trap: str = ""
    flag: Path | None = None
    """Made at the first visit of the trap, which then does nothing; None: it does it every time."""

    def __call__(self) -> Evaluate:
        """What evaluates points."""
        return self.evaluate

    def evaluate(self, point: Point, front: Sequence[Sequence[float]]) -> Evaluation:
        """`quick`, but for the trap at 4 cores and 128 KiB."""
        time.sleep(self.seconds)
        trapped = point["core.count"] == 4 and point["core.ub_kib"] == 128
        if trapped and (self.flag is None or not self.flag.exists()):
            if self.flag is not None:
                self.flag.touch()
            self._spring()
        return quick(point, front)

    def _spring(self) -> None:
        if self.trap == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.trap == "sleep":
            time.sleep(600)


def found(entries: Sequence[Entry]) -> list[tuple[object, ...]]:
    """What two runs of one search must agree in: points in their order, with states and measures."""
    return [
        (entry.number, *entry.point.values(), entry.evaluation.state, *sorted(entry.evaluation.measures.items()))
        for entry in entries
    ]


def search(storage: str, sampler: SamplerName, seconds: float = 0.0) -> None:
    """Search the small space, with so many seconds for a point."""
    with Study.open(small_space(), storage, sampler) as study:
        study.run(WANTED, InProcess(Quick(seconds)))


def kept(storage: str) -> list[tuple[object, ...]]:
    """`found` of what a storage has, nothing where no study was begun."""
    try:
        return found(read_study(storage).entries)
    except StudyError as error:
        assert "no study there" in str(error) or "none of npuvm's" in str(error)
        return []


def trials(file: Path) -> int:
    """How many points a file has; at next to no cost, for who asks again and again while a search writes it."""
    if not file.is_file():
        return 0
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        try:
            return int(connection.execute("SELECT COUNT(*) FROM trials").fetchone()[0])
        except sqlite3.OperationalError:  # no tables yet
            return 0


def fork(work: Callable[[], None]) -> int:
    """A process of its own that works and then ends, without the tests around it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child
