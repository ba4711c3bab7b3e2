"""The hazard checker: which accesses of the same data no synchronisation orders. docs/reference/hazards.md says what counts."""

from __future__ import annotations

from npuvm.hw.hazards.checker import HazardChecker
from npuvm.hw.hazards.report import MOST_REPORTED, Hazard, HazardError, HazardKind, Party

__all__ = ["MOST_REPORTED", "Hazard", "HazardChecker", "HazardError", "HazardKind", "Party"]
