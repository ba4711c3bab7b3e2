"""Runs the suite: makes the cases of each level, hands them to a target, compares, and counts what is covered."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
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
from npuvm.isa.conformance.needs import lacking
from npuvm.isa.conformance.programs import program_bins, program_cases
from npuvm.isa.conformance.report import LevelReport, Report, SuiteOptions
from npuvm.isa.conformance.target import Decoded, Level, Outcome, ProgramCase, Target
from npuvm.isa.conformance.targets import ConformanceError
from npuvm.isa.errors import NpuvmError
from npuvm.isa.model import Isa
from npuvm.isa.resources import data_root

__all__ = ["run_suite", "unloadable"]

_Progress = Callable[[Level, int, int], None]
_Case = WordCase | Check | ProgramCase


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
    lint.close(("lint/any/file/loads",))
    reason = "the instruction set does not load"
    others = [LevelReport(level, skipped=reason) for level in Level if level is not Level.LINT]
    return Report(isa, "", tuple(extensions), target, options, (lint, *others))


def _wanted_levels(target: Target, options: SuiteOptions) -> list[Level]:
    has = target.levels() | {Level.LINT}
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
        self.notes = [_free_opcodes(self.layout, isa.resolved["custom_opcodes"])]
        if self.invariants is None:
            self.notes.append(
                f"what is written by hand speaks of another instruction set than {isa.name} {isa.version}"
            )

    def level(self, level: Level) -> LevelReport:
        """Run one level: checks and programs as they come, then all words in one call."""
        if level is Level.GOLDEN and self.invariants is None:
            return LevelReport(level, skipped="nobody assembled words of this instruction set by hand")
        report = LevelReport(level)
        words: list[WordCase] = []
        bins: list[str] = []
        try:
            for case in self._cases(level):
                if isinstance(case, WordCase):
                    words.append(case)
                elif isinstance(case, Check):
                    report.add(_group(case.id), case.bins, _check_failure(case))
                else:
                    self._run_program(report, case)
            bins += self._bins(level)
        except NpuvmError as exc:  # an instruction set may load and yet be too odd to write programs for
            report.add("any", (), Failure(f"{level.value}/any/cases", "the level's cases can be made", str(exc)))
        if words:
            self._decode(report, words)
        report.close(bins)
        return report

    def _cases(self, level: Level) -> Iterable[_Case]:
        layout, options = self.layout, self.options
        if level is Level.LINT:
            return chain(lint_cases(self.isa, layout), self._invariants())
        if level is Level.GOLDEN:
            return golden_cases(self.isa, layout, self.folder)
        if level is Level.ENCODING:
            return encoding_cases(self.isa, layout, options.seed)
        if level is Level.CLASSES:
            return classes_cases(layout, options.seed, options.words)
        return program_cases(self.isa, level, options.seed)

    def _bins(self, level: Level) -> Iterable[str]:
        if level is Level.LINT:
            return chain(lint_bins(self.layout), (check.id for check in self._invariants()))
        if level is Level.GOLDEN:
            return golden_bins(self.layout)
        if level is Level.ENCODING:
            return encoding_bins(self.layout)
        if level is Level.CLASSES:
            return classes_bins(self.layout)
        return program_bins(self.isa, level)

    def _invariants(self) -> Iterator[Check]:
        if self.invariants is not None:
            yield from invariant_cases(self.isa, self.invariants)

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

    def _run_program(self, report: LevelReport, case: ProgramCase) -> None:
        reason = lacking(self.isa, case.text)
        if reason is not None:
            report.leave_out(case.id, case.bins, reason)
            return
        try:
            outcome: object = self.target.run(self.isa, case)
            if not isinstance(outcome, Outcome):
                raise TypeError(f"{outcome!r} is no Outcome")
        except Exception as exc:  # noqa: BLE001 - as above
            outcome = Outcome(error=f"{type(exc).__name__}: {exc}")
        report.values += sum(array.size for array in case.expected.values())
        report.add(case.id, case.bins, judge(case, outcome))


def _group(case: str) -> str:
    """level/instruction/field/what -> instruction."""
    return case.split("/")[1]


def _check_failure(check: Check) -> Failure | None:
    return None if check.expected == check.got else Failure(check.id, check.expected, check.got)


def _word_failure(case: WordCase, decoded: object) -> Failure | None:
    """None when the answer is right; `decoded` is what a target gave, whatever that is."""
    if decoded == case.expected:
        return None
    got = describe(decoded) if isinstance(decoded, Decoded) else repr(decoded)
    return Failure(f"{case.id} [{hex_words(case.words)}]", describe(case.expected), got)


def _free_opcodes(layout: Layout, custom: Sequence[int]) -> str:
    """How much room is left, for the reader of a report."""
    free = set(range(1 << layout.head["opcode"].width)) - layout.by_opcode.keys()
    inside = [opcode for opcode in free if custom[0] <= opcode <= custom[1]]
    return f"{len(free)} opcodes are free, {len(inside)} of them in the space of extensions"
