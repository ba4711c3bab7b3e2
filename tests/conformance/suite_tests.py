"""The tests that every target passes: a subclass names the target, and nothing else differs."""

from __future__ import annotations

from typing import ClassVar

import pytest

from npuvm.isa import load_isa
from npuvm.isa.conformance import Level, LevelReport, Report, SuiteOptions, Target, available_targets, run_suite

__all__ = ["ConformanceTests"]


@pytest.mark.conformance
class ConformanceTests:
    """Run the suite once on `target`; `levels` are those that it must be able to run, besides lint."""

    target: ClassVar[str]
    levels: ClassVar[frozenset[Level]]
    words: ClassVar[int] = 4000

    @pytest.fixture(scope="class")
    @classmethod
    def made(cls) -> Target:
        made: Target = available_targets()[cls.target].load()()
        missing = made.unavailable()
        if missing is not None:
            pytest.skip(f"{cls.target}: {missing}")
        return made

    @pytest.fixture(scope="class")
    @classmethod
    def report(cls, made: Target) -> Report:
        return run_suite(load_isa(), made, SuiteOptions(words=cls.words))

    def test_it_runs_its_levels(self, made: Target, report: Report) -> None:
        assert made.name == self.target
        assert made.levels() == self.levels
        assert {level.level for level in report.levels if level.skipped is None} == self.levels | {Level.LINT}
        assert [level.level for level in report.levels if level.skipped is None and not level.cases] == []

    @pytest.mark.parametrize("level", list(Level), ids=lambda level: level.value)
    def test_no_case_fails(self, report: Report, level: Level) -> None:
        assert [str(failure) for failure in report.level(level).failures[:20]] == []

    @pytest.mark.parametrize("level", list(Level), ids=lambda level: level.value)
    def test_every_bin_is_covered_and_listed(self, report: Report, level: Level) -> None:
        found: LevelReport = report.level(level)
        assert found.uncovered == {}
        assert found.unlisted == set()
