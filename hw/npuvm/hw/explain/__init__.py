"""Explained cycles: where every cycle of a launch went, what bounds it, and what would help. docs/reference/explain.md."""

from __future__ import annotations

from npuvm.hw.explain.advice import Advice, advise
from npuvm.hw.explain.breakdown import LaunchBreakdown, UnitBreakdown, break_down, sum_breakdowns
from npuvm.hw.explain.causes import KINDS, Cause
from npuvm.hw.explain.json_form import JSON_VERSION, to_json
from npuvm.hw.explain.rules import RULES, Rule
from npuvm.hw.explain.shares import PathShare, instruction_shares, path_shares
from npuvm.hw.explain.trace_path import PATH_KINDS, PathStep, critical_path

__all__ = [
    "JSON_VERSION",
    "KINDS",
    "PATH_KINDS",
    "RULES",
    "Advice",
    "Cause",
    "LaunchBreakdown",
    "PathShare",
    "PathStep",
    "Rule",
    "UnitBreakdown",
    "advise",
    "break_down",
    "critical_path",
    "instruction_shares",
    "path_shares",
    "sum_breakdowns",
    "to_json",
]
