"""Settings for all tests: no time limits in hypothesis, which begin first, no silent skip where everything must run."""

from __future__ import annotations

import gc
import os

import pytest
from hypothesis import settings

settings.register_profile("npuvm", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("npuvm")

OPTIONAL = ("torch",)
"""Packages that CI does not install. A test that needs one is skipped with the reason "optional: NAME is not installed"."""

FIRST = ("tests/rtl/", "tests/system/")
"""Rooms that begin first: their modules take longest, and one that began last would run on alone."""

_skipped: list[str] = []
_left_out: list[str] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(FIRST))


def pytest_collection_finish() -> None:
    """Looking for garbage took a seventh of the processor's time: what is there now stays, and less is looked through."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        (_left_out if is_optional(report.longrepr) else _skipped).append(report.nodeid)


def is_optional(reason: object) -> bool:
    """Whether a skip, given as pytest reports it, is for an optional package."""
    text = str(reason[2]) if isinstance(reason, tuple) else ""
    return text in {f"Skipped: optional: {name} is not installed" for name in OPTIONAL}


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped:
        _skipped.append(report.nodeid)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI every tool is there, so a skipped test is a test that was lost; but for optional packages, which are told."""
    if os.environ.get("CI") and _left_out:
        print("\nskipped, optional packages are not installed:", *_left_out, sep="\n  ")  # noqa: T201 - as below
    if os.environ.get("CI") and _skipped and session.exitstatus == pytest.ExitCode.OK:
        print("\nskipped although CI is set:", *_skipped, sep="\n  ")  # noqa: T201 - told at the end of the run
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
