"""What a search found: fronts, tables, reports, chosen points, and why two points differ."""

from __future__ import annotations

from npuvm.explore.results.codes import by_code
from npuvm.explore.results.comparing import compare
from npuvm.explore.results.comparison import Comparison
from npuvm.explore.results.comparison_view import comparison_tables
from npuvm.explore.results.entry import Entry
from npuvm.explore.results.front import front_entries
from npuvm.explore.results.picking import Picked, pick
from npuvm.explore.results.report import check_packages, report_files, report_lines
from npuvm.explore.results.sensitivity import Sensitivity, sensitivities
from npuvm.explore.results.tables import front_table

__all__ = [
    "Comparison",
    "Entry",
    "Picked",
    "Sensitivity",
    "by_code",
    "check_packages",
    "compare",
    "comparison_tables",
    "front_entries",
    "front_table",
    "pick",
    "report_files",
    "report_lines",
    "sensitivities",
]
