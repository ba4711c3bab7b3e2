"""What is asked before there are chunks of a reduce, and what is not."""

from __future__ import annotations

from typing import Any

import pytest
from tests.compiler.graphs import CASTS
from tests.compiler.reduce.test_reduce_split import reduction
from tests.compiler.vector_run import the_chip, the_isa

from npuvm.compiler.plan.plan import make_plan
from npuvm.compiler.plan.segments import VectorSegment
from npuvm.compiler.reduce.choice import ChunkChooser
from npuvm.compiler.reduce.launches import ReduceFamily
from npuvm.compiler.vector.family import VectorFamily
from npuvm.compiler.vector.way import Maker, Way


def test_no_tiles_are_made_for_chunks_that_no_width_would_give(monkeypatch: pytest.MonkeyPatch) -> None:
    """Means over a middle axis that leave no work for two chunks each, nor would with less in UB beside their tiles."""
    plan, names = make_plan(reduction("mean", 3, 1, "fp32").graph, CASTS, whole_rows=False), ("A", "B", "C")
    segment = plan.segments[0]
    assert isinstance(segment, VectorSegment)
    made: list[object] = []
    way = Maker.way

    def counted(self: Maker, *asked: Any) -> Way:
        made.append(asked)
        return way(self, *asked)

    monkeypatch.setattr(Maker, "way", counted)
    for is_known in (True, False):
        family = ReduceFamily.of(segment, VectorFamily(segment, names, the_chip("ascend_910b1"), the_isa()), names)
        assert family is not None
        family.prepare()
        if not is_known:
            monkeypatch.setattr(ChunkChooser, "never", lambda self, *asked: False)
        # The first shape of all has some tiles made that others need too.
        assert family.planned((2, 4096, 512)) is not None
        made.clear()
        for sizes in ((45, 205, 3248), (32, 11, 3290)):
            assert family.planned(sizes) is None
        assert bool(made) != is_known
