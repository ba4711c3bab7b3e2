"""Looks at points of a space: area first, then limits, then runs one after another until the point is out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from math import isfinite
from pathlib import Path

from npuvm.explore.evaluation.bounds import NO_BOUND, RunBound, bound_figures, run_bound
from npuvm.explore.evaluation.counts import record_of
from npuvm.explore.evaluation.decoder import Decoders
from npuvm.explore.evaluation.fronts import dominated, exceeded
from npuvm.explore.evaluation.keys import code_name
from npuvm.explore.evaluation.measures import Figures, figures_of, measures_of
from npuvm.explore.evaluation.record import Evaluation, EvaluationState, HostCost, RunRecord
from npuvm.explore.evaluation.runs import PointRuns, Shared
from npuvm.explore.evaluation.store import Store, StoreError
from npuvm.explore.evaluation.tapes import read_model
from npuvm.explore.evaluation.workloads import host_operators
from npuvm.explore.space import Point, Space, Workload
from npuvm.hw.config import NpuConfig
from npuvm.hw.energy import estimate_area, load_technology
from npuvm.hw.errors import ConfigError
from npuvm.isa import Isa, load_isa
from npuvm.isa.errors import NpuvmError

__all__ = ["Evaluator"]

_DECODER = "decoder_gates"


class Evaluator:
    """Says what points of a space take. Equal points, with equal fronts, give equal evaluations but for `HostCost`.

    `store` is a file of results that processes share, now and later (`npuvm.explore.evaluation.store`). Without `sharing`
    every run is compiled and simulated anew. Without `bounds` all runs of a point are simulated, whatever comes of it.

    RtlError when the space needs the gates of decoders and there is no yosys; StoreError when the store cannot be used.
    """

    def __init__(self, space: Space, store: Path | None = None, *, sharing: bool = True, bounds: bool = True) -> None:
        self.space = space
        self.bounds = bounds
        self.technology = load_technology(space.technology)
        kept = Store(store) if sharing else None
        self.shared = Shared(kept)
        asked = {*space.budgets, *(objective.measure.name for objective in space.objectives)}
        self.decoders = Decoders(kept) if _DECODER in asked else None
        self._least: dict[str, tuple[RunBound, ...]] = {}

    def evaluate(self, point: Point, front: Sequence[Sequence[float]] = ()) -> Evaluation:
        """What a point takes. `front` has objectives, in the space's order, of points that were simulated whole.

        Workloads run in the order of the space's file. A point that cannot run is a failed evaluation with the reason, and so
        is one at which this program is at fault. StoreError when the store cannot be used any more.
        """
        began = time.process_time()
        look = _Look(self, point, front)
        error = None
        try:
            state = look.state()
        except StoreError:
            raise
        except NpuvmError as failure:
            state, error = "failed", str(failure)
        except Exception as fault:  # noqa: BLE001 - a study must not be lost with one point
            state, error = "failed", f"{type(fault).__name__}: {fault}"
        return look.evaluation(state, error, time.process_time() - began)

    def foresee(self, point: Point) -> Mapping[str, float]:
        """Measures of a point, figures or limits of them, that are known before anything is run.

        NpuvmError where the point's chip cannot be made or priced: `evaluate` keeps that as a failure.
        """
        look = _Look(self, point, ())
        look.prepare()
        return look.measures()[0]

    def least(self, workload: Workload) -> tuple[RunBound, ...]:
        """What each run of a workload must do on any chip; of scenarios nothing is known."""
        found = self._least.get(workload.name)
        if found is None:
            if workload.kind == "model":
                read = read_model(workload.path)
                found = tuple(run_bound(read.at(run.sizes), run.sizes) for run in workload.runs)
            else:
                found = (NO_BOUND,) * len(workload.runs)
            self._least[workload.name] = found
        return found


class _Look:
    """One look at a point: what is known of it so far."""

    def __init__(self, owner: Evaluator, point: Point, front: Sequence[Sequence[float]]) -> None:
        self._owner, self._point, self._front = owner, point, front
        self._space = owner.space
        self._signs = [objective.measure.sign for objective in owner.space.objectives]
        self._fixed: dict[str, float] = {}
        self._area: dict[str, float] = {}
        self._static_w = 0.0
        self._figures: list[list[Figures]] = []
        self._records: list[RunRecord] = []
        self._found: Counter[str] = Counter()

    def state(self) -> EvaluationState:
        """Look, as far as it takes to know what becomes of the point."""
        space, owner = self._space, self._owner
        chip, isa = self.prepare()
        with closing(PointRuns(owner.shared, chip, isa, space.setup(self._point), space.base)) as runs:
            for workload, figures in zip(space.workloads, self._figures, strict=True):
                for number, run in enumerate(workload.runs):
                    if owner.bounds and (out := self._out()) is not None:
                        return out
                    counts, how = runs.counts(workload, run)
                    self._found[how] += 1
                    record = record_of(workload.name, run.sizes, run.weight, counts, chip, owner.technology)
                    self._records.append(replace(record, host_operators=host_operators(workload, run)))
                    figures[number] = figures_of(record)
        measures = self.measures()[0]
        if endless := [name for name, figure in measures.items() if not isfinite(figure)]:
            allowed = "allowed are workloads that launch something at one of their sizes at least"
            raise ConfigError(f"{', '.join(endless)}: no finite figure; {allowed}")
        return "done" if exceeded(space.budgets, measures) is None else "over_budget"

    def prepare(self) -> tuple[NpuConfig, Isa]:
        """The point's chip and instruction set, once area and limits are known."""
        space, owner = self._space, self._owner
        chip = space.chip(self._point)
        isa = load_isa(chip.isa.base, chip.isa.extensions)
        self._measure_chip(chip, isa)
        if owner.bounds:
            self._figures = [
                [bound_figures(least, chip, owner.technology) for least in owner.least(workload)]
                for workload in space.workloads
            ]
        else:
            self._figures = [[Figures() for _ in workload.runs] for workload in space.workloads]
        return chip, isa

    def _measure_chip(self, chip: NpuConfig, isa: Isa) -> None:
        area = estimate_area(chip, self._owner.technology)
        self._area = {name: amount.value for name, amount in area.components.items()}
        self._fixed["area_mm2"] = area.total.value
        self._static_w = area.total.value * self._owner.technology.energy.static_w_per_mm2.value
        if self._owner.decoders is not None:
            self._fixed[_DECODER] = self._owner.decoders.gates(isa)

    def measures(self) -> tuple[dict[str, float], tuple[str, ...]]:
        """What is known by now, and the names of what are limits."""
        measures, bounds = measures_of(self._space.workloads, self._figures, self._static_w)
        return {**self._fixed, **measures}, bounds

    def _out(self) -> EvaluationState | None:
        """What becomes of the point whatever the runs take that are not simulated yet; None where that counts."""
        measures, _ = self.measures()
        if exceeded(self._space.budgets, measures) is not None:
            return "over_budget"
        values = [measures[objective.name] for objective in self._space.objectives]
        return "pruned" if dominated(values, self._front, self._signs) else None

    def evaluation(self, state: EvaluationState, error: str | None, cpu_seconds: float) -> Evaluation:
        """All that is known now."""
        measures, bounds = (dict(self._fixed), ()) if state == "failed" else self.measures()
        every = sum(len(workload.runs) for workload in self._space.workloads)
        runs = {**self._found, "skipped": every - sum(self._found.values())}
        return Evaluation(
            state,
            measures,
            bounds,
            error,
            tuple(self._records),
            dict(self._area),
            HostCost(cpu_seconds, {name: count for name, count in runs.items() if count}),
            code_name(),
        )
