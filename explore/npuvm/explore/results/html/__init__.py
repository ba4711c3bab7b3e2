"""What a search found as one HTML page that needs nothing else."""

from __future__ import annotations

from npuvm.explore.results.html.page import render_space

__all__ = ["render_space"]
