from __future__ import annotations

from tests.conformance.suite_tests import ConformanceTests

from npuvm.isa.conformance import Level

DECODING = frozenset({Level.GOLDEN, Level.ENCODING, Level.CLASSES})


class TestRtl(ConformanceTests):
    target = "rtl"
    levels = DECODING
    words = 1000
