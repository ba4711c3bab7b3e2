"""Runs the suite: makes the cases of each level, hands them to a target, compares, and counts what is covered."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from npuvm.isa.conformance.bins import classes_bins, encoding_bins, golden_bins, lint_bins
from npuvm.isa.conformance.cases import Check, Failure, WordCase, describe, hex_words
from npuvm.isa.conformance.classes import classes_cases
from npuvm.isa.conformance.encoding import encoding_cases
from npuvm.isa.conformance.golden import golden_cases
from npuvm.isa.conformance.invariants import invariant_cases, invariants_of
from npuvm.isa.conformance.judge import judge
from npuvm.isa.conformance.layout import Layout
from npuvm.isa.conformance.lint import lint_cases
from npuvm.isa.conformance.programs import PROGRAM_LEVELS, program_bins, program_cases
from npuvm.isa.conformance.report import LevelReport, Report, SuiteOptions
from npuvm.isa.conformance.target import Decoded, Level, Outcome, ProgramCase, Target
from npuvm.isa.conformance.targets import ConformanceError
from npuvm.isa.errors import NpuvmError
from npuvm.isa.model import Isa
from npuvm.isa.resources import data_root

__all__ = ["run_suite", "unloadable"]

_WITH_CASES = frozenset((Level.LINT, Level.GOLDEN, Level.ENCODING, Level.CLASSES, *PROGRAM_LEVELS))
_Progress = Callable[[Level, int, int], None]


def run_suite(
    isa: Isa, target: Target, options: SuiteOptions | None = None, progress: _Progress | None = None
) -> Report:
    """Run the levels that `options` ask for, in order; ConformanceError when the target does not have one of them.

    Whatever a target raises or leaves out is a failed case, never an exception. `progress` is called with each level before
    it runs, its number and how many there are.
    """
    options = options or SuiteOptions()
    run = _Run(isa, target, options)
    wanted = _wanted_levels(target, options)
    reports = []
    for number, level in enumerate(wanted):
        if progress is not None:
            progress(level, number, len(wanted))
        begin = time.perf_counter()
        report = run.level(level)
        report.seconds = time.perf_counter() - begin
        reports.append(report)
    for level in Level:
        if level not in wanted and options.levels is None:
            reports.append(LevelReport(level, skipped=f"target {target.name} does not run it"))
    return Report(
        f"{isa.name} {isa.version}", isa.hash, isa.extensions, target.name, options, tuple(reports), tuple(run.notes)
    )


def unloadable(isa: str, extensions: Iterable[str], target: str, options: SuiteOptions, error: NpuvmError) -> Report:
    """The report on an instruction set that does not load: level lint fails with the loader's message, nothing else runs."""
    lint = LevelReport(Level.LINT)
    lint.add("any", ("lint/any/file/loads",), Failure("lint/any/file/loads", "the instruction set loads", str(error)))
    lint.close(("lint/any/file/loads",), {})
    reason = "the instruction set does not load"
    others = [LevelReport(level, skipped=reason) for level in Level if level is not Level.LINT]
    return Report(isa, "", tuple(extensions), target, options, (lint, *others))


def _wanted_levels(target: Target, options: SuiteOptions) -> list[Level]:
    has = target.levels() & _WITH_CASES | {Level.LINT}
    lacking = [level.value for level in Level if options.levels is not None and level in options.levels - has]
    if lacking:
        there = ", ".join(level.value for level in Level if level in has)
        raise ConformanceError(f"does not run level {', '.join(lacking)}; it runs {there}", f"target {target.name}")
    return [level for level in Level if level in (has if options.levels is None else options.levels)]


class _Run:
    """One run of the suite on one target."""

    def __init__(self, isa: Isa, target: Target, options: SuiteOptions) -> None:
        self.isa = isa
        self.target = target
        self.options = options
        self.layout = Layout(isa.resolved)
        self.folder = data_root() / "isa" / "conformance"
        self.invariants: Mapping[str, Any] | None = invariants_of(isa, self.folder)
        self.notes: list[str] = []
        if self.invariants is None:
            text = (
                f"words and invariants written by hand speak of another instruction set than {isa.name} {isa.version}"
            )
            self.notes.append(text)

    def level(self, level: Level) -> LevelReport:
        """Run one level."""
        report = LevelReport(level)
        layout, options = self.layout, self.options
        bins: Iterable[str]
        if level is Level.LINT:
            checks = [*lint_cases(self.isa, layout), *self._invariants()]
            self._compare(report, checks)
            bins = [*lint_bins(layout), *(check.id for check in self._invariants())]
        elif level is Level.GOLDEN:
            by_hand = self.invariants is not None
            self._compare(report, golden_cases(self.isa, layout, self.folder) if by_hand else ())
            bins = golden_bins(layout) if by_hand else ()
        elif level is Level.ENCODING:
            self._compare(report, encoding_cases(self.isa, layout, options.seed))
            bins = encoding_bins(layout)
        elif level is Level.CLASSES:
            self._compare(report, classes_cases(layout, options.seed, options.words))
            bins = classes_bins(layout)
        else:
            self._run_programs(report, program_cases(self.isa, level, options.seed))
            bins = program_bins(self.isa, level)
        report.close(bins, {})
        return report

    def _invariants(self) -> Iterator[Check]:
        if self.invariants is not None:
            yield from invariant_cases(self.isa, self.invariants)

    def _compare(self, report: LevelReport, cases: Iterable[WordCase | Check]) -> None:
        """Count the checks, and let the target decode the words, all of them in one call."""
        words: list[WordCase] = []
        for case in cases:
            if isinstance(case, WordCase):
                words.append(case)
            else:
                report.add(_group(case.id), case.bins, _check_failure(case))
        if words:
            self._decode(report, words)

    def _decode(self, report: LevelReport, cases: list[WordCase]) -> None:
        got: list[Decoded] = []
        try:
            got = self.target.decode(self.isa, [case.words for case in cases])
            problem = f"{len(got)} answers"
        except Exception as exc:  # noqa: BLE001 - a target may be anybody's; whatever it raises is its failure
            problem = f"{type(exc).__name__}: {exc}"
        if len(got) != len(cases):
            report.add("any", (), Failure(f"{report.level.value}/any/decode", f"{len(cases)} answers", problem))
            return
        for case, decoded in zip(cases, got, strict=True):
            report.words += len(case.words)
            report.add(_group(case.id), case.bins, _word_failure(case, decoded))

    def _run_programs(self, report: LevelReport, cases: Iterable[ProgramCase]) -> None:
        for case in cases:
            try:
                outcome = self.target.run(self.isa, case)
            except Exception as exc:  # noqa: BLE001 - as above
                outcome = Outcome(error=f"{type(exc).__name__}: {exc}")
            report.values += sum(array.size for array in case.expected.values())
            report.add(case.id, case.bins, judge(case, outcome))


def _group(case: str) -> str:
    """level/instruction/field/what -> instruction."""
    return case.split("/")[1]


def _check_failure(check: Check) -> Failure | None:
    return None if check.expected == check.got else Failure(check.id, check.expected, check.got)


def _word_failure(case: WordCase, decoded: Decoded) -> Failure | None:
    if decoded == case.expected:
        return None
    return Failure(f"{case.id} [{hex_words(case.words)}]", describe(case.expected), describe(decoded))
