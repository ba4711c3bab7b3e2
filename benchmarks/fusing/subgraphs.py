"""All subgraphs, by name."""

from __future__ import annotations

from benchmarks.fusing import elementwise, images, norms, products, viewed
from benchmarks.fusing.case import Case

__all__ = ["CASES"]

CASES: dict[str, Case] = {
    case.name: case for module in (elementwise, norms, products, viewed, images) for case in module.CASES
}
