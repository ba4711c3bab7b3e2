"""All subgraphs, by name."""

from __future__ import annotations

from benchmarks.fusing import elementwise, norms, products, viewed
from benchmarks.fusing.case import Case

__all__ = ["CASES"]

CASES: dict[str, Case] = {case.name: case for module in (elementwise, norms, products, viewed) for case in module.CASES}
