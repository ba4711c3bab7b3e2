"""What a search found: fronts, tables, reports, chosen points, and why two points differ."""

from __future__ import annotations

from npuvm.explore.results.entry import Entry

__all__ = ["Entry"]
