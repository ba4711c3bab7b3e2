"""The conformance suite: cases from the resolved instruction set and from hand-written data, run on any target."""

from __future__ import annotations

from npuvm.isa.conformance.report import LevelReport, Report, SuiteOptions
from npuvm.isa.conformance.suite import run_suite, unloadable
from npuvm.isa.conformance.target import ENTRY_POINTS, Decoded, Level, Outcome, ProgramCase, Target
from npuvm.isa.conformance.targets import ConformanceError, available_targets, find_target

__all__ = [
    "ENTRY_POINTS",
    "ConformanceError",
    "Decoded",
    "Level",
    "LevelReport",
    "Outcome",
    "ProgramCase",
    "Report",
    "SuiteOptions",
    "Target",
    "available_targets",
    "find_target",
    "run_suite",
    "unloadable",
]
