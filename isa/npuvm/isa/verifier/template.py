"""Verification of images that differ in values only: what their form decides is proven once, the rest is checked for each.

An image that a template accepts breaks no rule. One that it does not accept may still be legal: it is for the exact verifier.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from npuvm.isa.image import Image
from npuvm.isa.image_tables import EntryColumns, RelocTable
from npuvm.isa.model import Isa
from npuvm.isa.verifier.classes import alike, range_classes
from npuvm.isa.verifier.entries import check_barriers, check_count, groups_of
from npuvm.isa.verifier.formulas import Formulas, Gaps
from npuvm.isa.verifier.launch import Verification
from npuvm.isa.verifier.program import Barrier
from npuvm.isa.verifier.proof import CoreForm, Proof, prove
from npuvm.isa.verifier.report import Abandon, CapacityLimits, Findings
from npuvm.isa.verifier.signals import Signals
from npuvm.isa.verifier.sites import ProgramSites
from npuvm.isa.verifier.static import Tabled
from npuvm.isa.verifier.values import Values

__all__ = ["Template"]

_Ints = npt.NDArray[np.int64]

_Core: TypeAlias = tuple[int, int, tuple[int, ...]]
"""Of a core: its first word, its group where there are several, and the classes of its ranges by grid."""

_Domain: TypeAlias = tuple[_Core, ...]
"""Cores that are run together."""

_CUT = 3
"""A loop of more iterations than these is walked as one of so many."""

_MOST_TILES = 1 << 62

_MOST_KEPT = 512
"""Proofs that a template keeps."""


@dataclass(frozen=True, slots=True)
class _Program:
    """A program of some cores: its text, its barriers, its sites, the number of formulas before its own."""

    text: Sequence[Tabled]
    barriers: Sequence[Barrier]
    sites: ProgramSites
    offset: int


@dataclass(frozen=True, slots=True)
class _Layout:
    """Which cores a launch has: by program, by group, and those that are run together; what they signal each other."""

    by_program: Mapping[int, _Ints]
    groups: Sequence[int]
    domains: Sequence[tuple[int, ...]]
    signals: Signals | None


class Template:
    """All images of a form: the same bits but for values, the same programs for types of cores, the same relocations but for
    addends. Ranges and the number of cores may differ.

    It is made from an image of which the static checks have found nothing; NoTemplateError when its form is one whose images
    are verified one by one.
    """

    def __init__(self, isa: Isa, limits: CapacityLimits, image: Image, checked: Verification, max_steps: int) -> None:
        self._isa = isa
        self._limits = limits
        self._max_steps = max_steps
        self._shared, self._across = bool(checked.shared), checked.across()
        relocs = {reloc.word: at for at, reloc in enumerate(image.relocs)}
        self._values = Values(isa, checked.insns, len(relocs))
        self._programs: dict[int, _Program] = {}
        offset = 0
        for pc, text in checked.programs.items():
            types = {entry.core_type for entry in image.entries if entry.pc == pc}
            space_bytes = {space: min(limits.space_bytes[each].get(space, 0) for each in types) for space in isa.spaces}
            sites = ProgramSites(isa, self._values, relocs, space_bytes)
            sites.add([each.step for each in text])
            barriers = [each.step for each in text if isinstance(each.step, Barrier)]
            self._programs[pc] = _Program(text, barriers, sites, offset)
            offset += len(sites.formulas)
        self._formulas = self._all_formulas()
        loops = [(pc, *each) for pc, program in self._programs.items() for each in program.sites.trips.items()]
        self._loops = tuple((pc, loop) for pc, loop, _ in loops)
        self._trip_places = np.array([(each.full, each.tail) for *_, each in loops], dtype=np.int64).reshape(-1, 2)
        flags = {place: flag for each in self._programs.values() for place, flag in each.sites.flags.items()}
        self._flag_places = np.array(list(flags), dtype=np.int64)
        self._flags = np.array(list(flags.values()), dtype=bool)
        self._layouts: dict[tuple[tuple[str, ...], tuple[int, ...]], _Layout | None] = {}
        self._proofs: dict[tuple[bytes, _Domain], Proof | None] = {}
        self._gaps: dict[tuple[bytes, frozenset[_Domain]], Gaps | None] = {}

    def _all_formulas(self) -> Formulas:
        formulas, rings = [], []
        for each in self._programs.values():
            formulas += list(each.sites.formulas)
            for uses in each.sites.rings.values():
                rings.append([replace(site, formula=site.formula + each.offset) for site in uses])
        return Formulas(formulas, rings, self._values)

    def accepts(self, image: Image, relocs: RelocTable, cores: EntryColumns) -> bool:
        """Whether an image of this form breaks no rule for sure."""
        layout = self._layout(cores)
        if layout is None:
            return False
        values = self._values.read(image, relocs)
        if ((values[self._flag_places] != 0) != self._flags).any():
            return False
        reaches = self._formulas.reaches(values)
        if reaches is None:
            return False
        counts = self._domain_counts(values, layout, cores)
        if counts is None:
            return False
        gaps = self._proven(np.minimum(values[self._trip_places], _CUT), counts, len(cores.pcs))
        if gaps is None or not gaps.hold(reaches):
            return False
        if layout.signals is None:
            return True
        return layout.signals.enough(values.tolist(), (cores.ranges[:, :, 1] - cores.ranges[:, :, 0]).tolist())

    def _layout(self, cores: EntryColumns) -> _Layout | None:
        """Who is with whom; None when there are not these cores, in these groups, or they do not meet at their barriers."""
        key = cores.types, cores.pcs
        if key not in self._layouts:
            if len(self._layouts) >= _MOST_KEPT:
                self._layouts.clear()
            self._layouts[key] = self._new_layout(*key)
        return self._layouts[key]

    def _new_layout(self, types: tuple[str, ...], pcs: tuple[int, ...]) -> _Layout | None:
        findings = Findings(self._isa, "", collect=True)
        groups: Sequence[int] = ()
        with contextlib.suppress(Abandon):
            counts: dict[str, int] = {}
            for number in range(len(types)):
                check_count(types, number, counts, self._limits, findings)
            groups = groups_of(types, self._limits, findings)
            check_barriers(groups, [self._programs[pc].barriers for pc in pcs], findings)
        if findings.found:
            return None
        by_program = {
            pc: np.array([core for core, start in enumerate(pcs) if start == pc], dtype=np.int64)
            for pc in self._programs
        }
        domains: dict[int, list[int]] = {}
        for core, group in enumerate(groups):
            domains.setdefault((0 if self._across else group) if self._shared else core, []).append(core)
        signals = Signals(self._isa, [self._programs[pc].sites for pc in pcs], groups) if self._shared else None
        return _Layout(by_program, groups, [tuple(each) for each in domains.values()], signals)

    def _domain_counts(self, values: _Ints, layout: _Layout, given: EntryColumns) -> Counter[_Domain] | None:
        """How often there are cores of each form that are run together; None when a range is not within its grid."""
        found: list[_Core] = [(0, 0, ())] * len(given.pcs) if self._shared else []
        counts: Counter[_Domain] = Counter()
        for pc, program in self._programs.items():
            cores = layout.by_program[pc]
            rows = self._classes(values, program, cores, given)
            if rows is None:
                return None
            if not self._shared:
                counts.update({((pc, 0, self._alike(program, row)),): count for row, count in Counter(rows).items()})
                continue
            for core, row in zip(cores.tolist(), rows, strict=True):
                found[core] = pc, layout.groups[core] if self._across else 0, self._alike(program, row)
        if self._shared:
            counts.update(tuple([found[core] for core in domain]) for domain in layout.domains)
        return counts

    def _classes(
        self, values: _Ints, program: _Program, cores: _Ints, given: EntryColumns
    ) -> Sequence[tuple[int, ...]] | None:
        """The class of the range of each core in each grid of its program; None when a range is not within its grid."""
        if not program.sites.grids:
            return [()] * len(cores)
        own = given.ranges[cores]
        phases = min([given.phases[core] for core in cores.tolist()])
        columns = []
        for grid in program.sites.grids:
            trips = values[[trip.full for trip in grid.trips]].tolist()
            total = prod(trips)
            if grid.phase >= phases or total > _MOST_TILES:
                return None
            ranges = own[:, grid.phase]
            if ranges.min() < 0 or ranges.max() > total or (ranges[:, 0] > ranges[:, 1]).any():
                return None
            columns.append(range_classes(trips, ranges).tolist())
        return list(zip(*columns, strict=True))

    def _alike(self, program: _Program, row: tuple[int, ...]) -> tuple[int, ...]:
        grids = program.sites.grids
        return tuple([alike(code, len(grid.trips), grid.seen) for code, grid in zip(row, grids, strict=True)])

    def _proven(self, cut: _Ints, counts: Counter[_Domain], cores: int) -> Gaps | None:
        """What the proofs for all cores ask of the image; None when there is no proof, or the exact one may take too long."""
        trips = cut.tobytes()
        proofs: dict[_Domain, Proof] = {}
        for domain in counts:
            proof = self._proof(trips, cut, domain)
            if proof is None:
                return None
            proofs[domain] = proof
        steps = sum(proof.steps * counts[domain] for domain, proof in proofs.items())
        most = max(proof.counters for proof in proofs.values())
        if steps > self._max_steps or most > self._max_steps // cores:
            return None
        key = trips, frozenset(proofs)
        if key not in self._gaps:
            if len(self._gaps) >= _MOST_KEPT:
                self._gaps.clear()
            self._gaps[key] = Gaps({pair for proof in proofs.values() for pair in proof.apart})
        return self._gaps[key]

    def _proof(self, trips: bytes, cut: _Ints, domain: _Domain) -> Proof | None:
        key = trips, domain
        if key not in self._proofs:
            if len(self._proofs) >= _MOST_KEPT:
                self._proofs.clear()
            self._proofs[key] = self._prove(cut, domain)
        return self._proofs[key]

    def _prove(self, cut: _Ints, domain: _Domain) -> Proof | None:
        """The proof for cores with these first words, groups and classes of ranges."""
        trips: dict[int, dict[int, tuple[int, int]]] = {pc: {} for pc in self._programs}
        for (pc, loop), (full, tail) in zip(self._loops, cut.tolist(), strict=True):
            trips[pc][loop] = full, tail
        cores = []
        for pc, group, classes in domain:
            program = self._programs[pc]
            by_grid = dict(zip((grid.pc for grid in program.sites.grids), classes, strict=True))
            cores.append(CoreForm(group, program.text, program.sites.sites, program.offset, by_grid, trips[pc]))
        return prove(self._isa, cores, not self._shared, self._max_steps)
