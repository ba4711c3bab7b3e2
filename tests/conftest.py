"""Settings for all tests: no time limits in hypothesis, and no silent skip where everything must run."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

settings.register_profile("npuvm", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("npuvm")

_skipped: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        _skipped.append(report.nodeid)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped:
        _skipped.append(report.nodeid)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI every tool is there, so a skipped test is a test that was lost."""
    if os.environ.get("CI") and _skipped and session.exitstatus == pytest.ExitCode.OK:
        print("\nskipped although CI is set:", *_skipped, sep="\n  ")  # noqa: T201 - told at the end of the run
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
