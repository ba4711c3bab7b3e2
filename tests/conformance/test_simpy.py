from __future__ import annotations

from tests.conformance.suite_tests import ConformanceTests

from npuvm.isa.conformance import Level


class TestSimpy(ConformanceTests):
    target = "simpy"
    levels = frozenset(Level) - {Level.LINT}
