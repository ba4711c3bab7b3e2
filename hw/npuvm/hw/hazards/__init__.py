"""The hazard checker: which accesses of the same data no synchronisation orders. docs/reference/hazards.md says what counts."""

from __future__ import annotations

from npuvm.hw.hazards.checker import HazardChecker
from npuvm.hw.hazards.report import Hazard, HazardError, HazardKind, Party

__all__ = ["Hazard", "HazardChecker", "HazardError", "HazardKind", "Party"]
