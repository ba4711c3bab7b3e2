"""Runs of workloads on chips: simulated, or taken from a point that cannot differ in them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal, TypeAlias

from npuvm.compiler.program.kernels import forget_plans
from npuvm.explore.evaluation.counts import Counts, counts_of
from npuvm.explore.evaluation.keys import code_hash, compile_fields, digest, time_fields
from npuvm.explore.evaluation.store import Store
from npuvm.explore.evaluation.tapes import Tape, Taper, file_digest, read_model, simulate_tape
from npuvm.explore.space import Setup, SizedRun, Workload
from npuvm.hw.config import NpuConfig
from npuvm.hw.launch import capacity_limits
from npuvm.isa import Image, Isa
from npuvm.isa.verifier import CapacityLimits, Verifier
from npuvm.runtime.analysis.recording import record_scenario
from npuvm.runtime.scenarios.schema import load_scenario, with_buffering

__all__ = ["Found", "PointRuns", "Shared"]

Found: TypeAlias = Literal["simulated", "shared"]

_KEPT_TAPES = 64


class Shared:
    """What points share. Without a `store` they share nothing but the models that are read."""

    def __init__(self, store: Store | None) -> None:
        self.store = store
        self._tapes: OrderedDict[tuple[str, str], Tape] = OrderedDict()
        self._legal: dict[tuple[str, str], list[CapacityLimits]] = {}

    def tape(self, name: str, isa: Isa) -> Tape | None:
        """A tape of this process by its digest, for an instruction set."""
        return self._tapes.get((name, isa.hash))

    def keep(self, tape: Tape, isa: Isa) -> None:
        """Keep a tape for points whose programs are the same."""
        self._tapes[tape.digest, isa.hash] = tape
        self._tapes.move_to_end((tape.digest, isa.hash))
        if len(self._tapes) > _KEPT_TAPES:
            self._tapes.popitem(last=False)

    def verify(self, images: Mapping[str, Image], verifier: Verifier, limits: CapacityLimits) -> None:
        """Raise VerifyError where the verifier would. What fits a chip fits those that have as much of everything."""
        for name, image in images.items():
            passed = self._legal.setdefault((name, image.isa_hash), []) if self.store is not None else []
            if not any(_within(each, limits) for each in passed):
                key = digest(name, image.isa_hash, code_hash(), _listed(limits))
                if self.store is None or self.store.get("legal", key) is None:
                    verifier.check(image)
                    if self.store is not None:
                        self.store.put("legal", key, True)
                passed.append(limits)


def _within(small: CapacityLimits, large: CapacityLimits) -> bool:
    return (
        small.group == large.group
        and small.units == large.units
        and all(count <= large.cores.get(kind, 0) for kind, count in small.cores.items())
        and all(
            size <= large.space_bytes.get(kind, {}).get(space, 0)
            for kind, spaces in small.space_bytes.items()
            for space, size in spaces.items()
        )
    )


def _listed(limits: CapacityLimits) -> dict[str, Any]:
    listed = asdict(limits)
    listed["units"] = {kind: sorted(units) for kind, units in limits.units.items()}
    return listed


class PointRuns:
    """Runs on the chip of one point; programs of a workload are planned once for all its sizes."""

    def __init__(self, shared: Shared, chip: NpuConfig, isa: Isa, setup: Setup, base: str) -> None:
        self._shared, self._chip, self._isa, self._setup, self._base = shared, chip, isa, setup, base
        self._limits = capacity_limits(chip)
        self._verifier = Verifier(isa, self._limits)
        self._tapers: dict[tuple[str, int], Taper] = {}

    def close(self) -> None:
        """Drop what the compiler keeps for this chip."""
        forget_plans(self._chip)

    def counts(self, workload: Workload, run: SizedRun) -> tuple[Counts, Found]:
        """What a run does, and how that was found. Raises what compiling, verifying and simulating raise."""
        return self._of_scenario(workload) if workload.kind == "scenario" else self._of_model(workload, run)

    def _of_model(self, workload: Workload, run: SizedRun) -> tuple[Counts, Found]:
        store = self._shared.store
        if store is None:
            return self._simulated(self._tape(workload, run)), "simulated"
        wanted = {"model": read_model(workload.path).digest, "sizes": dict(run.sizes), **self._options(workload)}
        program = digest(wanted, compile_fields(self._chip, self._isa), code_hash())
        name = store.get("program", program)
        tape = None
        if name is None:
            tape = self._tape(workload, run)
            self._shared.verify(tape.images, self._verifier, self._limits)
            name = tape.digest
            store.put("program", program, name)
            self._shared.keep(tape, self._isa)
        time = digest(name, time_fields(self._chip), code_hash())
        known = store.get("time", time)
        if known is not None:
            return Counts.from_json(known), "shared"
        if tape is None:
            tape = self._shared.tape(name, self._isa) or self._tape(workload, run)
            self._shared.keep(tape, self._isa)
        counts = self._simulated(tape)
        store.put("time", time, counts.to_json())
        return counts, "simulated"

    def _simulated(self, tape: Tape) -> Counts:
        self._shared.verify(tape.images, self._verifier, self._limits)
        return simulate_tape(tape, self._chip, self._isa)

    def _tape(self, workload: Workload, run: SizedRun) -> Tape:
        model = read_model(workload.path).at(run.sizes)
        key = workload.name, id(model)
        taper = self._tapers.get(key)
        if taper is None:
            taper = self._tapers[key] = Taper(model, self._chip, **self._options(workload))
        return taper.tape(run.sizes)

    def _options(self, workload: Workload) -> dict[str, str | None]:
        """Options of the compiler: the point's, where it has none the workload's."""
        return {
            "fusion": self._setup.fusion or workload.fusion,
            "buffering": self._setup.buffering or workload.buffering,
        }

    def _of_scenario(self, workload: Workload) -> tuple[Counts, Found]:
        store = self._shared.store
        fields = {
            **compile_fields(self._chip, self._isa),
            "chip": self._chip.chip_hash,
            "buffering": self._setup.buffering,
        }
        key = digest(file_digest(workload.path), fields, code_hash())
        known = None if store is None else store.get("time", key)
        if known is not None:
            return Counts.from_json(known), "shared"
        scenario = with_buffering(load_scenario(workload.path), self._setup.buffering)
        records = record_scenario(scenario, self._base, self._setup.overrides)
        counts = counts_of([record.result for record in records], (len(records),))
        if store is not None:
            store.put("time", key, counts.to_json())
        return counts, "simulated"
