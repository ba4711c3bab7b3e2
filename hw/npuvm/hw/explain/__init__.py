"""Explained cycles: where every cycle of a launch went, what bounds it, and what would help. docs/reference/explain.md."""

from __future__ import annotations

from npuvm.hw.explain.advice import Advice, advise
from npuvm.hw.explain.breakdown import LaunchBreakdown, UnitBreakdown, break_down, sum_breakdowns
from npuvm.hw.explain.causes import KINDS, Cause
from npuvm.hw.explain.json_form import JSON_VERSION, to_json
from npuvm.hw.explain.rules import RULES, Rule

__all__ = [
    "JSON_VERSION",
    "KINDS",
    "RULES",
    "Advice",
    "Cause",
    "LaunchBreakdown",
    "Rule",
    "UnitBreakdown",
    "advise",
    "break_down",
    "sum_breakdowns",
    "to_json",
]
